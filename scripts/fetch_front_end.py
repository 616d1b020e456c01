"""Fetch what the page needs to compute landmarks in the browser, into mmpt/page/static/vendor.

    python scripts/fetch_front_end.py

Takes @mediapipe/tasks-vision of a fixed version from npm (`npm pack`; its checksum is compared), and builds
holistic.task as scripts/fetch_holistic.py does. Both are left out of the repository: 13 and 16 MB. Does
nothing if they are there, of these versions and unchanged.
"""

import argparse
import base64
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path

from mmpt.cli import run_cli

from mmpt.extractors.holistic_bundle import (
    BUNDLE_SHA256,
    MODELS_VERSION,
    build_bundle,
    downloaded_models,
    installed_models,
)
from mmpt.page import VENDOR
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import read_json, sha256, write_text
from mmpt.utils.outputs import OutputKind, check_files, replace_output

PACKAGE, VERSION = "@mediapipe/tasks-vision", "1.1.0"
INTEGRITY = "ZJqh0wMKOINorfSffvDAxzyO1//c+FiG3IkzOdNDnLqvBB3DbMfj0bB/tys2SNf9S914sgoIbIpF4HTOi336cg=="
"""Base64 of the SHA-512 of the package's archive, as npm publishes it."""
FILES = {
    "package/vision_bundle.mjs": "vision_bundle.mjs",
    "package/wasm/vision_wasm_internal.js": "vision_wasm_internal.js",
    "package/wasm/vision_wasm_internal.wasm": "vision_wasm_internal.wasm",
}
FRONT_END = OutputKind(
    "the browser's part of MediaPipe",
    "signclip-front-end",
    "files.json",
    (*FILES.values(), "holistic.task", "LICENSE.txt"),
)
ORIGIN = """MediaPipe is Copyright The MediaPipe Authors, under the Apache License, Version 2.0 (below).

{package} {version}, from npm, without changes. holistic.task: models of the Python package
mediapipe {models}, with metadata added, 30 constant outputs in the face model, and operators that refine the
landmarks in the body model.

"""


def main() -> None:
    """Fetch what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=VENDOR, help="folder to write (default: %(default)s)")
    out = parser.parse_args().out
    of = {"package": f"{PACKAGE} {VERSION}", "models": MODELS_VERSION, "bundle": BUNDLE_SHA256}
    if not is_current(out, of):
        with replace_output(out, FRONT_END, of, force=True) as fresh:
            fetch_package(fresh)
            (fresh / "holistic.task").write_bytes(build_bundle(installed_models() or downloaded_models()))
            installed = distribution("mediapipe")
            license_text = installed.read_text("LICENSE") or installed.read_text("licenses/LICENSE") or ""
            origin = ORIGIN.format(package=PACKAGE, version=VERSION, models=MODELS_VERSION)
            write_text(fresh / "LICENSE.txt", origin + license_text)
    for path in sorted(filter(Path.is_file, out.iterdir())):
        print(f"{sha256(path)[:16]}  {path.stat().st_size:>9}  {path}")


def is_current(out: Path, of: Mapping[str, str]) -> bool:
    """Whether `out` holds files of these versions, as they were written."""
    try:
        check_files(out, FRONT_END)
        return read_json(out / FRONT_END.record)["of"] == of
    except (OSError, ValueError, KeyError):
        return False


def fetch_package(out: Path) -> None:
    """Write FILES into `out`. Raises UserError if npm fails or sends another archive."""
    npm = shutil.which("npm")
    if npm is None:
        raise MissingDataError("npm is not installed: it is needed to fetch the browser's part of MediaPipe.")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", "--silent", f"{PACKAGE}@{VERSION}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            raise UserError(f"npm could not fetch {PACKAGE}@{VERSION}: {done.stderr.strip()[-300:]}")
        write_package(archives[0].read_bytes(), out)


def write_package(archive: bytes, out: Path, integrity: str = INTEGRITY) -> None:
    """Check the archive, and write FILES into `out`."""
    found = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if found != integrity:
        raise UserError(f"{PACKAGE}@{VERSION}: its archive has the SHA-512 {found}, expected {integrity}.")
    out.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        for member, name in FILES.items():
            file = members.extractfile(member)
            assert file is not None, member
            (out / name).write_bytes(file.read())


if __name__ == "__main__":
    sys.exit(run_cli(main))

#!/usr/bin/env python
"""Install fairseq on Python 3.13, for which it has no wheel.

    python scripts/install_fairseq.py

Takes the wheel of ve-fairseq for Python 3.12 (by pip download), leaves its compiled files out, and installs
the rest with pip. Training here imports none of the compiled files: they are for translation. Python 3.11 and
3.12 need no such step: `pip install --no-deps -r requirements-nodeps.txt`.
"""

import argparse
import base64
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from mmpt.cli import run_cli

from mmpt.utils.errors import UserError
from mmpt.utils.files import check_regular
from mmpt.utils.wheels import download_wheel

WHEEL = "ve_fairseq-0.12.3-cp312-cp312-manylinux_2_28_x86_64.whl"
WHEEL_SHA256 = "9ba18767af12978b4700ac7d9914e6abfe365a50ce17faa6a79e8f07f4129be5"


def main(argv: list[str] | None = None) -> int:
    """Parse and install."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--wheel", type=Path, help=f"a downloaded {WHEEL}")
    return run_cli(run, parser.parse_args(argv))


def run(args: argparse.Namespace) -> None:
    """Download, rewrite, install."""
    with tempfile.TemporaryDirectory() as name:
        wheel = args.wheel or download_wheel(Path(name), WHEEL, WHEEL_SHA256)
        made = without_compiled_files(wheel, Path(name))
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--ignore-requires-python"]
        if subprocess.run([*pip, str(made)]).returncode:
            raise UserError(f"pip could not install {made.name}; its messages are above.")
    print(f"installed {made.name}: signclip train")


def without_compiled_files(wheel: Path, folder: Path) -> Path:
    """Write the wheel for every Python, into `folder`. Raises UserError if it is no wheel."""
    check_regular(wheel)
    made = folder / f"{'-'.join(wheel.name.split('-')[:2])}-py3-none-any.whl"
    try:
        with zipfile.ZipFile(wheel) as source:
            record = next(name for name in source.namelist() if name.endswith(".dist-info/RECORD"))
            kept = [name for name in source.namelist() if name != record and not name.endswith((".so", "/"))]
            files = {name: source.read(name) for name in kept}
    except (OSError, StopIteration, zipfile.BadZipFile) as error:
        raise UserError(f"{wheel} cannot be read: expected {WHEEL}.") from error
    tags = record.replace("RECORD", "WHEEL")
    lines = [line for line in files[tags].decode().splitlines() if not line.startswith(("Tag:", "Root-Is-"))]
    files[tags] = "\n".join([*filter(None, lines), "Root-Is-Purelib: true", "Tag: py3-none-any", ""]).encode()
    hashes = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in files.items()]
    files[record] = "\n".join([*hashes, f"{record},,", ""]).encode()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    sys.exit(main())

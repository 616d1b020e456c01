"""Which Python the Makefile takes."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT


def fake_python(path: Path, version: str, fits: bool = True) -> Path:
    """A program that answers --version, and to the script's question."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && {{ echo Python {version}; exit 0; }}\nexit {int(not fits)}\n'
    )
    path.chmod(0o755)
    return path


def find_python(folder: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    command = ["/bin/sh", str(ROOT / "scripts" / "find_python.sh")]
    path = f"{folder}:/usr/bin:/bin" if env else str(folder)
    return subprocess.run(command, env={"PATH": path, **env}, capture_output=True, text=True)


def test_find_python_takes_the_first_that_fits(tmp_path: Path) -> None:
    fake_python(tmp_path / "python3", "3.14.0", fits=False)
    fake_python(tmp_path / "python3.13", "3.13.0")
    assert find_python(tmp_path).stdout == "python3.13\n"
    fake_python(tmp_path / "python3.12", "3.12.0")
    assert find_python(tmp_path).stdout == "python3.12\n"


def test_find_python_takes_no_other_than_the_named_one(tmp_path: Path) -> None:
    fake_python(tmp_path / "python3.12", "3.12.0")
    old = fake_python(tmp_path / "my folder" / "python3.9", "3.9.1", fits=False)
    done = find_python(tmp_path, PYTHON=str(old))
    assert (done.returncode, done.stdout) == (1, "")
    assert "No Python 3.11 to 3.13 found" in done.stderr and "Python 3.9.1" in done.stderr
    good = fake_python(tmp_path / "my folder" / "python3", "3.13.1")
    assert find_python(tmp_path, PYTHON=str(good)).stdout == f"{good}\n"


@pytest.mark.parametrize("version, status", [("3.11.9", 0), ("3.13.0", 2)])
def test_make_stops_if_the_environment_has_another_python(tmp_path: Path, version: str, status: int) -> None:
    fake_python(tmp_path / "venv" / "bin" / "python", "3.11.9")
    (tmp_path / "venv" / ".made").touch()
    asked = fake_python(tmp_path / "python", version)
    command = ["make", f"PYTHON={asked}", f"VENV={tmp_path / 'venv'}", "right-python"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == status
    assert ("has Python 3.11.9, not that of PYTHON=" in done.stderr) == bool(status)

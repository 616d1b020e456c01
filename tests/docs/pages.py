"""Code blocks of Markdown pages, and how a test runs their commands."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests import commands
from tests.conftest import ENVIRONMENT


def blocks(text: str, language: str = r"\w+") -> list[tuple[str, str]]:
    """(language, content) of the fenced code blocks that name a language, in order."""
    return re.findall(rf"^```({language})\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def run_lines(script: str, folder: Path, project: Path | None = None) -> str:
    """run_script for a block of `signclip ...` and `python ...` only, in a process that is forked (quick).

    project: use the code of this copy of the project.
    """
    lines = script.replace("\\\n", " ").splitlines()
    done = commands.run_lines(lines, folder, project)
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_script(script: str, folder: Path, timeout: float = 1200) -> str:
    """Run a bash block in `folder` and return its stdout.

    `python` is the one that runs the tests, and `signclip` is `python -m mmpt`.
    """
    (folder / "bin").mkdir(exist_ok=True)
    for name, words in (("python", ""), ("signclip", "-m mmpt ")):
        command = folder / "bin" / name
        if not command.exists():
            command.write_text(f'#!/bin/sh\nexec {sys.executable} {words}"$@"\n')
            command.chmod(0o755)
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    environment = {**ENVIRONMENT, **os.environ, "PATH": path}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        ["bash", "-ec", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout

"""The examples of CONTRIBUTING.md, applied literally to a copy of the project and run."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docs.pages import blocks, run_lines, run_script

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
TRAINED = ("A new loss", "A new corpus", "A new pose feature")
COPIED = ("configs", "mmpt", "projects", "scripts", "tests", "docs", "README.md", "pyproject.toml")


@pytest.fixture
def project(tmp_path: Path, pose_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, in which the examples write their files and runs."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.pyc.*", "vendor"))
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.setenv("SIGNCLIP_CACHE", str(pose_cache))
    for name in ("SIGNCLIP_DATA", "SIGNCLIP_RUNS", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def patch(project: Path, diff: str) -> set[str]:
    """Apply a diff without line numbers: unchanged and removed lines must be found exactly once."""
    changed: set[str] = set()
    for name, body in re.findall(r"^--- (\S+)\n((?:[ +-].*\n)+?)(?=--- |\Z)", diff, re.MULTILINE):
        text = (project / name).read_text(encoding="utf-8")
        for hunk in hunks(body.splitlines()):
            old = "".join(f"{line[1:]}\n" for line in hunk if line[0] != "+")
            new = "".join(f"{line[1:]}\n" for line in hunk if line[0] != "-")
            assert text.count(old) == 1, f"{name}: {text.count(old)} times in the file:\n{old}"
            text = text.replace(old, new)
        (project / name).write_text(text, encoding="utf-8")
        changed.add(name)
    assert changed, diff
    return changed


def hunks(lines: list[str]) -> list[list[str]]:
    """Split the lines of a diff into one hunk for each unchanged or removed line."""
    found: list[list[str]] = []
    before: list[str] = []  # added lines in front of the first line that is in the file
    for line in lines:
        if line[0] == "+" and found:
            found[-1].append(line)
        elif line[0] == "+":
            before.append(line)
        else:
            found.append([*before, line])
            before = []
    return found


def apply(project: Path, section: str) -> tuple[set[str], list[str]]:
    """Write and change the files of a section. Returns the Python files, and the commands to run."""
    changed: set[str] = set()
    scripts: list[str] = []
    for language, content in blocks(section):
        if language == "bash":
            scripts.append(content)
        elif language == "diff":
            changed |= patch(project, content)
        else:
            named = re.match(r"(?:#!.*\n)?# (\S+)\n", content)
            assert named, f"the block does not start with a path:\n{content}"
            path = project / named[1]
            assert not path.exists(), f"{named[1]} exists"
            path.write_text(content.replace(f"# {named[1]}\n", "", 1), encoding="utf-8")
            changed.add(named[1])
    return {name for name in changed if name.endswith(".py")}, scripts


def test_contributing_examples_apply_to_the_code(project: Path) -> None:
    """All files in the tables exist, the code passes ruff, and everything runs except training."""
    files: set[str] = set()
    lines: list[str] = []
    names = [name for name in SECTIONS if name.startswith("A new ")]
    assert len(names) == 5
    for name in names:
        changed, scripts = apply(project, SECTIONS[name])
        files |= changed
        lines += "\n".join(scripts).splitlines()
        for named in re.findall(r"^\| `([\w/.]+)` \|", SECTIONS[name], re.MULTILINE):
            assert (project / named).is_file(), named
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", *sorted(files)]
        done = subprocess.run(ruff, cwd=project, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    pytest_line = "python -m pytest "
    tests = [line.removeprefix(pytest_line) for line in lines if line.startswith(pytest_line)]
    assert len(tests) == 6
    rest = [line for line in lines if not line.startswith((pytest_line, "signclip train"))]
    commands = [line for line in rest if line.startswith(("python ", "signclip "))]
    assert len(commands) > 3
    run_script("\n".join(line for line in rest if line not in commands), project)  # writes files
    in_one = [f"{pytest_line} -p no:cacheprovider {' '.join(tests)}", *commands]
    run_lines("\n".join(in_one), project, project)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_contributing_examples_train(project: Path, name: str) -> None:
    """The new loss, corpus and pose feature train for two updates, by the page's commands."""
    _, scripts = apply(project, SECTIONS[name])
    for script in scripts:
        run_script(script, project)
    assert list(project.glob("runs/*/checkpoint_last.pt"))

"""The commands of docs/spotting.md, with fewer recordings and a model that is not trained."""

import glob
import json
import shlex
from pathlib import Path

import pytest

from mmpt.cli.main import main as signclip
from mmpt.spotting import Thresholds, metrics
from mmpt.timed_text import read_captions
from scripts.join_letters import main as join_letters
from tests.conftest import ROOT
from tests.docs.pages import blocks
from tests.letters import save_letter_model

PAGE = (ROOT / "docs" / "spotting.md").read_text(encoding="utf-8")
FEWER = {"--recordings 4": "--recordings 1", "--recordings 6": "--recordings 1", "--step 0.16": "--step 0.5"}


def _run(line: str) -> None:
    """Run a line of the page in this process."""
    for many, few in FEWER.items():
        line = line.replace(many, few)
    if line.startswith("printf"):
        letters, _, target = line.removeprefix("printf '%s\\n' ").partition(" > ")
        Path(target).write_text("".join(f"{letter}\n" for letter in letters.split()))
        return
    words = [name for word in shlex.split(line) for name in (sorted(glob.glob(word)) or [word])]
    if words[0] == "python":
        assert Path(words[1]).name == "join_letters.py" and (ROOT / words[1]).is_file()
        assert join_letters(words[2:]) == 0
    else:
        assert words[0] == "signclip" and signclip(words[1:]) == 0


@pytest.fixture
def folder(tmp_path, data_dir, monkeypatch):
    """A folder with a model, in which the page's commands run; few texts are exchanged for chance."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(metrics, "_CHANCE_RUNS", 1)
    return save_letter_model(tmp_path / "runs/fslex_demo/model", data_dir).parents[2]


def _commands(first: int, last: int) -> list[str]:
    """The lines of some bash blocks of the page."""
    content = "".join(content for _, content in blocks(PAGE, "bash")[first:last])
    return content.replace("\\\n", " ").splitlines()


def _python(capsys) -> list[str]:
    """What the page's Python block prints."""
    capsys.readouterr()
    (_, python), *_ = blocks(PAGE, "python")
    exec(python.replace("0.16", "0.5"), {})
    return capsys.readouterr().out.splitlines()


def test_page_of_spotting_recordings_and_python(folder, capsys):
    for line in _commands(0, 1):
        _run(line)
    (folder / "runs/spotted_valid").mkdir()
    Thresholds(-1.0).write(folder / "runs/spotted_valid/thresholds.json")
    assert len(_python(capsys)) > 5


@pytest.mark.slow
def test_page_of_spotting(folder, capsys):
    for line in _commands(0, 3):
        _run(line)
    assert json.loads(Path("runs/spotted_valid/thresholds.json").read_text())["chosen"]["recordings"]
    report = json.loads(Path("runs/spotted_test/spotting.json").read_text())
    assert {"IoU 0.5", "within 1 s"} <= set(report["metrics"])
    assert Path("runs/spotted_test/gsg_001.png").is_file()
    found = read_captions("runs/spotted_test/gsg_001.csv")
    lines = _python(capsys)
    assert len(lines) == len(found)
    for line, one in zip(lines, found):
        assert line.startswith(f"{one.start_ms / 1000:.2f} to {one.end_ms / 1000:.2f} s: {one.text},")

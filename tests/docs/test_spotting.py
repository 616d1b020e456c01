"""The commands of docs/spotting.md, with fewer recordings and a model that is not trained."""

import glob
import json
import shlex
from pathlib import Path

from mmpt.cli.main import main as signclip
from mmpt.spotting import metrics
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


def test_page_of_spotting(tmp_path, data_dir, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(metrics, "_CHANCE_RUNS", 1)
    save_letter_model(tmp_path / "runs/fslex_demo/model", data_dir)
    commands = "".join(content for _, content in blocks(PAGE, "bash")[:3]).replace("\\\n", " ")
    for line in commands.splitlines():
        _run(line)
    assert json.loads(Path("runs/spotted_valid/thresholds.json").read_text())["chosen"]["recordings"]
    report = json.loads(Path("runs/spotted_test/spotting.json").read_text())
    assert {"IoU 0.5", "within 1 s"} <= set(report["metrics"])
    assert Path("runs/spotted_test/gsg_001.png").is_file()
    found = read_captions("runs/spotted_test/gsg_001.csv")
    capsys.readouterr()
    (_, python), *_ = blocks(PAGE, "python")
    exec(python.replace("0.16", "0.5"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(found)
    for line, one in zip(lines, found):
        assert line.startswith(f"{one.start_ms / 1000:.2f} to {one.end_ms / 1000:.2f} s: {one.text},")

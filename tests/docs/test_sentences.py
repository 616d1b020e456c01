"""The commands of docs/sentences.md, extracted from the page and run."""

import json
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docs import pages
from tests.docs.pages import run_script

TEXT = (ROOT / "docs" / "sentences.md").read_text(encoding="utf-8")
BLOCKS = [content for _, content in pages.blocks(TEXT, "bash")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with links to the project, into which the commands write data and runs."""
    for name in ("configs", "mmpt", "projects", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setenv("SIGNCLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.slow
def test_sentences_data_and_table(folder):
    """The first half of the page: recordings, subtitles, table."""
    run_script(BLOCKS[0], folder)
    printed = run_script(BLOCKS[1], folder)
    assert printed in TEXT, "the page shows what the command prints"


@pytest.mark.slow
def test_sentences_whole_page(folder):
    """All commands run, with results above chance."""
    for block in BLOCKS:
        run_script(block, folder)
    results = json.loads((folder / "runs/words/eval/results.json").read_text())
    assert results["protocol"] == "sentences" and results["n_videos"] == 20
    assert results["t2v"]["R@1"] > 0.5 and results["v2t"]["R@1"] > 0.5

"""The commands of docs/your_data.md, extracted from the page and run."""

import json
import time
from pathlib import Path

import pytest

from mmpt.config import load_config
from tests.conftest import ROOT
from tests.docs import pages
from tests.docs.pages import run_lines, run_script

PAGE = ROOT / "docs" / "your_data.md"
LINKED = ("configs", "demo_finger.py", "locallaunch.py", "mmpt", "projects", "scripts")


def blocks(language: str) -> list[str]:
    """The page's code blocks in a language, in order."""
    return [content for _, content in pages.blocks(PAGE.read_text(encoding="utf-8"), language)]


@pytest.fixture
def folder(tmp_path: Path, pose_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with links to the project, into which the commands write data and runs."""
    for name in LINKED:
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIGNCLIP_CACHE", str(pose_cache))
    return tmp_path


def test_your_data_table_check_and_dryrun(folder):
    """The fast half of the page: table, check and YAML, without training."""
    export, check, train = blocks("bash")[:3]
    write, _, commands = train.partition("EOF\nsignclip")
    run_script(f"{write}EOF\n", folder)
    launch = f"signclip{commands}".splitlines()[0]
    said = run_lines(f"{export}{check}{launch} --dryrun", folder)
    assert "0 errors, 1 warning" in said and "my_signs.yaml" in said
    shown = (folder / "data/lexicon/table.csv").read_text().splitlines()[:3]
    assert "\n".join(shown) in PAGE.read_text(encoding="utf-8"), "the page shows the table's first rows"
    assert load_config(folder / "my_signs.yaml").dataset.meta_processor == "TableMetaProcessor"


@pytest.mark.slow
def test_your_data_whole_page(folder):
    """All commands run in under 15 minutes, with results far above chance."""
    started = time.monotonic()
    for block in blocks("bash"):
        run_script(block, folder)
    assert time.monotonic() - started < 15 * 60
    found = json.loads((folder / "runs/my_signs/protocols/protocols.json").read_text())
    right = {(o["protocol"], o["setting"]): o["metrics"].get("R@1") for o in found["outcomes"]}
    assert {name for name, _ in right} == {"zero_shot", "v2v", "knn", "prototypes", "linear_probe"}
    assert right["zero_shot", "v2t"] > 0.5 and right["v2v", "1-NN"] > 0.5
    for block in blocks("python"):
        run_script(f"python - <<'END'\n{block}END\n", folder)

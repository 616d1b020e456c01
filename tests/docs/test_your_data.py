"""docs/your_data.md, followed word for word: its commands are taken out of the page and run."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from mmpt.config import load_config
from tests.conftest import ENVIRONMENT, ROOT

PAGE = ROOT / "docs" / "your_data.md"
LINKED = ("configs", "demo_finger.py", "locallaunch.py", "mmpt", "projects", "scripts")


def blocks(language: str) -> list[str]:
    """The page's blocks of code, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M)


@pytest.fixture
def folder(tmp_path: Path, pose_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's folder, into which the commands write their own data and runs."""
    for name in LINKED:
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIGNCLIP_CACHE", str(pose_cache))
    return tmp_path


def run(script: str, folder: Path, timeout: float = 1200) -> str:
    """Run a block of the page; `python` is the one that runs the tests."""
    (folder / "bin").mkdir(exist_ok=True)
    python = folder / "bin" / "python"
    if not python.exists():
        import sys

        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
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


def test_the_table_and_the_config_of_the_page(folder):
    """The quick half: data, check and YAML; training is only planned."""
    export, check, train = blocks("bash")[:3]
    run(export, folder)
    shown = (folder / "data/lexicon/table.csv").read_text().splitlines()[:3]
    assert "\n".join(shown) in PAGE.read_text(encoding="utf-8"), "the page shows the table's first rows"
    assert "0 errors, 0 warnings" in run(check, folder)
    write, _, commands = train.partition("EOF\npython")
    run(f"{write}EOF\n", folder)
    config = load_config(folder / "my_signs.yaml")
    assert config.dataset.meta_processor == "TableMetaProcessor"
    launch = f"python{commands}".splitlines()[0]
    assert "my_signs.yaml" in run(f"{launch} --dryrun", folder)


@pytest.mark.slow
def test_the_page_word_for_word(folder):
    """Everything, in under 15 minutes, with results that are no accident."""
    started = time.monotonic()
    for block in blocks("bash"):
        run(block, folder)
    assert time.monotonic() - started < 15 * 60
    found = json.loads((folder / "runs/my_signs/eval/protocols.json").read_text())
    right = {(o["protocol"], o["setting"]): o["metrics"].get("R@1") for o in found["outcomes"]}
    assert {name for name, _ in right} == {"zero_shot", "v2v", "knn", "prototypes", "linear_probe"}
    assert right["zero_shot", "v2t"] > 0.5 and right["v2v", "1-NN"] > 0.5
    for block in blocks("python"):
        run(f"python - <<'END'\n{block}END\n", folder)

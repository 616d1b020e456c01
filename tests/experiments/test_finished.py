"""`signclip experiment compare`: paired differences of finished evaluations, clip by clip."""

import json
from pathlib import Path

import numpy as np
import pytest

from mmpt.cli.main import main
from mmpt.experiments.finished import Finished, compare_finished

PROMPTS = ["A", "B", "C"]


def evaluation(folder: Path, nearest: list[int], clips: list[str], truth: list[int]) -> Path:
    inner = folder / "eval"
    inner.mkdir(parents=True)
    right = float(np.mean(np.equal(nearest, truth)))
    results = {"n_videos": len(clips), "n_prompts": 3, "similarity": "cosine", "chance": {"v2t R@1": 1 / 3}}
    results |= {"t2v": {"P@1": 0.5}, "v2t": {"R@1": right}}
    ids = {"prompts": PROMPTS, "videos": clips, "prompt_of_video": truth, "nearest_prompt": nearest}
    (inner / "results.json").write_text(json.dumps(results))
    (inner / "ids.json").write_text(json.dumps(ids))
    return folder


CLIPS, TRUTH = [f"c{i}" for i in range(6)], [0, 1, 2, 0, 1, 2]


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    first = evaluation(tmp_path / "first", [0, 1, 2, 1, 2, 0], CLIPS, TRUTH)  # c0 c1 c2 right
    # the same clips in another order: c0 wrong, c3 and c4 right as well
    nearest = {"c0": 1, "c1": 1, "c2": 2, "c3": 0, "c4": 1, "c5": 0}
    order = CLIPS[::-1]
    second = evaluation(
        tmp_path / "second", [nearest[c] for c in order], order, [TRUTH[int(c[1])] for c in order]
    )
    return [first, second]


def test_compare_pairs_clips_by_id(runs: list[Path]) -> None:
    first, second = compare_finished([Finished.read(folder) for folder in runs])
    assert first["v2t R@1"] == pytest.approx(3 / 6) and second["v2t R@1"] == pytest.approx(4 / 6)
    assert second["now right"] == ["c3", "c4"] and second["now wrong"] == ["c0"]
    assert second["difference"] == pytest.approx(1 / 6)
    assert second["difference low"] < 1 / 6 < second["difference high"]
    assert first["difference low"] == first["difference high"] == 0


def test_compare_command_prints_and_writes(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "compare.md"
    assert main(["experiment", "compare", *map(str, runs), "--clips", "2", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "+0.167" in shown and "| newly right | newly wrong |" in shown
    assert "| c0 | A | A | B |" in shown and "and 1 more clips" in shown
    assert "| c3 | A | B | A |" in out.read_text()
    assert main(["experiment", "compare", *map(str, runs), "--out", str(tmp_path / "c.json")]) == 0
    assert json.loads((tmp_path / "c.json").read_text())[1]["now wrong"] == ["c0"]


def test_compare_refuses_other_clips_and_missing_runs(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = evaluation(tmp_path / "other", [0, 1], ["c0", "x"], [0, 1])
    relabelled = evaluation(tmp_path / "relabelled", TRUTH, CLIPS, [1, 1, 2, 0, 1, 2])
    for words, message in (
        ([runs[0], other], "different splits (6 clips differ)"),
        ([runs[0], relabelled], "clips have other prompts"),
        ([runs[0]], "expected two or more"),
        ([runs[0], tmp_path / "nothing"], "evaluate the model first"),
        ([*runs, "--out", "x.txt"], "ends in .md or .json"),
    ):
        assert main(["experiment", "compare", *map(str, words)]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content"), [("a.md", "# Thesis"), ("a.json", "[1]"), ("a.json", "no JSON")]
)
def test_compare_replaces_only_its_own_files(
    runs: list[Path], tmp_path: Path, name: str, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / name
    command = ["experiment", "compare", *map(str, runs), "--out", str(out)]
    assert main(command) == 0 and main(command) == 0
    out.write_text(content)
    assert main(command) == 2
    assert "was not written by this command" in capsys.readouterr().err and out.read_text() == content

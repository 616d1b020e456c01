"""scripts/leave_one_out.py: the command line, and errors before training."""

import json
from pathlib import Path
from typing import Any

import pytest

from mmpt.cli.experiment import leave_one_out
from mmpt.experiments.runs import Run
from mmpt.utils.errors import UserError


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """The runs that would train; then the command ends."""
    runs: list[Run] = []

    def stop(asked: Any, *_: Any) -> None:
        runs.extend(asked)
        raise UserError("stopped here")

    monkeypatch.setattr("mmpt.experiments.runs.run_all", stop)
    return runs


def leave(tiny_yaml: Path, tmp_path: Path, *words: str) -> int:
    return leave_one_out.main(["--config", str(tiny_yaml), "--out", str(tmp_path / "out"), *words])


@pytest.mark.parametrize(
    "words",
    [
        ["--languages", "svk", "swl", "psr", "--folds", "svk,swl", "psr"],
        ["--folds", "svk,swl", "psr", "--languages", "svk", "swl", "psr"],
        ["--languages", "svk", "swl", "psr", "--folds", "svk,swl", "psr", "--seeds", "1"],
        ["--languages", "svk", "swl", "psr", "--folds", "svk,swl", "psr", "--svm-features", "tiny.yaml"],
    ],
)
def test_leave_one_out_overrides_after_any_list(
    tiny_yaml: Path, tmp_path: Path, started: list[Run], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where tiny.yaml is
    leave(tiny_yaml, tmp_path, *words, "loss.temperature=0.5")
    assert [run.name for run in started] == ["svk+swl/seed1", "psr/seed1"]
    assert all("loss.temperature=0.5" in run.arguments for run in started)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--seeds", "1", "1"], "--seeds 1 1: expected whole numbers, each once"),
        (["--seeds", "one"], "--seeds one: expected whole numbers"),
        (["--folds", "loss.temperature=0.5"], "folds: expected sign languages"),
        (["--folds", "svk", "xyz"], "no sign language 'xyz'"),
        (["--svm-features", "tiny.yaml", "other/tiny.yaml"], "configs with different names"),
    ],
)
def test_leave_one_out_errors_train_nothing(
    tiny_yaml: Path,
    tmp_path: Path,
    started: list[Run],
    words: list[str],
    error: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # where tiny.yaml is
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "tiny.yaml").write_text(tiny_yaml.read_text())
    assert leave(tiny_yaml, tmp_path, "--languages", "svk", "swl", "psr", *words) == 2
    assert error in capsys.readouterr().err and not started


def test_leave_one_out_overrides_apply_to_svm_features(
    tiny_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def stop(config: Any, folds: Any, others: dict[str, Any]) -> None:
        seen.update(others)
        raise UserError("stopped here")

    monkeypatch.setattr("mmpt.experiments.folds.check_folds", stop)
    leave(tiny_yaml, tmp_path, "--svm-features", str(tiny_yaml), "dataset.letters=[A, B]")
    assert seen["tiny"].dataset.letters == ["A", "B"]


@pytest.mark.slow
def test_leave_one_out_command(tiny_yaml: Path, tmp_path: Path) -> None:
    from tests.conftest import run_module

    command = ["scripts/leave_one_out.py", "--config", str(tiny_yaml), "--out", str(tmp_path / "loo")]
    command += ["--languages", "svk", "swl", "psr", "--folds", "svk", "swl,psr", "--jobs", "1"]
    command += ["fairseq.optimization.max_epoch=2", "--svm-features", str(tiny_yaml)]
    done = run_module(*command)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "loo" / "folds.json").read_text())
    assert [fold["held_out"] for fold in found] == [["svk"], ["swl", "psr"]]
    assert [fold["n"] for fold in found] == [6, 12]
    assert [fold["chance"] for fold in found] == [1 / 6, 1 / 6]
    assert all(fold["svm on other features"] == {"tiny": fold["svm"]} for fold in found)
    again = run_module(*command)
    assert "2 of 2 runs are already done" in again.stderr and again.stdout == done.stdout


def test_leave_one_out_of_several_configs(
    tiny_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each config has its own folder; a mistake in the last one is reported before the first is trained."""
    asked: list[Run] = []
    monkeypatch.setattr("mmpt.experiments.runs.run_all", lambda runs, *_: asked.extend(runs) or runs)
    monkeypatch.setattr("mmpt.experiments.folds.result_of", lambda *_: pytest.fail("nothing was trained"))
    other = tiny_yaml.with_name("other.yaml")
    other.write_text("includes: [tiny.yaml]\nloss: {temperature: 0.5}\n")
    words = ["--config", str(tiny_yaml), str(other), "--languages", "svk", "swl", "psr", "--folds", "psr"]
    assert leave_one_out.main([*words, "--out", str(tmp_path / "out")]) == 2  # no fold has results
    assert [run.folder for run in asked] == [tmp_path / "out" / "tiny" / "psr" / "seed1"]
    asked.clear()
    other.write_text("includes: [tiny.yaml]\nloss: {temperatur: 0.5}\n")
    capsys.readouterr()
    assert leave_one_out.main([*words, "--out", str(tmp_path / "new")]) == 2
    assert "temperatur" in capsys.readouterr().err and not asked
    same = tmp_path / "same" / "tiny.yaml"
    same.parent.mkdir()
    same.write_text(tiny_yaml.read_text())
    assert leave_one_out.main(["--config", str(tiny_yaml), str(same)]) == 2
    assert "expected configs with different names" in capsys.readouterr().err

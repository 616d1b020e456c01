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

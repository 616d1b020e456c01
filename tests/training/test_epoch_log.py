"""The log of epochs: lines, progress bar, metrics.jsonl, and loggers that are not installed."""

import json
import logging
from pathlib import Path

import pytest

from mmpt.config.run_folder import METRICS
from mmpt.training.epoch_log import EpochLog
from mmpt.training.run import prepare
from mmpt.utils.errors import UserError

VALUES = {"update": 8, "train_loss": 2.0, "valid_loss": 1.5, "valid_v2t_R@1": 0.25, "valid_t2v_P@1": 0.5}


def report(folder: Path, epochs: int, first: int = 1) -> None:
    log = EpochLog(folder, epochs)
    for epoch in range(first, epochs + 1):
        log.begin(epoch)
        log.end(epoch, VALUES, saved=epoch % 2 == 0)


def test_epoch_log_of_a_short_run_has_every_epoch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    report(tmp_path, 3)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(" | ")[0] for line in lines] == ["epoch 1", "epoch 2", "epoch 3"]
    assert "train loss 2.0000 | valid loss 1.5000 | valid V2T R@1 0.250 T2V P@1 0.500" in lines[0]
    assert [line.endswith("not saved") for line in lines] == [True, False, True]


def test_epoch_log_of_a_long_run_is_thinned_and_metrics_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    report(tmp_path, 60)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) <= 15 and str(tmp_path / METRICS) in lines[0]
    assert lines[1].startswith("epoch 1 ") and lines[-1].startswith("epoch 60 ")
    found = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [line["epoch"] for line in found] == list(range(1, 61))
    assert found[0] == {"epoch": 1, **VALUES, "seconds": found[0]["seconds"]}


def test_epoch_log_on_a_terminal_is_one_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    report(tmp_path, 4, first=3)
    shown = capsys.readouterr().err
    assert "4/4" in shown and "train loss 2.0000" in shown and "epoch 3 |" not in shown


def test_epoch_log_of_another_rank_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    report(tmp_path, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["wandb_project=signs", "aim_repo=x"])
def test_logger_that_is_not_installed_is_refused(tiny_yaml: Path, option: str) -> None:
    with pytest.raises(UserError, match=r"needs (wandb|aim), which is not installed: `pip install"):
        prepare(str(tiny_yaml), [f"fairseq.common.{option}"])


def test_metrics_of_a_killed_run_continue_on_a_line_of_their_own(tmp_path: Path) -> None:
    report(tmp_path, 1)
    with open(tmp_path / METRICS, "a") as file:
        file.write('{"epoch": 2, "upd')
    report(tmp_path, 2, first=2)
    lines = (tmp_path / METRICS).read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]

"""What surrounds fairseq's training loop."""

import logging
import sys

import pytest
import torch

from mmpt.fairseq_plugin import trainer
from mmpt.training.run import prepare
from mmpt.utils.progress import Bar


@pytest.mark.parametrize("wanted", ["highest", "high"])
def test_matmul_precision_is_that_of_the_config_during_the_training(monkeypatch, tiny_yaml, wanted):
    seen = []
    monkeypatch.setattr(trainer, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(
        trainer.distributed_utils, "call_main", lambda *_: seen.append(torch.get_float32_matmul_precision())
    )
    plan = prepare(str(tiny_yaml), [f"model.matmul_precision={wanted}"])
    assert trainer.train(plan, None) == 0
    assert seen == [wanted] and torch.get_float32_matmul_precision() == "highest"


def test_logs_of_the_training_are_written_above_its_bar(monkeypatch, tiny_yaml, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(trainer, "keep_freed_memory", lambda: None)
    root, mine = logging.getLogger(), logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(root, "handlers", [mine])

    def training(*_):
        with Bar(total=2) as bar:
            bar.update()
            logging.getLogger("mmpt.somewhere").warning("a line")

    monkeypatch.setattr(trainer.distributed_utils, "call_main", training)
    assert trainer.train(prepare(str(tiny_yaml)), None) == 0
    lines = capsys.readouterr().err.split("\n")
    assert any(line.rpartition("\r")[2].strip() == "a line" for line in lines), lines
    assert root.handlers == [mine]

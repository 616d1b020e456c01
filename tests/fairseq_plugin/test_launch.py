"""What surrounds fairseq's training loop."""

import pytest
import torch

from mmpt.fairseq_plugin import trainer
from mmpt.training.run import prepare


@pytest.mark.parametrize("wanted", ["highest", "high"])
def test_matmul_precision_is_that_of_the_config_during_the_training(monkeypatch, tiny_yaml, wanted):
    seen = []
    monkeypatch.setattr(trainer, "keep_freed_memory", lambda: None)
    monkeypatch.setattr(
        trainer.distributed_utils, "call_main", lambda *_: seen.append(torch.get_float32_matmul_precision())
    )
    plan = prepare(str(tiny_yaml), [f"model.matmul_precision={wanted}"])
    assert trainer.train(plan, None, verbose=True) == 0
    assert seen == [wanted] and torch.get_float32_matmul_precision() == "highest"

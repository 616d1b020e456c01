"""The benchmark of loss.cached_chunk: equal training, less memory."""

import argparse
from pathlib import Path

import pytest
import torch

from mmpt.losses import MMContraLoss
from mmpt.models import BertSettings

SETTINGS = BertSettings(
    vocab_size=20000, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
)


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))


def test_benchmark_cached_equals_plain_training(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import cached
    from benchmarks.updates import Trainer, fresh_model, generated_batch, without_dropout

    batch = generated_batch(10, 12, 6, cached.WIDTH, vary=True)
    losses = []
    for chunk in (None, 4):
        model = fresh_model(SETTINGS, vfeat_dim=cached.WIDTH, frames=12, video_layers=1)
        without_dropout(model)
        trainer = Trainer(model, MMContraLoss(), "fp32", torch.device("cpu"), rate=1e-3)
        losses.append([cached.update(trainer, batch, chunk) for _ in range(5)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0][-1] < losses[0][0]
    monkeypatch.setattr(cached, "MINILM", SETTINGS)
    assert 0 < cached.gradient_difference(10, 4, 12) < 1e-4


@pytest.mark.slow
def test_benchmark_cached_memory() -> None:
    from benchmarks import cached

    parser = argparse.ArgumentParser()
    cached.add_arguments(parser)
    found = cached.run(parser.parse_args(["--frames", "32", "--checked", "96"]))
    assert found["memory_ratio"] < 1.5
    assert found["gradients"] < 1e-4
    assert found["summary"].startswith("cached: batch 1024 in ")

"""The EMA of what is trained equals fairseq's EMA of all weights, and shares the rest with the model."""

import io
from typing import Any

import pytest
import torch
from fairseq.dataclass.configs import EMAConfig
from fairseq.models.ema import EMA
from torch import nn

from mmpt.fairseq_plugin.ema import TrainedEMA, build_ema


def model() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 3), nn.Embedding(50, 4))
    made[3].requires_grad_(False)
    made[1].num_batches_tracked = None  # fairseq's EMA cannot average integers
    return made


def train(trained: nn.Module, *averages: Any, updates: int = 6) -> None:
    optimizer = torch.optim.SGD([p for p in trained.parameters() if p.requires_grad], lr=0.1)
    for update in range(1, updates + 1):
        optimizer.zero_grad()
        trained[:3](torch.randn(9, 5)).square().mean().backward()
        optimizer.step()
        for average in averages:
            average.step(trained, update)


def config(**options: Any) -> EMAConfig:
    return EMAConfig(store_ema=True, ema_decay=0.9, **options)


@pytest.mark.parametrize("options", [{}, {"ema_start_update": 3}, {"ema_update_freq": 2}])
def test_averages_equal_those_of_fairseq(options):
    trained = model()
    ours, theirs = TrainedEMA(trained, config(**options)), EMA(trained, config(**options))
    start = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    train(trained, ours, theirs)
    found, wanted = ours.get_model().state_dict(), theirs.get_model().state_dict()
    assert found.keys() == wanted.keys() == start.keys()
    for name in start:
        if name == "3.weight":  # fairseq averages equal numbers, and rounds
            assert torch.equal(found[name], start[name])
        else:
            assert torch.equal(found[name], wanted[name]) and not torch.equal(found[name], start[name]), name


def test_frozen_weights_are_the_models_and_saved_once():
    trained = model()
    ema = TrainedEMA(trained, config())
    assert ema.get_model()[3].weight is trained[3].weight
    assert not any(tensor.requires_grad for tensor in ema.get_model().parameters())
    assert trained[0].weight.requires_grad and ema.get_model()[0].weight is not trained[0].weight
    alone, both = io.BytesIO(), io.BytesIO()
    trained[3] = trained[3].requires_grad_(False)
    torch.save(trained[3].state_dict(), alone)
    torch.save([trained[3].state_dict(), ema.get_model()[3].state_dict()], both)
    assert both.tell() < 1.2 * alone.tell()


def test_restored_averages_go_on_and_leave_the_model_alone():
    trained = model()
    ema = TrainedEMA(trained, config())
    train(trained, ema)
    saved = {name: tensor.clone() for name, tensor in ema.get_model().state_dict().items()}
    saved["3.weight"] = saved["3.weight"] + 1e-3  # as if fairseq had averaged it
    frozen = trained[3].weight.clone()
    resumed = TrainedEMA(trained, config())
    resumed.restore(saved)
    assert torch.equal(trained[3].weight, frozen)
    torch.manual_seed(1)
    train(trained, ema, resumed)
    for one, other in zip(ema.get_model().parameters(), resumed.get_model().parameters()):
        assert torch.equal(one, other)


def test_options_it_does_not_have_are_fairseqs(tmp_path):
    assert type(build_ema(model(), config(), torch.device("cpu"))) is TrainedEMA
    assert type(build_ema(model(), config(ema_fp32=True), torch.device("cpu"))) is EMA
    seed = tmp_path / "seed.pt"
    weights = nn.Linear(2, 3).state_dict()
    torch.save({"model": weights, "extra_state": {"ema": weights}}, seed)
    made = build_ema(nn.Linear(2, 3), config(ema_seed_model=str(seed)), torch.device("cpu"))
    assert type(made) is EMA

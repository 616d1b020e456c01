"""A fingerprint depends on the model, not on the file."""

import torch
from torch import nn

from mmpt.models.fingerprint import weights_fingerprint


def make(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(40, 30), nn.Dropout(), nn.LayerNorm(30), nn.Embedding(3, 1))


def test_model_fingerprint() -> None:
    model = make()
    first = weights_fingerprint(model)
    assert first == weights_fingerprint(make().eval()) and len(first) == 16
    other = make()
    other.load_state_dict(model.state_dict())
    assert weights_fingerprint(other) == first
    assert weights_fingerprint(make(1)) != first
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    model[0](torch.ones(1, 40)).sum().backward()
    optimizer.step()
    assert weights_fingerprint(model) != first
    assert weights_fingerprint(nn.Linear(2, 2)) != weights_fingerprint(nn.Bilinear(1, 2, 2))

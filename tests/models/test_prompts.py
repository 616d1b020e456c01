"""The cache of a frozen text tower."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from mmpt.models.prompts import TextCache

close = torch.testing.assert_close


def prompts(*rows: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    width = max(len(row) for row in rows) + 1
    caps = torch.tensor([[2, 3, *row, 3] + [0] * (width - len(row) - 1) for row in rows])
    return caps, caps > 0


@pytest.fixture
def frozen(make_model: Any) -> Any:
    """A model with a frozen text tower, and the number of prompts that it has computed."""
    model = make_model(freeze_text=True, multimodal_projection=True).train()
    model.computed = 0

    def count(_: Any, args: tuple[Any, ...], __: Any) -> None:
        model.computed += args[1].batch

    model.text_encoder.encoder.register_forward_hook(count)
    return model


A, B, C = (7, 8, 9), (7, 8), (40, 41, 42, 43, 44)


def test_text_cache_computes_each_prompt_once(frozen: Any, make_model: Any) -> None:
    plain = make_model(multimodal_projection=True)
    plain.load_state_dict(frozen.state_dict())
    for batch, computed in (((A, B, A), 2), ((B, C), 3), ((A, B, C, C), 3)):
        caps, cmasks = prompts(*batch)
        close(frozen.encode_text(caps, cmasks), plain.encode_text(caps, cmasks), rtol=0, atol=1e-5)
        assert frozen.computed == computed
    assert frozen.encode_text(*(part[:0] for part in prompts(A))).shape == (0, 32)


def test_text_cache_trains_the_projection(frozen: Any, make_model: Any) -> None:
    plain = make_model(multimodal_projection=True)
    plain.load_state_dict(frozen.state_dict())
    caps, cmasks = prompts(A, B, A)
    with torch.inference_mode():  # what an evaluation has left in the cache serves the next training step
        frozen.encode_text(caps, cmasks)
    for model in (frozen, plain):
        model.encode_text(caps, cmasks).square().sum().backward()
    assert frozen.computed == 2
    got, wanted = (model.text_projection.linear.weight.grad for model in (frozen, plain))
    assert wanted.abs().max() > 0.1
    close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("change", ["load_state_dict", "assign", "in place", "double", "new parameter"])
def test_text_cache_is_cleared_by_changed_weights(frozen: Any, change: str) -> None:
    caps, cmasks = prompts(A, B)
    before = frozen.encode_text(caps, cmasks).detach()
    bias = frozen.text_encoder.encoder.layer[0].output.dense.bias
    state = {name: tensor.clone() for name, tensor in frozen.state_dict().items()}
    state["text_encoder.encoder.layer.0.output.dense.bias"][0] += 1
    if change == "load_state_dict":
        frozen.load_state_dict(state)
    elif change == "assign":
        frozen.load_state_dict(state, assign=True)
    elif change == "in place":
        with torch.no_grad():
            bias[0] += 1
    elif change == "new parameter":
        with torch.no_grad():
            new = torch.nn.Parameter(bias.clone(), requires_grad=False)
            new[0] += 1
        frozen.text_encoder.encoder.layer[0].output.dense.bias = new
    else:
        frozen.double()
    after = frozen.encode_text(caps, cmasks).detach()
    assert frozen.computed == 4
    if change == "double":
        assert after.dtype == torch.float64
    else:
        assert (after - before).abs().max() > 1e-3


def test_text_cache_copies_and_limit(make_model: Any) -> None:
    frozen = make_model(freeze_text=True)
    caps, cmasks = prompts(A, B)
    frozen.encode_text(caps, cmasks)
    assert len(frozen.text_cache) == 2
    assert len(pickle.loads(pickle.dumps(frozen.text_cache))) == 0
    copied = copy.deepcopy(frozen)
    assert len(copied.text_cache) == 0
    with torch.no_grad():
        copied.text_encoder.encoder.layer[0].output.dense.bias[0] += 1
    assert (copied.encode_text(caps, cmasks) - frozen.encode_text(caps, cmasks)).abs().max() > 1e-3
    small = TextCache(frozen.text_encoder, limit=2)
    calls = []

    def encode(ids: Tensor, mask: Tensor) -> Tensor:
        calls.append(len(ids))
        return ids[:, 1:2].float()

    for row, known in ((5, 1), (6, 2), (6, 2), (7, 1), (5, 2)):
        ids = torch.tensor([[2, row, 3]])
        assert small.lookup(ids, ids > 0, encode).item() == row
        assert len(small) == known
    assert calls == [1, 1, 1, 1]


def test_text_cache_only_for_a_frozen_tower(make_model: Any) -> None:
    model = make_model()
    caps, cmasks = prompts(A, B)
    model.encode_text(caps, cmasks)
    assert len(model.text_cache) == 0

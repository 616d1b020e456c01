"""Autocast and activation checkpointing change memory and speed, but not the result."""

import logging
from typing import Any

import pytest
import torch

from mmpt.losses import MMContraLoss
from mmpt.models import precision
from mmpt.models.bert import BertEncoder
from mmpt.utils.errors import UserError

IO = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def fresh_answers() -> None:
    precision.autocast_dtype.cache_clear()


def backward(model: Any, io: IO) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    out = model(io["vfeats"], io["vmasks"], io["caps"], io["cmasks"])
    MMContraLoss()(out["pooled_video"] / 30, out["pooled_text"]).backward()
    return out, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "options", [{}, {"model_cls": "MMFusionShare"}, {"conv1d": 1, "pooling": "attention"}], ids=str
)
def test_autocast_bf16_is_close_to_fp32(
    make_model: Any, io: IO, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(precision, "computes_in", lambda kind, device: True)
    wanted, gradients = backward(make_model(**options), io)
    model = make_model(**options)
    model.autocast = "bf16"
    got, half_gradients = backward(model, io)
    for side in ("pooled_video", "pooled_text"):
        assert got[side].dtype == torch.float32
        assert torch.cosine_similarity(got[side], wanted[side]).min() > 0.999
        assert (got[side] - wanted[side]).abs().max() > 1e-5  # it was computed in bf16
    assert half_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        if gradient.norm() > 1e-3:
            assert torch.cosine_similarity(half_gradients[name].flatten(), gradient.flatten(), 0) > 0.98, name
            assert half_gradients[name].dtype == torch.float32
    model.train()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("model_cls", ["MMFusionSeparate", "MMFusionShare"])
def test_autocast_and_checkpointing_options_reach_the_towers(make_model: Any, model_cls: str) -> None:
    for model, wanted in (
        (make_model(model_cls=model_cls), (None, {False})),
        (make_model(model_cls=model_cls, autocast="bf16", activation_checkpointing=True), ("bf16", {True})),
    ):
        towers = [module for module in model.modules() if isinstance(module, BertEncoder)]
        assert (model.autocast, {tower.checkpointing for tower in towers}) == wanted


def test_autocast_without_hardware_support_warns_once(
    make_model: Any, io: IO, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset({"avx2", "avx512f"}))
    caplog.set_level(logging.INFO)
    plain, model = make_model(), make_model()
    model.autocast = "bf16"
    for _ in range(2):
        out = model.encode_text(io["caps"], io["cmasks"])
        assert torch.equal(out, plain.encode_text(io["caps"], io["cmasks"]))
    said = [record.getMessage() for record in caplog.records if "autocast" in record.getMessage()]
    assert said == ["model.autocast is bf16, but this cpu would only emulate it: computing in fp32"]


@pytest.mark.parametrize(
    ("flags", "bf16", "fp16"),
    [({"avx2"}, False, False), ({"amx_bf16"}, True, False), ({"avx512_fp16", "avx512_bf16"}, True, True)],
)
def test_autocast_checks_the_hardware(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], bf16: bool, fp16: bool
) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset(flags))
    assert precision.autocast_dtype("bf16", "cpu") == (torch.bfloat16 if bf16 else None)
    assert precision.autocast_dtype("fp16", "cpu") == (torch.float16 if fp16 else None)
    assert precision.autocast_dtype(None, "cpu") is None


def test_autocast_fp16_training_is_refused(make_model: Any, io: IO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "computes_in", lambda kind, device: True)
    model = make_model().train()
    model.autocast = "fp16"
    with pytest.raises(UserError, match="fp16"):
        model.encode_text(io["caps"], io["cmasks"])


def kept_bytes(model: Any, io: IO) -> int:
    """Bytes that a forward pass keeps for the backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(io["vfeats"], io["vmasks"], io["caps"], io["cmasks"])
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    return sum(size for place, size in kept.items() if place not in weights)


def test_activation_checkpointing_gives_the_same_gradients(make_model: Any, io: IO) -> None:
    results, kept = [], []
    for checkpointing in (False, True):
        model = make_model().train()  # with dropout: it has to fall the same way twice
        for module in model.modules():
            if isinstance(module, BertEncoder):
                module.checkpointing = checkpointing
        kept.append(kept_bytes(model, io))
        torch.manual_seed(5)
        results.append(backward(model, io))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])
    assert kept[1] < kept[0] / 3

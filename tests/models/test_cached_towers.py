"""Cached accumulation on the real towers: packed, with dropout, half frozen, checkpointed."""

from typing import Any

import pytest
import torch

from mmpt.losses import MMContraLoss, cached_loss_backward


def batch_of(clips: int) -> list[dict[str, torch.Tensor]]:
    """Clips of 1 to 12 frames and prompts of 2 to 4 tokens, some of them alike, as micro-batches of 5."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(1, 13, (clips, 1), generator=generator)
    tokens = torch.randint(5, 8, (clips, 1), generator=generator)
    caps = torch.randint(200, 206, (clips, 7), generator=generator)
    whole = {
        "vfeats": torch.randn(clips, 12, 63, generator=generator),
        "vmasks": torch.arange(12) < frames,
        "caps": caps,
        "cmasks": torch.arange(7) < tokens,
    }
    return [{name: rows[i : i + 5] for name, rows in whole.items()} for i in range(0, clips, 5)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"freeze_text": True},
        {"freeze_text": True, "multimodal_projection": True},
        {"activation_checkpointing": True},
        {"dropout": 0.3},
        {"ensemble_size": 2, "freeze_text": True, "multimodal_projection": "l2_norm", "dropout": 0.3},
    ],
)
def test_cached_loss_gradients_with_dropout(make_model: Any, options: dict[str, Any]) -> None:
    """Within 1e-4 of the largest of each parameter, as one backward pass with the same dropout gives them."""
    loss, parts = MMContraLoss("cosine", 0.2), batch_of(13)
    model = make_model(**options).train()
    torch.manual_seed(3)
    pooled = [model(*part.values()) for part in parts]
    value = loss(*(torch.cat([out[side] for out in pooled]) for side in ("pooled_video", "pooled_text")))
    value.backward()
    following = torch.rand(1)
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)

    torch.manual_seed(3)
    assert cached_loss_backward(model, loss, parts) == pytest.approx(value.item(), rel=1e-5)
    assert torch.equal(torch.rand(1), following)
    got = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert got.keys() == wanted.keys() and len(got) > 10
    largest = max(gradient.abs().max().item() for gradient in wanted.values())
    for name, gradient in got.items():  # a key's bias has no gradient but rounding: hence the floor
        scale = max(wanted[name].abs().max().item(), 1e-3 * largest)
        assert (gradient - wanted[name]).abs().max().item() < 1e-4 * scale, name
    if "freeze_text" in options:
        assert not any(name.startswith("text_encoder") for name in got)

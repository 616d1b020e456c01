"""Cached accumulation gives the loss and gradients of the big batch."""

import contextlib
import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from mmpt.losses import MMContraLoss, MMSigmoidLoss, cached_loss_backward
from mmpt.losses.cached import INPUTS, inputs_of
from mmpt.utils.errors import UserError
from tests.losses.linear_towers import LinearTowers, gradients, inputs, make_batch, rows

close = torch.testing.assert_close


def split(batch: dict[str, torch.Tensor], *sizes: int) -> list[dict[str, torch.Tensor]]:
    starts = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    return [rows(batch, a, b) for a, b in itertools.pairwise(starts)]


@pytest.mark.parametrize(
    "loss",
    [
        MMContraLoss(),
        MMContraLoss("cosine", 0.2, learnable_temperature=True, label_aware=True),
        MMSigmoidLoss(label_aware=True, learnable_temperature=True),
    ],
)
@pytest.mark.parametrize("sizes", [(13,), (4, 4, 4, 1), (6, 7)])
def test_cached_loss_equals_the_whole_batch(loss: nn.Module, sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = LinearTowers()
    batch = make_batch(13)
    out = model(*inputs(batch))
    expected = loss(out["pooled_video"], out["pooled_text"], batch["labels"])
    expected.backward()
    wanted = gradients(model, loss)
    value = cached_loss_backward(model, loss, split(batch, *sizes))
    assert value == pytest.approx(expected.item(), rel=1e-5)
    for got, want in zip(gradients(model, loss), wanted):
        close(got, want, rtol=1e-5, atol=1e-6)


def test_the_layout_of_a_batch_goes_to_the_model() -> None:
    batch = {name: object() for name in INPUTS}
    assert inputs_of(batch) == inputs_of(batch | {"layout": None}) == list(batch.values())
    assert inputs_of(batch | {"layout": (layout := object())}) == [*batch.values(), layout]


class NoisyLoss(nn.Module):
    """A loss that draws random numbers of its own."""

    def forward(
        self, video: torch.Tensor, text: torch.Tensor, labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        return MMContraLoss()(video * torch.rand(len(video), 1), text, labels)


def test_cached_loss_replays_dropout() -> None:
    torch.manual_seed(0)
    model = LinearTowers(dropout=0.5).train()
    loss = NoisyLoss()
    parts = split(make_batch(12), 5, 5, 2)

    torch.manual_seed(3)
    pooled = [model(*inputs(part)) for part in parts]
    expected = loss(*(torch.cat([out[side] for out in pooled]) for side in ("pooled_video", "pooled_text")))
    expected.backward()
    wanted = gradients(model)
    following = torch.rand(1)

    torch.manual_seed(3)
    assert cached_loss_backward(model, loss, parts) == pytest.approx(expected.item(), rel=1e-5)
    assert torch.equal(torch.rand(1), following)  # and what is drawn next is what one pass leaves
    for got, want in zip(gradients(model), wanted):
        close(got, want, rtol=1e-5, atol=1e-6)


def test_cached_loss_averages_distributed_gradients_once() -> None:
    held_back: list[bool] = []
    passes = []  # for each forward pass, how many before it did not average

    class Wrapped(LinearTowers):
        def forward(self, *sides: torch.Tensor) -> dict[str, torch.Tensor]:
            passes.append(len(held_back))
            return super().forward(*sides)

        @contextlib.contextmanager
        def no_sync(self) -> Iterator[None]:  # DistributedDataParallel's
            held_back.append(True)
            yield

    cached_loss_backward(Wrapped(), MMContraLoss(), split(make_batch(12), 5, 5, 2))
    assert passes == [0, 0, 0, 1, 2, 2], "the last of the three second passes averages"


def test_cached_loss_with_scaled_backward() -> None:
    """What an fp16 optimizer does: it multiplies the loss before it goes backward."""
    torch.manual_seed(0)
    model = LinearTowers()
    parts = split(make_batch(6), 3, 3)
    value = cached_loss_backward(model, MMContraLoss(), parts)
    plain = gradients(model)
    scaled = cached_loss_backward(model, MMContraLoss(), parts, lambda loss: (loss * 8).backward())
    assert scaled == value
    for got, want in zip(gradients(model), plain):
        close(got, want * 8)


def test_cached_loss_accumulates_gradients() -> None:
    torch.manual_seed(0)
    model = LinearTowers()
    parts = split(make_batch(6), 3, 3)
    cached_loss_backward(model, MMContraLoss(), parts)
    once = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    cached_loss_backward(model, MMContraLoss(), parts)
    for got, want in zip(gradients(model), once):
        close(got, want * 2)


def test_cached_loss_with_a_frozen_tower() -> None:
    torch.manual_seed(0)
    model, loss = LinearTowers(), MMContraLoss("cosine", 0.2, learnable_temperature=True)
    batch = make_batch(6)
    model.words.requires_grad_(False)
    out = model(*inputs(batch))
    loss(out["pooled_video"], out["pooled_text"]).backward()
    wanted = gradients(model.video, loss)
    cached_loss_backward(model, loss, [{**part, "labels": None} for part in split(batch, 4, 2)])
    close(gradients(model.video, loss), wanted)
    assert model.words.weight.grad is None


def test_cached_loss_errors() -> None:
    model = LinearTowers()
    with pytest.raises(UserError, match="no micro-batch"):
        cached_loss_backward(model, MMContraLoss(), [])
    first, second = split(make_batch(6), 3, 3)
    del second["labels"]
    with pytest.raises(UserError, match="some have not"):
        cached_loss_backward(model, MMContraLoss(), [first, second])


@pytest.mark.parametrize(("kind", "wide"), [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)])
def test_cached_loss_sees_embeddings_in_float32_or_wider(kind: torch.dtype, wide: torch.dtype) -> None:
    seen = []

    def loss(video: torch.Tensor, text: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        seen.append((video.dtype, text.dtype))
        return MMContraLoss()(video, text)

    batch = make_batch(6)
    batch["vfeats"] = batch["vfeats"].to(kind)
    cached_loss_backward(LinearTowers().to(kind), loss, split(batch, 4, 2))
    assert seen == [(wide, wide)]

"""Contrastive gradients of a batch that does not fit into memory at once (GradCache).

Gao et al. 2021, https://arxiv.org/abs/2101.06983.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmpt.utils.errors import UserError

Batch = Mapping[str, Any]
INPUTS = ("vfeats", "vmasks", "caps", "cmasks")


def inputs_of(batch: Batch) -> list[Any]:
    """What a model takes of a batch; its layout too, if the batch has one."""
    layout = batch.get("layout")
    return [batch[name] for name in INPUTS] + ([] if layout is None else [layout])


def cached_loss_backward(
    model: nn.Module,
    loss: Callable[..., Tensor],
    microbatches: Sequence[Batch],
    backward: Callable[[Tensor], None] = Tensor.backward,
) -> float:
    """Accumulate the gradients of `loss` over all micro-batches as one batch, and return that loss.

    YAML: `loss.cached_chunk`. Embeddings are first computed without gradients, micro-batch by micro-batch.
    The loss of the whole batch gives the gradient of each embedding. Each micro-batch is then embedded again,
    with the same dropout, and the gradient is propagated through it. Activation memory is that of one
    micro-batch, at the cost of a second forward pass.

    The gradient equals that of one batch up to rounding, with the micro-batches' dropout masks, if embeddings
    do not depend on the batch. DistributedDataParallel averages gradients once, in the last micro-batch.

    Args:
        model: `model(vfeats, vmasks, caps, cmasks) -> {"pooled_video": [b, H], "pooled_text": [b, H]}`.
        loss: `loss(pooled_video, pooled_text, labels)`; its own parameters get their gradients too.
        microbatches: batches with those inputs, and "labels" (int64 [b]) in all of them or in none; also
            with "layout" where the model takes one (DualEncoder.forward).
        backward: runs the backward pass of a scalar; for optimizers that scale it first (fp16).

    Raises UserError if there is no micro-batch, or if some have labels and some have not.
    """
    if not microbatches:
        raise UserError("no micro-batch was given.")
    with_labels = [batch.get("labels") is not None for batch in microbatches]
    if any(with_labels) != all(with_labels):
        raise UserError("some micro-batches have labels and some have not: give labels to all or to none.")
    labels = torch.cat([batch["labels"] for batch in microbatches]) if all(with_labels) else None

    randomness = []
    pooled: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for batch in microbatches:
            randomness.append(_random_state(batch["vfeats"].device))
            pooled.append(_embed(model, batch))
    video, text = (torch.cat(side).requires_grad_() for side in zip(*pooled))
    value = loss(video, text, labels)
    backward(value)
    assert video.grad is not None and text.grad is not None

    after = _random_state(microbatches[0]["vfeats"].device)
    start = 0
    for i, (batch, state) in enumerate(zip(microbatches, randomness)):
        device = batch["vfeats"].device
        last = i == len(microbatches) - 1
        _set_random_state(state, device)
        with contextlib.nullcontext() if last else _no_sync(model):
            out_video, out_text = _embed(model, batch)
            end = start + len(out_video)
            sides = [(out_video, video.grad[start:end]), (out_text, text.grad[start:end])]
            trained = [(out, grad) for out, grad in sides if out.requires_grad]  # skips a frozen tower
            if trained:
                # the gradients already contain the scale of `backward`
                torch.autograd.backward([out for out, _ in trained], [grad for _, grad in trained])
        start = end
    _set_random_state(after, microbatches[0]["vfeats"].device)
    return float(value.detach())


def _embed(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    out = model(*inputs_of(batch))
    video, text = out["pooled_video"], out["pooled_text"]
    kind = torch.promote_types(video.dtype, torch.float32)  # the gradients are kept at full precision
    return video.to(kind), text.to(kind)


@contextlib.contextmanager
def _no_sync(model: nn.Module) -> Iterator[None]:
    """Skip DistributedDataParallel's gradient averaging, if the model is wrapped in it."""
    no_sync = getattr(model, "no_sync", None)
    with no_sync() if callable(no_sync) else contextlib.nullcontext():
        yield


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), on_device


def _set_random_state(state: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)

"""Gathering across the processes of a distributed run. On one process everything here is the identity."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes (1 where torch.distributed is not initialised)."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def all_gather_counts(tensor: Tensor) -> list[int]:
    """Rows of `tensor` on each process, by rank."""
    if world_size() == 1:
        return [len(tensor)]
    count = torch.tensor([len(tensor)], device=tensor.device)
    counts = [torch.zeros_like(count) for _ in range(world_size())]
    dist.all_gather(counts, count)
    return [int(other) for other in torch.cat(counts).tolist()]


def all_gather(tensor: Tensor, counts: list[int] | None = None) -> Tensor:
    """Rows of all processes in rank order, [N, ...] from [n, ...] each, without gradient.

    The processes may hold different numbers of rows; `counts` (all_gather_counts) saves asking again.
    """
    if world_size() == 1:
        return tensor.detach()
    counts = all_gather_counts(tensor) if counts is None else counts
    most = max(counts)
    padded = tensor.detach().new_zeros((most, *tensor.shape[1:]))
    padded[: len(tensor)] = tensor.detach()
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts)])


def gather_objects(item: Any) -> list[Any]:
    """What each process holds, by rank, on every process. Tensors in it should be on the CPU."""
    if world_size() == 1:
        return [item]
    items: list[Any] = [None] * world_size()
    dist.all_gather_object(items, item)
    return items


class _GatherRows(torch.autograd.Function):
    """Gather forwards; backwards, add up what every process says of my rows."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        return all_gather(tensor, counts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        start = sum(ctx.counts[: rank()])
        return total[start : start + ctx.counts[rank()]], None


def all_gather_with_grad(tensor: Tensor, counts: list[int] | None = None) -> Tensor:
    """Rows of all processes in rank order, [N, ...] from [n, ...] each, with gradient.

    The gradient that arrives at a process's rows is the sum of the gradients of all processes' losses, so
    every process must run backward. Under DistributedDataParallel, which averages parameter gradients, let
    the losses of the processes *average* to the loss of the global batch (as MMContraLoss does): then the
    averaged parameter gradients are those of a single process on the whole batch.

    On one process: the tensor itself.
    """
    if world_size() == 1:
        return tensor
    return _GatherRows.apply(tensor, all_gather_counts(tensor) if counts is None else counts)

"""Gather tensors and objects across ranks. With a single process, every function is the identity."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes (1 if torch.distributed is not initialised)."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Rank of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether `flag` is true on any rank. Every rank must ask."""
    if world_size() == 1:
        return flag
    raised = torch.tensor(int(flag), device=device)
    dist.all_reduce(raised, op=dist.ReduceOp.MAX)
    return bool(raised.item())


def connection_lost(error: BaseException) -> bool:
    """Whether an error means that another rank has ended or cannot be reached."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def all_gather_counts(tensor: Tensor) -> list[int]:
    """Number of rows of `tensor` on each rank."""
    if world_size() == 1:
        return [len(tensor)]
    count = torch.tensor([len(tensor)], device=tensor.device)
    counts = [torch.zeros_like(count) for _ in range(world_size())]
    dist.all_gather(counts, count)
    return [int(other) for other in torch.cat(counts).tolist()]


def all_gather(tensor: Tensor, counts: list[int] | None = None) -> Tensor:
    """Rows of all ranks in order, [n, ...] each -> [N, ...], without gradient.

    The number of rows may differ by rank; pass `counts` (all_gather_counts) to avoid gathering it again.
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
    """The `item` of each rank, on every rank. Tensors in it should be on the CPU."""
    if world_size() == 1:
        return [item]
    items: list[Any] = [None] * world_size()
    dist.all_gather_object(items, item)
    return items


class _GatherRows(torch.autograd.Function):
    """Forward gathers; backward sums the gradients of this rank's rows over all ranks."""

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
    """Rows of all ranks in order, [n, ...] each -> [N, ...], with gradient.

    The gradient of a rank's rows is the sum over the losses of all ranks, so every rank must run backward.
    Under DistributedDataParallel, which averages parameter gradients, the losses of the ranks must average to
    the loss of the global batch (as MMContraLoss does); the gradients then equal those of a single process.
    """
    if world_size() == 1:
        return tensor
    return _GatherRows.apply(tensor, all_gather_counts(tensor) if counts is None else counts)

"""Two processes: compare the gathered loss and its gradients with one process on the whole batch."""

import importlib
import os
import sys
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmpt.losses import MMContraLoss, MMSigmoidLoss, cached_loss_backward
from mmpt.utils.distributed import all_gather_with_grad, gather_objects, rank, world_size
from tests.losses.linear_towers import LinearTowers, gradients, inputs, make_batch, rows

LOSSES: list[Callable[[bool], nn.Module]] = [
    lambda gather: MMContraLoss(gather=gather),
    lambda gather: MMContraLoss("cosine", 0.2, True, label_smoothing=0.1, label_aware=True, gather=gather),
    lambda gather: MMSigmoidLoss(learnable_temperature=True, label_aware=True, gather=gather),
]


def compare(make_loss: Callable[[bool], nn.Module], border: int, cached: bool) -> None:
    """Rows before `border` of a batch of 9 are the first process's, the others the second's.

    With border 9 the second has none. It computes on others, as fairseq lets it, and adds no row to the loss.
    """
    batch = make_batch(9)
    torch.manual_seed(1)
    single, single_loss = LinearTowers(), make_loss(False)
    torch.manual_seed(1)
    wrapped, loss = DistributedDataParallel(LinearTowers()), make_loss(True)

    out = single(*inputs(batch))
    expected = single_loss(out["pooled_video"], out["pooled_text"], batch["labels"])
    expected.backward()

    mine = rows(batch, 0, border) if rank() == 0 else rows(batch, border, 9)
    joined: Callable[..., torch.Tensor] = loss
    with_rows = 2 if border < 9 else 1
    if with_rows == 1 and rank() == 1:
        mine = make_batch(4, seed=1)
        joined = lambda *sides: loss(*(side[:0] for side in sides))  # noqa: E731
    if cached:
        half = len(mine["vfeats"]) // 2
        value = torch.tensor(
            cached_loss_backward(wrapped, joined, [rows(mine, 0, half), rows(mine, half, 99)])
        )
    else:
        out = wrapped(*inputs(mine))
        part = joined(out["pooled_video"], out["pooled_text"], mine["labels"])
        part.backward()
        value = part.detach()

    dist.all_reduce(value)
    torch.testing.assert_close(value / with_rows, expected.detach(), rtol=1e-5, atol=1e-6)
    for got, want in zip(gradients(wrapped), gradients(single)):  # DDP averages over both
        torch.testing.assert_close(got * 2 / with_rows, want, rtol=1e-5, atol=1e-6)
    for got, want in zip(gradients(loss), gradients(single_loss)):  # no DDP around the loss: average by hand
        dist.all_reduce(got)
        torch.testing.assert_close(got / with_rows, want, rtol=1e-5, atol=1e-6)


def main(store: str) -> None:
    """Both processes: this one and a fork of it; raises if something differs."""
    importlib.import_module("torch._dynamo")  # DDP does, which takes seconds
    child = os.fork()
    _rank(1 if child == 0 else 0, store)
    assert os.waitpid(child, 0)[1] == 0
    sys.stdout.flush()
    os._exit(0)  # all agrees; while Python shuts down, a thread of torch's may still abort the process


def _rank(number: int, store: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=2)
    assert (rank(), world_size()) == (number, 2)
    assert gather_objects({"from": number}) == [{"from": 0}, {"from": 1}]
    assert all_gather_with_grad(torch.full((number + 1, 2), float(number))).tolist() == [
        [0, 0],
        [1, 1],
        [1, 1],
    ]
    for make_loss in LOSSES:
        for border in (5, 4, 7, 9):  # so that the processes hold different numbers of rows, or one none
            for cached in (False, True):
                compare(make_loss, border, cached)
    dist.barrier()
    dist.destroy_process_group()
    if number == 1:
        os._exit(0)

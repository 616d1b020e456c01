"""A global batch over two processes equals one process on the whole batch."""

from pathlib import Path

import torch

from mmpt.utils.distributed import (
    all_gather,
    all_gather_counts,
    all_gather_with_grad,
    gather_objects,
    rank,
    world_size,
)
from tests.commands import Forked
from tests.losses.gather_worker import main


def test_gather_two_processes_equal_one(tmp_path: Path) -> None:
    """See gather_worker.py for what is compared: loss and gradients, plain and cached, equal and unequal
    shares."""
    ended = Forked(main, str(tmp_path / "store")).end()
    assert ended.returncode == 0, ended.stderr


def test_gather_one_process_is_the_identity() -> None:
    rows = torch.randn(3, 2, requires_grad=True)
    assert (rank(), world_size()) == (0, 1)
    assert all_gather_with_grad(rows) is rows
    assert torch.equal(all_gather(rows), rows)
    assert all_gather_counts(rows) == [3]
    assert gather_objects("mine") == ["mine"]

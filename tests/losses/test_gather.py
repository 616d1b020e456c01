"""A global batch over two processes equals one process on the whole batch."""

import os
import subprocess
import sys
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

HERE = Path(__file__).resolve().parent


def test_gather_two_processes_equal_one(tmp_path: Path) -> None:
    """See gather_worker.py for what is compared: loss and gradients, plain and cached, equal and unequal
    shares."""
    command = [sys.executable, str(HERE / "gather_worker.py")]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent.parent), "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [*command, str(number), str(tmp_path / "store")],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(2)
    ]
    try:
        outputs = [worker.communicate(timeout=120)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(outputs)


def test_gather_one_process_is_the_identity() -> None:
    rows = torch.randn(3, 2, requires_grad=True)
    assert (rank(), world_size()) == (0, 1)
    assert all_gather_with_grad(rows) is rows
    assert torch.equal(all_gather(rows), rows)
    assert all_gather_counts(rows) == [3]
    assert gather_objects("mine") == ["mine"]

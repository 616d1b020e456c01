"""Training whose batches are read by workers (`fairseq.dataset.num_workers`)."""

import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmpt.utils.checkpoint import load_state_dict_file
from tests.commands import Forked, _signclip
from tests.waiting import PATIENCE


def _counting_workers(words: list[str], counts: Path) -> int:
    """Train, and write how many workers and threads are left when an epoch begins, and at the end."""
    from mmpt.fairseq_plugin.task import FairseqMMTask

    begin = FairseqMMTask.begin_epoch

    def count() -> None:
        until = time.monotonic() + PATIENCE / 4
        while left() and time.monotonic() < until:
            time.sleep(0.01)  # a thread ends them
        with counts.open("a") as file:
            file.write(f"{left()}\n")

    def left() -> int:
        return len(multiprocessing.active_children()) + threading.active_count() - 1

    def counted(*arguments: Any) -> None:
        count()
        begin(*arguments)

    FairseqMMTask.begin_epoch = counted  # type: ignore[method-assign]  # in a process of its own
    status = _signclip([words], None)
    count()
    return status


def train(config: Path, folder: Path, *overrides: str) -> list[str]:
    """Train three epochs in a process of its own; the counts of workers that it wrote."""
    counts = folder.with_suffix(".txt")
    words = ["train", str(config), "--in-process", f"fairseq.checkpoint.save_dir={folder}"]
    words += ["fairseq.optimization.max_epoch=3", "eval.after_training=false", *overrides]
    done = Forked(_counting_workers, words, counts).end()
    assert done.returncode == 0, done.stderr
    return counts.read_text().split()


@pytest.mark.parametrize("buffer", [10, 0])
def test_the_workers_of_an_epoch_end_with_it_and_change_no_weight(
    tiny_yaml: Path, tmp_path: Path, buffer: int
) -> None:
    """Those of training and validation. Left to Python's garbage collector, each is waited for 5 seconds."""
    workers = ["fairseq.dataset.num_workers=2", f"fairseq.dataset.data_buffer_size={buffer}"]
    assert train(tiny_yaml, tmp_path / "two", *workers) == ["0"] * 4
    train(tiny_yaml, tmp_path / "none")
    with_workers, without = (
        load_state_dict_file(tmp_path / name / "checkpoint_last.pt") for name in ("two", "none")
    )
    assert with_workers.keys() == without.keys()
    for name, value in without.items():
        torch.testing.assert_close(with_workers[name], value, rtol=0, atol=0)


STOPPED = ["fairseq.dataset.data_buffer_size=1", "fairseq.optimization.max_update=1"]
FEW_STEPS = [
    "fairseq.dataset.data_buffer_size=1",
    "fairseq.dataset.batch_size_valid=2",
    "fairseq.dataset.max_valid_steps=1",
]


@pytest.mark.parametrize("workers", [2, 0])
@pytest.mark.parametrize(
    ("overrides", "epochs"), [(FEW_STEPS, 3), (STOPPED, 1)], ids=["validation", "training"]
)
def test_workers_and_threads_end_where_reading_stops_early(
    tiny_yaml: Path, tmp_path: Path, overrides: list[str], epochs: int, workers: int
) -> None:
    """With max_valid_steps, each validation left its own, which waited forever to hand over a batch."""
    counts = train(tiny_yaml, tmp_path / "run", f"fairseq.dataset.num_workers={workers}", *overrides)
    assert counts == ["0"] * (epochs + 1)


def _in_workers(words: list[str], first: Callable[[], None]) -> int:
    """Train; in the second epoch a worker calls `first` before it reads."""
    from mmpt.datasets.mmdataset import MMDataset

    multiprocessing.set_start_method("fork", force=True)  # the worker has the method below
    read, trainer = MMDataset.__getitems__, os.getpid()

    def reads(self: MMDataset, indices: Any) -> Any:
        if self.epoch == 2 and os.getpid() != trainer:
            first()
        return read(self, indices)

    MMDataset.__getitems__ = reads  # type: ignore[method-assign]  # in a process of its own
    return _signclip([words], None)


def _is_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _has_little_shared_memory() -> None:
    """Files of at most 64 bytes, also those in memory."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))


@pytest.mark.parametrize(
    ("first", "error", "mend"),
    [
        (_is_killed, "a process that reads batches was killed, possibly out of memory (DataLoader ", "Set"),
        (_has_little_shared_memory, "a batch does not fit into shared memory (", "or set"),
    ],
)
def test_a_worker_that_fails_is_one_line_and_the_run_resumes(
    tiny_yaml: Path, tmp_path: Path, first: Callable[[], None], error: str, mend: str
) -> None:
    words = ["train", str(tiny_yaml), "--in-process", f"fairseq.checkpoint.save_dir={tmp_path / 'run'}"]
    words += ["fairseq.optimization.max_epoch=3", "eval.after_training=false"]
    words += ["fairseq.dataset.num_workers=2"]
    done = Forked(_in_workers, words, first).end()
    assert done.returncode == 2 and "Traceback (most recent call last)" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert error in last and f"{mend} a lower fairseq.dataset.num_workers" in last
    again = Forked(_signclip, [words], None).end()
    assert again.returncode == 0 and "resuming from" in again.stderr

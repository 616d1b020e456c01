"""A signal to one of several processes stops all of them, with a checkpoint."""

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from mmpt.utils.checkpoint import load_torch_file
from tests.commands import Forked, _signclip

O = "fairseq.optimization"


def _signalled_at(words: list[str], update: int | None) -> int:
    return _signclip([words], update)


def two(config: Path, folder: Path, second: Any = (_signalled_at, None)) -> list[tuple[int, str]]:
    """Train as two gloo processes; the second runs a function, given an update. Their statuses and errors."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    words = ["train", str(config), "--in-process", "loss.gather=true", "fairseq.dataset.batch_size=2"]
    words += [f"fairseq.checkpoint.save_dir={folder}", f"{O}.max_epoch=2"]
    functions = {"0": (_signalled_at, None), "1": second}
    started = [
        Forked(run, words, update, **together, RANK=rank, LOCAL_RANK=rank)
        for rank, (run, update) in functions.items()
    ]
    return [(done.returncode, done.stderr) for done in [process.end() for process in started]]


@pytest.mark.slow
def test_sigterm_to_one_process_stops_both_and_the_resumed_run_ends_as_one_that_was_not(tiny_yaml, tmp_path):
    assert [status for status, _ in two(tiny_yaml, tmp_path / "whole")] == [0, 0]
    stopped = two(tiny_yaml, tmp_path / "halves", second=(_signalled_at, 6))
    assert [status for status, _ in stopped] == [143, 143], stopped
    assert "after update 7" in two(tiny_yaml, tmp_path / "halves")[0][1]
    one, other = (
        load_torch_file(tmp_path / name / "checkpoint_last.pt")["model"] for name in ("whole", "halves")
    )
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=0, atol=0)


def _killed_at(words: list[str], update: int) -> int:
    """`signclip WORDS`, killed while it computes an update."""
    from mmpt.cli.main import main
    from mmpt.fairseq_plugin.task import FairseqMMTask

    step = FairseqMMTask.train_step

    def train_step(self, sample, model, criterion, optimizer, update_num, *more, **options):
        if update_num == update:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, sample, model, criterion, optimizer, update_num, *more, **options)

    FairseqMMTask.train_step = train_step
    return main(words)


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_other_in_one_line(tiny_yaml, tmp_path):
    (status, error), (killed, _) = two(tiny_yaml, tmp_path, second=(_killed_at, 6))
    assert (status, killed) == (2, -signal.SIGKILL)
    assert error.splitlines()[-1].startswith("error: rank 0 lost the connection"), error
    assert "Traceback" not in error

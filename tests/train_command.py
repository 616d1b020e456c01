"""`signclip train --in-process` in a process of its own that is forked after the imports.

As isolated as a new Python, with real exit statuses and signals, but without the seconds that torch,
transformers and fairseq take to import.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.warm_up"])
O = "fairseq.optimization"


def train(config: Path, *overrides: str, stop_at: int | None = None) -> subprocess.CompletedProcess[str]:
    """Train, as `signclip train --in-process CONFIG OVERRIDES...`.

    stop_at: send the process SIGTERM while it computes that update, counted from 0.
    """
    return train_runs([[str(config), *overrides]], stop_at)


def train_runs(runs: Sequence[Sequence[str]], stop_at: int | None = None) -> subprocess.CompletedProcess[str]:
    """Several runs, one after the other in one process, each with its arguments; the worst exit status."""
    with tempfile.TemporaryDirectory() as folder:
        output = [Path(folder, name) for name in ("stdout", "stderr")]
        process = _CONTEXT.Process(target=_run, args=(runs, stop_at, *output))
        process.start()
        process.join(300)
        assert process.exitcode is not None, "training hangs"
        texts = [file.read_text() for file in output]
    return subprocess.CompletedProcess(list(runs), process.exitcode, *texts)


def _run(runs: Sequence[Sequence[str]], stop_at: int | None, stdout: Path, stderr: Path) -> None:
    for number, file in ((1, stdout), (2, stderr)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    import torch

    from mmpt.cli.train import main

    torch.set_num_threads(1)
    if stop_at is not None:
        _signal_at(stop_at)
    status = max(main([*arguments, "--in-process"]) for arguments in runs)
    sys.stdout.flush()
    sys.exit(status)


def _signal_at(update: int) -> None:
    from mmpt.fairseq_plugin.task import FairseqMMTask

    step = FairseqMMTask.train_step

    def train_step(self, sample, model, criterion, optimizer, update_num, *more, **options):
        if update_num == update:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, sample, model, criterion, optimizer, update_num, *more, **options)

    FairseqMMTask.train_step = train_step

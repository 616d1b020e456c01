"""Commands in processes of their own that are forked after the imports.

As isolated as a new Python, with real exit statuses and signals, but without the seconds that torch,
transformers and fairseq take to import. They render no figures.
"""

import contextlib
import faulthandler
import importlib
import itertools
import logging
import multiprocessing
import os
import runpy
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import ROOT, quick_figures, skip_without_fairseq
from tests.waiting import PATIENCE

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.conftest", "tests.warm_up"])
O = "fairseq.optimization"


class Forked:
    """A process that calls a function of a module and exits with the status that it returns (None: 0).

    env: environment variables, in addition to those of this process.
    """

    def __init__(self, function: Callable[..., int | None], *arguments: Any, **env: str):
        self.called = (function.__name__, *arguments)
        self.folder = tempfile.TemporaryDirectory()
        self.output = [Path(self.folder.name, name) for name in ("stdout", "stderr")]
        environment = {**os.environ, **env}
        self.process = _CONTEXT.Process(target=_run, args=(function, arguments, environment, self.output))
        self.process.start()

    def send(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid or 0, number)

    def end(self) -> "subprocess.CompletedProcess[str]":
        """Wait until it ends."""
        self.process.join(PATIENCE)
        if hangs := self.process.exitcode is None:
            self.send(signal.SIGABRT)  # writes where it is to its stderr
            self.process.join(30)
        with self.folder:
            texts = [file.read_text() if file.exists() else "" for file in self.output]
        assert not hangs, f"{self.called} hangs:\n{texts[1]}"
        skip_without_fairseq(texts[1])
        return subprocess.CompletedProcess(list(self.called), self.process.exitcode, *texts)


def run(*words: object, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run `signclip WORDS...` with some environment variables."""
    return start(*words, **env).end()


def start(*words: object, hold: tuple[str, int] | None = None, **env: str) -> Forked:
    """Start `signclip WORDS...`; end() waits.

    hold: a method, as module:class.method; at this call of it, counted from 1, it waits for a signal.
    """
    return Forked(_signclip, [[*map(str, words)]], None, hold, **env)


def run_code(code: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run a script, as `python -c CODE` in a process that has not imported mmpt and fairseq."""
    return Forked(_exec, code, **env).end()


def run_lines(
    lines: Sequence[str], folder: Path, project: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run `signclip ...`, `python FILE ...` and `python -m MODULE ...` in `folder`, one after the other.

    One process for all, which ends with the first that fails. project: a copy, whose code runs.
    """
    return Forked(_lines, [shlex.split(line) for line in lines], folder, project).end()


def train(config: Path, *overrides: str, stop_at: int | None = None) -> "subprocess.CompletedProcess[str]":
    """Train, as `signclip train --in-process CONFIG OVERRIDES...`.

    stop_at: send the process SIGTERM while it computes that update, counted from 0.
    """
    return train_runs([[str(config), *overrides]], stop_at)


def train_runs(
    runs: Sequence[Sequence[str]], stop_at: int | None = None
) -> "subprocess.CompletedProcess[str]":
    """Several runs, one after the other in one process, each with its arguments; the worst exit status."""
    return Forked(_signclip, [["train", *arguments, "--in-process"] for arguments in runs], stop_at).end()


def _run(
    function: Callable[..., int | None], arguments: Sequence[Any], env: Mapping[str, str], output: list[Path]
) -> None:
    for number, file in ((1, output[0]), (2, output[1])):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    faulthandler.enable()
    os.environ.clear()
    os.environ.update(env)
    import torch

    torch.set_num_threads(1)
    for place, method in quick_figures().items():
        setattr(*place, method)
    status = function(*arguments)
    sys.stdout.flush()
    sys.exit(status)


def _signclip(
    lines: Sequence[Sequence[str]], stop_at: int | None, hold: tuple[str, int] | None = None
) -> int:
    from mmpt.cli.main import main

    if hold is not None:
        _hold(*hold)
    if stop_at is not None:
        _signal_at(stop_at)
    return max(main(words) for words in lines)


def _lines(lines: Sequence[Sequence[str]], folder: Path, project: Path | None) -> int:
    os.chdir(folder)
    if project is not None:
        _forget_imports()
        sys.path[:] = [str(project), *(path for path in sys.path if path not in ("", str(ROOT)))]
    for program, *words in lines:
        if status := _line(program, words):
            return status
    return 0


def _line(program: str, words: list[str]) -> int:
    try:
        if program == "signclip":
            return importlib.import_module("mmpt.cli.main").main(words)
        sys.argv = words
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, str(Path(words[0]).resolve().parent))
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _forget_imports() -> None:
    """Import our code again, and fairseq, in which it is registered."""
    for name in [*sys.modules]:
        if name.partition(".")[0] in ("mmpt", "tests", "scripts", "fairseq", "fairseq_cli"):
            del sys.modules[name]
    logging.getLogger().handlers.clear()
    sys.excepthook = sys.__excepthook__


def _exec(code: str) -> int:
    _forget_imports()
    try:
        exec(code, {"__name__": "__main__"})
    except (Exception, KeyboardInterrupt):  # as Python does, not as multiprocessing does
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def _hold(place: str, count: int) -> None:
    """Wait for a signal at the count-th call of a method, if none has come before."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    module, _, names = place.partition(":")
    kind, _, name = names.partition(".")
    owner = getattr(importlib.import_module(module), kind)
    method, calls = getattr(owner, name), itertools.count(1)

    def held(*arguments, **options):
        if next(calls) == count:
            while os.read(read, 1)[0] == signal.SIGCHLD:
                continue
        return method(*arguments, **options)

    setattr(owner, name, held)


def _signal_at(update: int) -> None:
    from mmpt.fairseq_plugin.task import FairseqMMTask

    step = FairseqMMTask.train_step

    def train_step(self, sample, model, criterion, optimizer, update_num, *more, **options):
        if update_num == update:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, sample, model, criterion, optimizer, update_num, *more, **options)

    FairseqMMTask.train_step = train_step

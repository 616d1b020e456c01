"""Progress bars."""

import logging
import multiprocessing
import os
import signal
import sys

import pytest
import tqdm

from mmpt.utils.progress import Bar, Progress
from tests.waiting import PATIENCE


def draw() -> None:
    with Progress(2) as progress:
        progress.advance()


def stop_in_a_bar() -> None:
    Bar(total=1, disable=True).get_lock().acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def test_progress_of_a_killed_process_blocks_no_other() -> None:
    draw()
    fork = multiprocessing.get_context("fork")
    ended = []
    for function in (stop_in_a_bar, draw):
        process = fork.Process(target=function)
        process.start()
        process.join(PATIENCE)
        ended.append(process.exitcode)
        process.kill()
    assert ended == [-signal.SIGKILL, 0]


def test_progress_starts_no_thread_and_leaves_the_bars_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(Bar, "monitor", None)
    draw()
    assert Bar.monitor is None and tqdm.tqdm.monitor_interval > 0
    assert tqdm.tqdm.get_lock() is not Bar.get_lock()


def test_progress_shows_slow_clips_after_fast_ones(capsys: pytest.CaptureFixture[str]) -> None:
    clock = 0.0
    with Bar(total=2000, file=sys.stderr, mininterval=1.0) as bar:
        bar._time, bar.start_t, bar.last_print_t = (lambda: clock), 0.0, 0.0
        for _ in range(1000):
            clock += 0.001
            bar.update()
        capsys.readouterr()
        clock += 10.0
        bar.update()
        assert "1001/2000" in capsys.readouterr().err


def test_progress_writes_logs_above_the_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [logging.StreamHandler(sys.stderr)])
    with Progress(2) as progress:
        progress.advance()
        logging.getLogger("mmpt.somewhere").warning("a line")
    lines = capsys.readouterr().err.split("\n")
    assert any(line.rpartition("\r")[2].strip() == "a line" for line in lines)


def test_progress_that_is_not_shown_leaves_the_logs_where_they_go(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The logs of a caller may go to a file alone."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.NullHandler()])
    with Progress(2, shown=False) as progress:
        progress.advance()
        logging.getLogger("mmpt.somewhere").warning("a line")
    assert capsys.readouterr().err == ""

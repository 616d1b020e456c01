"""Mapping a function over items in several processes."""

import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mmpt.utils.errors import UserError
from mmpt.utils.parallel import _context, check_workers, ordered_map
from tests.waiting import PATIENCE, wait_until


def test_ordered_map_order():
    numbers = list(range(100))
    expected = [math.sqrt(n) for n in numbers]
    assert list(ordered_map(math.sqrt, numbers)) == expected
    assert list(ordered_map(math.sqrt, iter(numbers), workers=2, chunk=7)) == expected
    assert list(ordered_map(math.sqrt, [], workers=2)) == []


def test_ordered_map_errors():
    with pytest.raises(ValueError, match="math domain"):
        list(ordered_map(math.sqrt, [1, -1, 2], workers=2, chunk=1))


def test_number_of_workers(monkeypatch):
    monkeypatch.setattr("mmpt.utils.parallel.cores", lambda: 2)
    assert check_workers(None, 2) == 2 and check_workers(0, 2) == 0 and check_workers(64, 2) == 64
    for wrong in (-1, 65):
        with pytest.raises(UserError, match=rf"^--workers {wrong}: expected 0 to 64 \(.* 2 cores\)\.$"):
            check_workers(wrong, 2)
    monkeypatch.setattr("mmpt.utils.parallel.cores", lambda: 100)
    assert check_workers(800, 2) == 800
    with pytest.raises(UserError, match="expected 0 to 800"):
        check_workers(801, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="spawned processes start on demand")
def test_no_more_processes_than_chunks(monkeypatch):
    monkeypatch.setattr("mmpt.utils.parallel._context", lambda: multiprocessing.get_context("fork"))
    before = set(multiprocessing.active_children())
    done = ordered_map(math.sqrt, [4.0, 9.0, 16.0], workers=5, chunk=2)
    assert next(done) == 2.0 and len(set(multiprocessing.active_children()) - before) == 2
    assert list(done) == [3.0, 4.0]


def test_processes_are_spawned_beside_other_threads():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert _context().get_start_method() == "spawn"
    finally:
        stop.set()
        thread.join()


SLOW = """
import multiprocessing, os, time
from mmpt.utils.parallel import _context, ordered_map
if __name__ == "__main__":
    assert _context().get_start_method() == METHOD
    for _ in ordered_map(time.sleep, [0.1] * 1000, workers=2, chunk=1):
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
"""


def runs(pid: int) -> bool:
    """Whether a process has not ended; in some containers nobody waits for what has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent(number):
    """Without a message of their own: Ctrl-C in a terminal reaches them too."""
    command = [sys.executable, "-c", SLOW.replace("METHOD", "'fork'")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        workers = [int(pid) for pid in process.stdout.readline().split()]
        assert len(workers) == 2
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        process.wait(PATIENCE)
        try:
            wait_until(lambda: not any(map(runs, workers)), "the workers end")
        finally:
            for pid in filter(runs, workers):
                os.kill(pid, signal.SIGKILL)
        said = process.stderr.read()
    assert said.count("Traceback") == (number == signal.SIGINT), said


STARTING = """
import os, signal, sys, time
from multiprocessing.context import ForkProcess
from mmpt.utils.errors import run_cli
from mmpt.utils.parallel import ordered_map

start = ForkProcess.start

def start_and_signal(self):
    start(self)
    os.kill(os.getpid(), signal.SIGTERM)

def main():
    list(ordered_map(time.sleep, [0.1] * 20, workers=2, chunk=1))

if __name__ == "__main__":
    ForkProcess.start = start_and_signal
    sys.exit(run_cli(main))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
def test_a_signal_while_processes_start_ends_the_command():
    with subprocess.Popen(
        [sys.executable, "-c", STARTING], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            said = process.communicate(timeout=PATIENCE)[1]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert (process.returncode, said) == (128 + signal.SIGTERM, "terminated\n")

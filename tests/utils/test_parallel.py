"""Mapping a function over items in several processes."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mmpt.utils.errors import UserError
from mmpt.utils.parallel import _context, check_workers, ordered_map


def test_ordered_map_order():
    numbers = list(range(100))
    expected = [math.sqrt(n) for n in numbers]
    assert list(ordered_map(math.sqrt, numbers)) == expected
    assert list(ordered_map(math.sqrt, iter(numbers), workers=2, chunk=7)) == expected
    assert list(ordered_map(math.sqrt, [], workers=2)) == []


def test_ordered_map_errors():
    with pytest.raises(ValueError, match="math domain"):
        list(ordered_map(math.sqrt, [1, -1, 2], workers=2, chunk=1))
    with pytest.raises(UserError, match="--workers -1"):
        check_workers(-1, 2)
    assert check_workers(None, 2) == 2 and check_workers(0, 2) == 0


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
        process.wait(30)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in workers):
            time.sleep(0.02)
        left = [pid for pid in workers if Path(f"/proc/{pid}").exists()]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        said = process.stderr.read()
    assert not left and said.count("Traceback") == (number == signal.SIGINT), said

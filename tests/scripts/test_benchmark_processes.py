"""What the benchmarks run in a process of its own."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))


def test_benchmark_own_process_keeps_its_object() -> None:
    from benchmarks.common import own_process

    with own_process(bytearray, b"ab") as call:
        call("append", ord("c"))
        assert call("decode") == "abc"
    with pytest.raises(AttributeError, match="nothing"), own_process(bytearray) as call:
        call("nothing")
    with pytest.raises(ValueError, match="must be in range"), own_process(bytearray, [256]):
        pass
    assert not multiprocessing.active_children()


def test_benchmark_process_ends_with_an_error_outside() -> None:
    """Ctrl-C is an error of this process, while the other one may compute for minutes."""
    from benchmarks.common import own_process

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), own_process(threading.Event) as call:
        threading.Timer(0.1, signal.pthread_kill, [threading.get_ident(), signal.SIGINT]).start()
        call("wait", 60)
    assert time.monotonic() - began < 30
    assert not multiprocessing.active_children()


def test_benchmark_process_leaves_others_alone() -> None:
    from benchmarks.common import own_process

    with own_process(bytearray, b"a") as other:
        with pytest.raises(AttributeError), own_process(bytearray) as call:
            call("nothing")
        assert other("decode") == "a"


def test_benchmark_in_own_process() -> None:
    from benchmarks.common import in_own_process

    pid, memory = in_own_process(os.getpid)
    assert pid != os.getpid()
    assert memory > 2**20
    on_interrupt, _ = in_own_process(signal.getsignal, signal.SIGINT)
    assert on_interrupt == signal.SIG_IGN  # Ctrl-C reaches every process of a terminal

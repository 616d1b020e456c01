"""Commands that run other commands: what a signal to the one means for the other."""

import contextlib
import signal
import subprocess
from collections.abc import Iterator, Sequence
from types import FrameType


def run_forwarding_signals(command: Sequence[str]) -> int:
    """Run a command to its end and return its status; SIGTERM and Ctrl-C are handed on to it, and it decides.

    It gets a process group of its own, so that Ctrl-C in a terminal reaches it once, through us. A command
    that a signal ended has the status that a shell gives it, 128 + the signal's number.
    """
    process = subprocess.Popen(command, process_group=0)
    before = {
        number: signal.signal(number, lambda received, frame: process.send_signal(received))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status if status >= 0 else 128 - status


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """While the block runs, SIGTERM raises KeyboardInterrupt, so that what was started is stopped as well."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""Run other commands and forward signals to them."""

import contextlib
import signal
import subprocess
from collections.abc import Iterator, Sequence
from types import FrameType


def run_forwarding_signals(command: Sequence[str]) -> int:
    """Run a command to its end, forward SIGTERM and Ctrl-C to it, and return its exit status.

    The command gets its own process group, so that Ctrl-C in a terminal reaches it once. If a signal ended
    it, the status is 128 + the signal's number, as in a shell.
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
    """While the block runs, SIGTERM raises KeyboardInterrupt, so that child processes stop too."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""Run other commands and forward signals to them."""

import contextlib
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from mmpt.utils.signals import signals_to

Forward = Callable[["subprocess.Popen[bytes]"], None]
"""Makes a process the one that signals are forwarded to."""


def run_forwarding_signals(command: Sequence[str]) -> int:
    """Run a command to its end, forward SIGTERM and Ctrl-C to it, and return its exit status.

    The command gets its own process group, so that Ctrl-C in a terminal reaches it once. If a signal ended
    it, the status is 128 + the signal's number, as in a shell.
    """
    with signals_forwarded() as forward_to:
        process = subprocess.Popen(command, process_group=0)
        forward_to(process)
        status = process.wait()
    return status if status >= 0 else 128 - status


@contextlib.contextmanager
def signals_forwarded() -> Iterator[Forward]:
    """While it is entered, forward SIGTERM and Ctrl-C to the last process that the yielded function is given.

    A signal that comes while none runs is forwarded to the next one.
    """
    early: list[int] = []
    current: subprocess.Popen[bytes] | None = None

    def forward(number: int, frame: FrameType | None) -> None:
        if current is None or current.poll() is not None:
            early.append(number)
        else:
            current.send_signal(number)

    def forward_to(process: "subprocess.Popen[bytes]") -> None:
        nonlocal current
        current = process
        while early:
            process.send_signal(early.pop())

    with signals_to(forward, signal.SIGTERM, signal.SIGINT):
        yield forward_to

"""Run other commands and forward signals to them."""

import contextlib
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence

from mmpt.utils.signals import signals_to


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
def signals_forwarded() -> Iterator[Callable[["subprocess.Popen[bytes]"], None]]:
    """While it is entered, forward SIGTERM and Ctrl-C to the process that the yielded function is given.

    A signal that comes earlier, while the process starts, is forwarded then.
    """
    early: list[int] = []
    send: Callable[[int], None] = early.append

    def forward_to(process: "subprocess.Popen[bytes]") -> None:
        nonlocal send
        send = process.send_signal
        for number in early:
            send(number)

    with signals_to(lambda received, frame: send(received), signal.SIGTERM, signal.SIGINT):
        yield forward_to

"""Run other commands and forward signals to them."""

import signal
import subprocess
from collections.abc import Sequence

from mmpt.utils.signals import signals_to


def run_forwarding_signals(command: Sequence[str]) -> int:
    """Run a command to its end, forward SIGTERM and Ctrl-C to it, and return its exit status.

    The command gets its own process group, so that Ctrl-C in a terminal reaches it once. If a signal ended
    it, the status is 128 + the signal's number, as in a shell.
    """
    process = subprocess.Popen(command, process_group=0)
    with signals_to(lambda received, frame: process.send_signal(received), signal.SIGTERM, signal.SIGINT):
        status = process.wait()
    return status if status >= 0 else 128 - status

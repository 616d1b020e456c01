"""SIGTERM and Ctrl-C ask training to stop after the current update, with a checkpoint."""

import contextlib
import logging
import signal
import time
from collections.abc import Iterator
from types import FrameType

from mmpt.utils.signals import signals_to

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE_SECONDS = 2.0
"""Signals within this time count as one request: a job manager may signal all processes of a job, and the
launcher forwards its own."""


class StopRequest:
    """The signal that has asked training to stop, if any."""

    received: signal.Signals | None = None

    @property
    def status(self) -> int:
        """Exit status of a process that the signal ended, as shells report it; 0 without a signal."""
        return 0 if self.received is None else 128 + self.received


@contextlib.contextmanager
def stop_on_signals(stop: StopRequest) -> Iterator[None]:
    """While the block runs, the first SIGTERM or SIGINT is noted in `stop`.

    Another one, more than GRACE_SECONDS later, has its usual effect.
    """
    first = 0.0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if stop.received is None:
            stop.received, first = signal.Signals(number), time.monotonic()
            log.warning("%s: saving a checkpoint and stopping; once more stops at once", stop.received.name)
        elif time.monotonic() - first > GRACE_SECONDS:
            signal.signal(number, before[number])
            signal.raise_signal(number)

    with signals_to(note, *SIGNALS) as before:
        yield

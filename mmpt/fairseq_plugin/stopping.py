"""Stop when asked: SIGTERM or Ctrl-C ends training behind the current update, with a checkpoint."""

import contextlib
import logging
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

from omegaconf import open_dict

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Which signal has asked training to stop, if any."""

    received: signal.Signals | None = None

    @property
    def status(self) -> int:
        """The exit status of a process that this signal ended, as a shell says it; 0 without one."""
        return 0 if self.received is None else 128 + self.received


@contextlib.contextmanager
def stop_on_signals(cfg: Any) -> Iterator[Stop]:
    """While the block runs, the first SIGTERM or SIGINT makes fairseq save checkpoint_last.pt and return.

    cfg: fairseq's configuration, as its training loop holds it. The loop ends at `max_update`; validation is
    left out, so that no checkpoint is judged that an uninterrupted run would not have judged. A second signal
    ends the process at once, as it would without this.
    """
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.received = signal.Signals(number)
        log.warning("%s: saving a checkpoint and stopping; once more stops at once", stop.received.name)
        with open_dict(cfg):
            cfg.optimization.max_update = 1
            cfg.dataset.disable_validation = True
        for each in SIGNALS:
            signal.signal(each, before[each])

    before = {each: signal.signal(each, ask) for each in SIGNALS}
    try:
        yield stop
    finally:
        for each in SIGNALS:
            signal.signal(each, before[each])

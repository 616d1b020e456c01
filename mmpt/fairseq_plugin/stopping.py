"""Training ends behind the current update, with a checkpoint, when it is asked to by SIGTERM or Ctrl-C."""

import contextlib
import logging
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from fairseq import checkpoint_utils
from fairseq_cli import train as fairseq_train

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
AT_ONCE = 2.0
"""Seconds in which signals are one request: who stops a job may signal all of its processes, and the launcher
hands its own on."""


class Stop:
    """Which signal has asked training to stop, if any."""

    received: signal.Signals | None = None

    @property
    def status(self) -> int:
        """The exit status of a process that this signal ended, as a shell says it; 0 without one."""
        return 0 if self.received is None else 128 + self.received


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """While the block runs, the first SIGTERM or SIGINT makes fairseq save checkpoint_last.pt and return.

    What an uninterrupted run would judge is judged, and nothing else. A later signal (see AT_ONCE) ends the
    process at once, as it would without this.
    """
    stop = Stop()
    asked = 0.0
    plain = fairseq_train.validate_and_save

    def validate_and_save(cfg: Any, trainer: Any, task: Any, epochs: Any, subsets: Any, ended: bool) -> Any:
        if not stop.received:
            return plain(cfg, trainer, task, epochs, subsets, ended)
        judged, saved = due(cfg, trainer.get_num_updates(), epochs.epoch, ended)
        losses = fairseq_train.validate(cfg, trainer, task, epochs, subsets) if judged else [None]
        saved |= fairseq_train.should_stop_early(cfg, losses[0])
        if ended and not saved:
            trainer.lr_step(epochs.epoch, losses[0])  # elsewhere a checkpoint holds the value for it
        # only what would have been saved anyway can be the best checkpoint
        checkpoint_utils.save_checkpoint(cfg.checkpoint, trainer, epochs, losses[0] if saved else None)
        return losses, True

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if not stop.received:
            stop.received, asked = signal.Signals(number), time.monotonic()
            log.warning("%s: saving a checkpoint and stopping; once more stops at once", stop.received.name)
        elif time.monotonic() - asked > AT_ONCE:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)

    before = {each: signal.signal(each, ask) for each in SIGNALS}
    fairseq_train.validate_and_save = validate_and_save
    try:
        yield stop
    finally:
        fairseq_train.validate_and_save = plain
        for each in SIGNALS:
            signal.signal(each, before[each])


def due(cfg: Any, update: int, epoch: int, ended: bool) -> tuple[bool, bool]:
    """Whether fairseq validates, and whether it saves, behind an update of an epoch, which has `ended` with
    it or not."""

    def at(interval: int) -> bool:
        return interval > 0 and update % interval == 0

    last = is_last(cfg, update)
    judging = update >= cfg.dataset.validate_after_updates
    saved = last or (judging and at(cfg.checkpoint.save_interval_updates))
    judged = last or at(cfg.dataset.validate_interval_updates) or (saved and not ended)
    if ended:
        saved = saved or epoch % cfg.checkpoint.save_interval == 0
        judged = judged or epoch % cfg.dataset.validate_interval == 0
    return judged and judging and not cfg.dataset.disable_validation, saved


def is_last(cfg: Any, updates: int) -> bool:
    """Whether so many updates are all that max_update lets a run have."""
    return 0 < cfg.optimization.max_update <= updates

"""When training ends: behind the current update, with a checkpoint, when it is asked to by SIGTERM or Ctrl-C;
and at once where it had ended by patience before.
"""

import contextlib
import logging
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

from fairseq_cli import train as fairseq_train
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

    cfg: fairseq's configuration, as its training loop holds it. The loop ends at `max_update`. What an
    uninterrupted run would judge is judged, and nothing else. A second signal ends the process at once, as it
    would without this.
    """
    stop = Stop()
    save = fairseq_train.validate_and_save

    def validate_and_save(cfg: Any, trainer: Any, task: Any, epochs: Any, subsets: Any, ended: bool) -> Any:
        if stop.received and not is_judged(cfg, trainer.get_num_updates(), epochs.epoch, ended):
            with open_dict(cfg):
                cfg.dataset.disable_validation = True
        return save(cfg, trainer, task, epochs, subsets, ended)

    def ask(number: int, frame: FrameType | None) -> None:
        stop.received = signal.Signals(number)
        log.warning("%s: saving a checkpoint and stopping; once more stops at once", stop.received.name)
        with open_dict(cfg):
            cfg.optimization.max_update = 1
        for each in SIGNALS:
            signal.signal(each, before[each])

    before = {each: signal.signal(each, ask) for each in SIGNALS}
    fairseq_train.validate_and_save = validate_and_save
    try:
        yield stop
    finally:
        fairseq_train.validate_and_save = save
        for each in SIGNALS:
            signal.signal(each, before[each])


def is_judged(cfg: Any, update: int, epoch: int, ended: bool) -> bool:
    """Whether fairseq validates and saves behind an update of an epoch, which has `ended` with it or not."""

    def due(interval: int) -> bool:
        return interval > 0 and update % interval == 0

    saved = due(cfg.checkpoint.save_interval_updates)
    validated = due(cfg.dataset.validate_interval_updates)
    if ended:
        saved = saved or epoch % cfg.checkpoint.save_interval == 0
        validated = validated or epoch % cfg.dataset.validate_interval == 0
    return saved and (validated or not ended)


@contextlib.contextmanager
def stay_stopped() -> Iterator[None]:
    """While the block runs, fairseq trains no further epoch where the checkpoint that it goes on from is that
    of a run that `patience` has ended. What it knows of a run before, in the same process, is forgotten."""
    train = fairseq_train.train
    vars(fairseq_train.should_stop_early).clear()

    def train_unless_ended(cfg: Any, trainer: Any, task: Any, epochs: Any) -> Any:
        fairseq_train.train = train  # only the first epoch can be one too many
        in_vain = getattr(fairseq_train.should_stop_early, "num_runs", 0)
        if 0 < cfg.checkpoint.patience <= in_vain:
            log.info("this run has ended before: no better checkpoint in %d validations (patience)", in_vain)
            return [None], True
        return train(cfg, trainer, task, epochs)

    fairseq_train.train = train_unless_ended
    try:
        yield
    finally:
        fairseq_train.train = train

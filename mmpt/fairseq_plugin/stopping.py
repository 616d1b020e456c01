"""When training ends: behind the current update, with a checkpoint, when it is asked to by SIGTERM or Ctrl-C;
and at once where it had ended before, by patience or at its last update. How it goes on from a checkpoint.
"""

import contextlib
import logging
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from fairseq import checkpoint_utils
from fairseq.trainer import Trainer
from fairseq_cli import train as fairseq_train

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class UnfitCheckpointError(Exception):
    """A checkpoint does not fit the run that is to go on from it."""


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

    What an uninterrupted run would judge is judged, and nothing else. A second signal ends the process at
    once, as it would without this.
    """
    stop = Stop()
    plain = fairseq_train.validate_and_save

    def validate_and_save(cfg: Any, trainer: Any, task: Any, epochs: Any, subsets: Any, ended: bool) -> Any:
        if not stop.received:
            return plain(cfg, trainer, task, epochs, subsets, ended)
        judged, saved = due(cfg, trainer.get_num_updates(), epochs.epoch, ended)
        losses = fairseq_train.validate(cfg, trainer, task, epochs, subsets) if judged else [None]
        saved |= fairseq_train.should_stop_early(cfg, losses[0])
        # only what would have been saved anyway can be the best checkpoint
        checkpoint_utils.save_checkpoint(cfg.checkpoint, trainer, epochs, losses[0] if saved else None)
        return losses, True

    def ask(number: int, frame: FrameType | None) -> None:
        stop.received = signal.Signals(number)
        log.warning("%s: saving a checkpoint and stopping; once more stops at once", stop.received.name)
        for each in SIGNALS:
            signal.signal(each, before[each])

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


@contextlib.contextmanager
def go_on_as_before(loaded: Callable[[], None]) -> Iterator[None]:
    """While the block runs, fairseq goes on from a checkpoint as the run that wrote it would have: it trains
    nothing more where `patience` or `max_update` had ended that run, and counts on to the next update of the
    weights' running mean. What it knows of a run before, in the same process, is forgotten.

    loaded: called when the checkpoint, if there is one, has been read. The block raises UnfitCheckpointError
    where it does not fit the model, the loss or the optimizer.
    """
    train, load = fairseq_train.train, Trainer.load_checkpoint
    for function in (fairseq_train.should_stop_early, checkpoint_utils.save_checkpoint):
        vars(function).clear()  # where fairseq keeps the best validation so far

    def train_unless_ended(cfg: Any, trainer: Any, task: Any, epochs: Any) -> Any:
        fairseq_train.train = train  # only the first epoch can be one too many
        updates = trainer.get_num_updates()
        in_vain = getattr(fairseq_train.should_stop_early, "num_runs", 0)
        if 0 < cfg.checkpoint.patience <= in_vain:
            log.info("this run has ended before: no better checkpoint in %d validations (patience)", in_vain)
            return [None], True
        if is_last(cfg, updates):
            log.info("this run has ended before: at update %d (max_update)", updates)
            return [None], True
        if cfg.ema.store_ema:
            trainer.ema.update_freq_counter = updates % cfg.ema.ema_update_freq
        return train(cfg, trainer, task, epochs)

    def load_and_tell(*arguments: Any, **options: Any) -> Any:
        try:
            state = load(*arguments, **options)
        except (OSError, RuntimeError):
            raise
        except Exception as error:  # an assertion, a missing key, a count, or fairseq's plain Exception
            raise UnfitCheckpointError from error
        if state is not None:
            _tell(arguments[0], arguments[1], state)
        loaded()
        return state

    fairseq_train.train, Trainer.load_checkpoint = train_unless_ended, load_and_tell
    try:
        yield
    finally:
        fairseq_train.train, Trainer.load_checkpoint = train, load


def _tell(trainer: Any, checkpoint: str, state: Any) -> None:
    """Say where a run goes on."""
    epoch, last = state["train_iterator"]["epoch"], trainer.cfg.optimization.max_epoch
    if 0 < last < epoch:
        log.info("%s: all %d epochs are trained, nothing is left to do", checkpoint, epoch - 1)
    else:
        log.info("going on from %s, behind update %d", checkpoint, trainer.get_num_updates())

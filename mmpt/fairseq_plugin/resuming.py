"""A run goes on from a checkpoint as if nothing had interrupted it, where fairseq would not see to that."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

from fairseq import checkpoint_utils
from fairseq.optim.lr_scheduler.reduce_lr_on_plateau import ReduceLROnPlateauLRSchedule
from fairseq.trainer import Trainer
from fairseq_cli import train as fairseq_train

from mmpt.fairseq_plugin.stopping import is_last

log = logging.getLogger(__name__)


class UnfitCheckpointError(Exception):
    """A checkpoint does not fit the run that is to go on from it."""


@contextlib.contextmanager
def go_on_as_before(loaded: Callable[[], None]) -> Iterator[None]:
    """While the block runs, fairseq goes on from a checkpoint as the run that wrote it would have: it trains
    nothing more where that run had ended, and the scheduler and the weights' running mean (EMA) are where
    they were. What fairseq knows of a run before, in the same process, is forgotten.

    loaded: called when the checkpoint, if there is one, has been read. The block raises UnfitCheckpointError
    where it does not fit the model, the loss or the optimizer.
    """
    for function in (fairseq_train.should_stop_early, checkpoint_utils.save_checkpoint):
        vars(function).clear()  # where fairseq keeps the best validation so far
    train, load, plateau = fairseq_train.train, Trainer.load_checkpoint, ReduceLROnPlateauLRSchedule
    plateau_state, load_plateau = plateau.state_dict, plateau.load_state_dict
    score: float | None = None  # of the epoch that the checkpoint ended, which the scheduler has not seen

    def load_checkpoint(
        trainer: Any, file: str, anew: bool = False, scheduler_anew: bool = False, *more: Any, **options: Any
    ) -> Any:
        nonlocal score
        try:
            state = load(trainer, file, anew, scheduler_anew, *more, **options)
        except (OSError, RuntimeError):
            raise
        except Exception as error:  # an assertion, a missing key, a count, or fairseq's plain Exception
            raise UnfitCheckpointError from error
        if state and not (anew or scheduler_anew) and state["train_iterator"]["iterations_in_epoch"] == 0:
            score = state["val_loss"]
        if state:
            _tell(trainer, file, state)
        loaded()
        return state

    def train_unless_ended(cfg: Any, trainer: Any, task: Any, epochs: Any) -> Any:
        fairseq_train.train = train  # only the first epoch can be one too many
        rate = trainer.lr_step(max(1, epochs.next_epoch_idx - 1), score)
        why = why_ended(cfg, trainer.get_num_updates(), rate, trainer.cumulative_training_time() / 3600)
        if why is not None:
            log.info("this run has ended before: %s", why)
            return [None], True
        if cfg.ema.store_ema:
            trainer.ema.update_freq_counter = trainer.get_num_updates() % cfg.ema.ema_update_freq
        return train(cfg, trainer, task, epochs)

    def state_dict(scheduler: Any) -> dict[str, Any]:
        return {**plateau_state(scheduler), "in_vain": scheduler.lr_scheduler.num_bad_epochs}

    def load_state_dict(scheduler: Any, state: dict[str, Any]) -> None:
        load_plateau(scheduler, state)
        scheduler.lr_scheduler.num_bad_epochs = state.get("in_vain", 0)

    fairseq_train.train, Trainer.load_checkpoint = train_unless_ended, load_checkpoint
    plateau.state_dict, plateau.load_state_dict = state_dict, load_state_dict
    try:
        yield
    finally:
        fairseq_train.train, Trainer.load_checkpoint = train, load
        plateau.state_dict, plateau.load_state_dict = plateau_state, load_plateau


def why_ended(cfg: Any, updates: int, rate: float, hours: float) -> str | None:
    """Which limit a run of so many updates and hours, with this learning rate, has reached, or None."""
    in_vain = getattr(fairseq_train.should_stop_early, "num_runs", 0)
    if 0 < cfg.checkpoint.patience <= in_vain:
        return f"no better checkpoint in {in_vain} validations (patience)"
    if is_last(cfg, updates):
        return f"at update {updates} (max_update)"
    if 0 < cfg.optimization.stop_time_hours < hours:
        return f"after {hours:.2g} hours (stop_time_hours)"
    if rate <= cfg.optimization.stop_min_lr:
        return f"at a learning rate of {rate:g} (stop_min_lr)"
    return None


def _tell(trainer: Any, checkpoint: str, state: dict[str, Any]) -> None:
    """Say where a run goes on."""
    epoch, last = state["train_iterator"]["epoch"], trainer.cfg.optimization.max_epoch
    if 0 < last < epoch:
        log.info("%s: all %d epochs are trained, nothing is left to do", checkpoint, epoch - 1)
    else:
        log.info("going on from %s, behind update %d", checkpoint, trainer.get_num_updates())

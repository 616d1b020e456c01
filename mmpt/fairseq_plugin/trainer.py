"""Runs a training plan with fairseq's Trainer, made to resume exactly and to stop on request.

Written for fairseq 0.12.3; tests/fairseq_plugin/test_patches.py fails when that version changes.
"""

import contextlib
import hashlib
import logging
import os
import signal
from collections.abc import Iterator
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.distributed import utils as distributed_utils
from fairseq.logging import metrics
from fairseq.optim.lr_scheduler.polynomial_decay_schedule import PolynomialDecayLRSchedule
from fairseq.optim.lr_scheduler.reduce_lr_on_plateau import ReduceLROnPlateauLRSchedule
from fairseq.trainer import Trainer
from fairseq_cli import train as fairseq_train

from mmpt.fairseq_plugin.ema import build_ema
from mmpt.fairseq_plugin.optimizer import has_fused_step
from mmpt.models.precision import matmul_precision
from mmpt.training.run import TrainingPlan, active
from mmpt.training.signals import stop_on_signals
from mmpt.utils.allocator import keep_freed_memory
from mmpt.utils.checkpoint import load_torch_file
from mmpt.utils.distributed import any_rank, connection_lost, rank
from mmpt.utils.errors import UserError
from mmpt.utils.progress import logs_above_bars

log = logging.getLogger(__name__)


EPS = 1e-6
"""Added to the norm of the gradients before clipping, by fairseq and torch."""


class RunEnded(SystemExit):
    """Ends fairseq's training loop, which has no other way out between two of its steps; an exit status."""


def train(plan: TrainingPlan, settings: Any) -> int:
    """Train, and return the exit status: 0, or 128 + the signal that stopped training.

    settings: fairseq's, of the plan's arguments (see parse_fairseq_config).
    """
    keep_freed_memory()
    if "RANK" in os.environ:
        _use_torchrun(settings)
    precision = matmul_precision(plan.config.model.matmul_precision)
    ends, above = contextlib.suppress(RunEnded), logs_above_bars()
    with active(plan), stop_on_signals(plan.stop), ends, _one_line_if_lost(), precision, above, plan.at_end:
        distributed_utils.call_main(settings, fairseq_train.main)
    if plan.stop.received and os.environ.get("RANK", "0") == "0":
        log.warning(
            "stopped by %s: the same command resumes from the last checkpoint", plan.stop.received.name
        )
    return plan.stop.status


@contextlib.contextmanager
def _one_line_if_lost() -> Iterator[None]:
    """Raises UserError instead of torch's error if another process of the training has ended."""
    try:
        yield
    except RuntimeError as error:
        if str(error).startswith("DataLoader worker (pid"):
            raise UserError(
                f"a process that reads batches was killed, possibly out of memory ({error}). Set a lower "
                "fairseq.dataset.num_workers; the same command resumes from the last checkpoint."
            ) from None
        if not connection_lost(error):
            raise
        raise UserError(
            f"rank {os.environ.get('RANK', 0)} lost the connection to another process of the training, which "
            "ended or whose node failed: see its log. The same command resumes from the last checkpoint."
        ) from None


def _use_torchrun(settings: Any) -> None:
    """Take the world that torchrun made; fairseq's own detection expects GPUs."""
    distributed = settings.distributed_training
    distributed.distributed_init_method = "env://"
    distributed.distributed_world_size = int(os.environ["WORLD_SIZE"])
    distributed.distributed_rank = int(os.environ["RANK"])
    distributed.device_id = int(os.environ["LOCAL_RANK"])
    distributed.distributed_no_spawn = True
    settings.checkpoint.load_checkpoint_on_all_dp_ranks = True  # sent by pickle otherwise: torch refuses that
    if not torch.cuda.is_available():
        distributed.distributed_backend = "gloo"
        distributed.ddp_backend = "legacy_ddp"  # fairseq's default hands torch the number of a GPU


class MMTrainer(Trainer):
    """A resumed run ends with the weights of a run that was never interrupted.

    fairseq's own Trainer, on resume, trains one update more if the run had ended, loses the validation score
    that the learning rate schedule has not seen yet, the plateau schedule's count of bad epochs, the rate
    that polynomial_decay starts the epoch from (force_anneal), and the EMA's count of updates.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        # fairseq keeps the best validation in attributes of these functions: forget those of a run before,
        # in the same process
        for function in (fairseq_train.should_stop_early, checkpoint_utils.save_checkpoint):
            vars(function).clear()
        super().__init__(*args, **kwargs)
        self._begun = False
        self._resumed: tuple[str, dict[str, Any]] | None = None
        self._unseen_score: float | None = None
        self._annealed: float | None = None

    def _build_ema(self) -> None:
        if self.cfg.ema.store_ema:
            self._ema = build_ema(self._model, self.cfg.ema, self.device)

    def state_dict(self) -> dict[str, Any]:
        """The training state, with a digest of the epoch's batches and the plateau schedule's count."""
        state = super().state_dict()
        # a row of a stack (see SharedStack) would be saved with a reference to the whole stack
        state["model"].update({name: _alone(tensor) for name, tensor in state["model"].items()})
        state["extra_state"]["batches"] = batches_digest(self._epochs)
        if self.task.epoch_batches is not None:
            state["extra_state"]["neighbours"] = self.task.epoch_batches.state_dict()
        if isinstance(self.lr_scheduler, ReduceLROnPlateauLRSchedule):
            scheduler = state["optimizer_history"][-1]["lr_scheduler_state"]
            scheduler["num_bad_epochs"] = self.lr_scheduler.lr_scheduler.num_bad_epochs
        if isinstance(self.lr_scheduler, PolynomialDecayLRSchedule):
            state["optimizer_history"][-1]["lr_scheduler_state"]["lr"] = self.lr_scheduler.lr
        return state

    def load_checkpoint(
        self,
        filename: str,
        reset_optimizer: bool = False,
        reset_lr_scheduler: bool = False,
        *args: Any,
        **kwargs: Any,
    ) -> dict[str, Any] | None:
        """Load a checkpoint, if there is one, log where the run resumes, and then write the run's config.

        Raises UserError if the checkpoint does not fit the model, the loss or the optimizer.
        """
        try:
            state = super().load_checkpoint(filename, reset_optimizer, reset_lr_scheduler, *args, **kwargs)
        except (OSError, RuntimeError):
            raise
        except Exception as error:  # an assertion, a missing key, a count, or fairseq's plain Exception
            if not self.task.plan.start.resumes:
                raise
            raise self.task.plan.start.does_not_fit(error) from error
        if state is not None:
            if state["train_iterator"]["iterations_in_epoch"] and not self.cfg.checkpoint.reset_dataloader:
                self._resumed = filename, state
                if self.task.epoch_batches is not None:
                    self.task.epoch_batches.restore(state.get("neighbours"))
            if not (reset_optimizer or reset_lr_scheduler):
                self._resume_scheduler(state)
            if self.cfg.ema.store_ema:
                self.ema.update_freq_counter = self.get_num_updates() % self.cfg.ema.ema_update_freq
            self._report(filename, state)
        if rank() == 0:
            self.task.plan.save_record()
        return state

    def _resume_scheduler(self, state: dict[str, Any]) -> None:
        saved = self._optim_history[-1]["lr_scheduler_state"]
        if state["train_iterator"]["iterations_in_epoch"] == 0:  # saved at the end of an epoch
            self._unseen_score = state["val_loss"]
        if isinstance(self.lr_scheduler, ReduceLROnPlateauLRSchedule):
            bad_epochs = saved.get("num_bad_epochs", saved.get("in_vain", 0))  # "in_vain" until 0.1.0
            self.lr_scheduler.lr_scheduler.num_bad_epochs = bad_epochs
        if isinstance(self.lr_scheduler, PolynomialDecayLRSchedule) and self.lr_scheduler.cfg.force_anneal:
            self._annealed = self.lr_scheduler.lr = saved.get("lr", self.lr_scheduler.lr)

    def _report(self, checkpoint: str, state: dict[str, Any]) -> None:
        epoch, last = state["train_iterator"]["epoch"], self.cfg.optimization.max_epoch
        if 0 < last < epoch:
            log.info("%s: all %d epochs are trained, nothing is left to do", checkpoint, epoch - 1)
        else:
            log.info("resuming from %s, after update %d", checkpoint, self.get_num_updates())

    def get_train_iterator(self, epoch: int, *args: Any, **kwargs: Any) -> Any:
        """fairseq's iterator over the epochs' batches.

        The first one after a checkpoint was loaded begins its epoch again if the checkpoint was written after
        other batches: fairseq counts the batches of an epoch, not their clips.
        """
        last = self.cfg.optimization.max_epoch
        if self.task.epoch_batches is not None and not 0 < last < epoch:  # fairseq asks for one epoch more
            self.task.epoch_batches.draw(self._model.mmmodel, self.device, epoch)
        self._epochs = super().get_train_iterator(epoch, *args, **kwargs)
        self._check_remainder(max(self.cfg.optimization.update_freq))
        if self._resumed is not None:
            (checkpoint, state), self._resumed = self._resumed, None
            place = state["train_iterator"]
            if not self._same_batches(checkpoint, state.get("batches")):
                log.log(
                    logging.WARNING if rank() == 0 else logging.DEBUG,
                    "epoch %d begins again: after the %d batches that were trained, its batches are made of "
                    "other clips now (another batch size, number of processes or data)",
                    *(place["epoch"], place["iterations_in_epoch"]),
                )
                place["iterations_in_epoch"] = 0
                metrics.reset_meters("train")
        return self._epochs

    def _check_remainder(self, update_freq: int) -> None:
        """Raises UserError if skip_remainder_batch leaves an epoch without an update."""
        batches = len(self._epochs)
        if self.cfg.optimization.skip_remainder_batch and batches <= update_freq:
            raise UserError(
                f"fairseq.optimization.skip_remainder_batch skips the last of {batches} batches of an epoch, "
                f"and an update takes {update_freq}: leave it out, or set a lower update_freq or batch_size."
            )

    def _same_batches(self, checkpoint: str, digest: str | None) -> bool:
        """Whether a checkpoint was written after these batches.

        digest: of its batches; None in those of older versions, whose size and processes are compared.
        """
        if digest is not None:
            return digest == batches_digest(self._epochs)
        before = load_torch_file(checkpoint).get("cfg") or {}
        size = before.get("dataset", {}).get("batch_size", self.cfg.dataset.batch_size)
        processes = before.get("distributed_training", {}).get("distributed_world_size", 1)
        return (size, processes) == (self.cfg.dataset.batch_size, self.data_parallel_world_size)

    def begin_epoch(self, epoch: int) -> None:
        """Begin an epoch. Raises RunEnded before the first one if the resumed run had reached a limit."""
        if not self._begun:
            self._begun = True
            rate = self.lr_step(max(1, epoch - 1), self._unseen_score)
            hours = self.cumulative_training_time() / 3600
            if reason := limit_reached(self.cfg, self.get_num_updates(), rate, hours):
                log.info("this run had already ended: %s", reason)
                raise RunEnded(0)
            if self._annealed is not None and self._epochs.iterations_in_epoch:
                self.optimizer.set_lr(self._annealed)  # the schedule takes it for the epoch's first rate
        super().begin_epoch(epoch)

    def train_step(self, samples: list[dict[str, Any]], raise_oom: bool = False) -> Any:
        """One update. Raises RunEnded after it, with a checkpoint written, if a signal asked to stop."""
        logged = super().train_step(samples, raise_oom)
        stop = self.task.plan.stop
        if any_rank(stop.received is not None, self.device):  # the signal may have reached one rank only
            stop.received = stop.received or signal.SIGTERM
            self._save_to_stop()
            raise RunEnded(stop.status)
        return logged

    def clip_grad_norm(self, clip_norm: float) -> torch.Tensor:
        """Scale the gradients down to this norm, if they are above it; returns the norm before.

        Uses the norm that the check for non-finite gradients computed, unless gradients changed since.
        """
        norm = self.task.non_finite.norm
        if norm is None or self.data_parallel_world_size > 1 or not has_fused_step(self.optimizer):
            return super().clip_grad_norm(clip_norm)
        total = torch.tensor(norm)
        if 0 < clip_norm < norm + EPS:
            # by a number: torch.nn.utils.clip_grads_with_norm_ copies the factor to a GPU, and waits
            gradients = [each.grad for each in self.optimizer.params if each.grad is not None]
            torch._foreach_mul_(gradients, min(1.0, float(clip_norm / (total + EPS))))
        return total

    def _save_to_stop(self) -> None:
        """Write checkpoint_last.pt. Validates only if a run that is not stopped would validate here."""
        ended = self._epochs.end_of_epoch()
        validates, saves = due(self.cfg, self.get_num_updates(), self._epochs.epoch, ended)
        subsets = self.cfg.dataset.valid_subset.split(",")
        score = None
        if validates:
            score = fairseq_train.validate(self.cfg, self, self.task, self._epochs, subsets)[0]
        saves |= fairseq_train.should_stop_early(self.cfg, score)
        if ended and not saves:
            self.lr_step(self._epochs.epoch, score)  # otherwise the checkpoint keeps the score for it
        # only what would have been saved anyway may become the best checkpoint
        checkpoint_utils.save_checkpoint(self.cfg.checkpoint, self, self._epochs, score if saves else None)


def _alone(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, or a copy of it if it is part of a larger one."""
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def batches_digest(epochs: Any) -> str:
    """A digest of the batches of fairseq's epoch iterator, and of what decides their order."""
    order = [epochs.num_shards, epochs.seed, epochs.grouped_shuffling, *map(list, epochs.frozen_batches)]
    return hashlib.sha256(repr(order).encode()).hexdigest()[:16]


def due(cfg: Any, update: int, epoch: int, ended: bool) -> tuple[bool, bool]:
    """Whether fairseq validates and whether it saves after an update.

    ended: whether it is the last update of the epoch.
    """

    def at(interval: int) -> bool:
        return interval > 0 and update % interval == 0

    last = 0 < cfg.optimization.max_update <= update
    late = update >= cfg.dataset.validate_after_updates
    saves = last or (late and at(cfg.checkpoint.save_interval_updates))
    validates = last or at(cfg.dataset.validate_interval_updates) or (saves and not ended)
    if ended:
        saves = saves or epoch % cfg.checkpoint.save_interval == 0
        validates = validates or epoch % cfg.dataset.validate_interval == 0
    return validates and late and not cfg.dataset.disable_validation, saves


def limit_reached(cfg: Any, updates: int, rate: float, hours: float) -> str | None:
    """Which limit a run has reached after so many updates and hours, at this learning rate; None if none."""
    bad = getattr(fairseq_train.should_stop_early, "num_runs", 0)
    if 0 < cfg.checkpoint.patience <= bad:
        return f"no better checkpoint in {bad} validations (patience)"
    if 0 < cfg.optimization.max_update <= updates:
        return f"at update {updates} (max_update)"
    if 0 < cfg.optimization.stop_time_hours < hours:
        return f"after {hours:.2g} hours (stop_time_hours)"
    if rate <= cfg.optimization.stop_min_lr:
        return f"at a learning rate of {rate:g} (stop_min_lr)"
    return None

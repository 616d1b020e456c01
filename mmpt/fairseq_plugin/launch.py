"""Runs a training plan with fairseq's training loop."""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

import torch
from fairseq.distributed import utils as distributed_utils
from fairseq_cli import train as fairseq_train

from mmpt.fairseq_plugin.trainer import RunEnded
from mmpt.models.precision import matmul_precision
from mmpt.training.run import TrainingPlan, active
from mmpt.training.signals import stop_on_signals
from mmpt.utils.allocator import keep_freed_memory
from mmpt.utils.distributed import connection_lost
from mmpt.utils.errors import UserError

log = logging.getLogger(__name__)


def train(plan: TrainingPlan, settings: Any, verbose: bool) -> int:
    """Train, and return the exit status: 0, or 128 + the signal that stopped training.

    settings: fairseq's, of the plan's arguments (see parse_fairseq_config). verbose: show fairseq's own log.
    """
    keep_freed_memory()
    if "RANK" in os.environ:
        _use_torchrun(settings)
    if not verbose:
        _silence_fairseq()
    precision = matmul_precision(plan.config.model.matmul_precision)
    ends = contextlib.suppress(RunEnded)
    with active(plan), stop_on_signals(plan.stop), ends, _one_line_if_lost(), precision:
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


def _silence_fairseq() -> None:
    for name in ("fairseq", "fairseq_cli", "torch", "train", "train_inner", "valid"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # it logs the traceback of a failed save, and then raises an error, which is shown in one line
    logging.getLogger("fairseq.checkpoint_utils").setLevel(logging.CRITICAL)

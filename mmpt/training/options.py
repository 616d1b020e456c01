"""The `fairseq:` section of a training config: what is refused, and what is changed before fairseq sees it.

`check_options` and `check_fine_tuning` refuse, `normalise` returns the options that fairseq is given. That an
option exists and has the right type is checked when a config is loaded (mmpt/config/fairseq_options.py).
"""

import importlib.util
import logging
import math
import os
from typing import Any

import torch

from mmpt.config import Config
from mmpt.config.fairseq_options import option
from mmpt.config.run_folder import LAST
from mmpt.losses import build_loss, needs_common_batches
from mmpt.models.finetuning import check_lora, need_peft
from mmpt.training.resume import Start, StartKind
from mmpt.utils.errors import UserError
from mmpt.utils.parallel import check_workers

log = logging.getLogger(__name__)

Groups = dict[str, dict[str, Any]]

METRICS = ("loss", "v2t_R@1", "t2v_P@1")
"""What validation reports, and `best_checkpoint_metric` may name (see mmpt/training/validation.py)."""

_RESETS = ("reset_optimizer", "reset_lr_scheduler", "reset_meters", "reset_dataloader")
_LIMITS = ("max_epoch", "max_update", "stop_time_hours", "patience")
_UNSUPPORTED = (  # option, its only supported value, why others are not supported
    ("fairseq.checkpoint.write_checkpoints_asynchronously", False, "saves nothing here"),
    ("fairseq.common.model_parallel_size", 1, "splits models written for it, and this is not one"),
    (
        "fairseq.distributed_training.zero_sharding",
        "none",
        "needs a package that is not part of this project",
    ),
    (
        "fairseq.checkpoint.no_save_optimizer_state",
        False,
        "leaves nothing that an interrupted run can resume",
    ),
    ("fairseq.checkpoint.no_last_checkpoints", False, "leaves nothing that an interrupted run can resume"),
    (
        "fairseq.checkpoint.checkpoint_suffix",
        "",
        "gives checkpoints names under which nothing looks for them",
    ),
    ("fairseq.checkpoint.continue_once", None, "is called fairseq.checkpoint.restore_file here"),
    ("fairseq.distributed_training.pipeline_model_parallel", False, "splits models written for it"),
    ("fairseq.distributed_training.cpu_offload", False, "is of fully_sharded, which is not supported"),
)
_LOGGERS = {
    "tensorboard_logdir": "tensorboard",
    "wandb_project": "wandb",
    "aim_repo": "aim",
    "azureml_logging": "azureml",
}
_DEFAULTS = (
    ("dataset", "required_batch_size_multiple", 1),  # fairseq's 8 would cut a batch of 35 to 32
    ("dataset", "num_workers", 0),  # poses come from a memory map: a worker costs more than it saves
    ("distributed_training", "distributed_world_size", 1),
)


def check_options(config: Config, config_file: str) -> None:
    """Raises UserError for options that are not supported, contradict each other or need other hardware."""
    groups = config.fairseq
    _check_batch_size(config, config_file)
    _check_precision(groups)
    _check_validation(groups)
    if option(groups, "finetune_from_model") is not None and option(groups, "restore_file", LAST) != LAST:
        raise UserError(
            "fairseq.checkpoint: finetune_from_model takes the weights of a checkpoint, restore_file all of "
            "it: leave one of them out."
        )
    unused = _need_validation(groups)
    if unused:
        log.info("no effect without validation (disable_validation): %s", ", ".join(unused))
    limits = [name for name in _LIMITS if name not in unused and option(groups, name, 0) > 0]
    if not limits and option(groups, "stop_min_lr", -1) < 0:
        raise UserError(
            "fairseq.optimization.max_epoch is 0 or not set, which to fairseq is no limit, and there is no "
            "other: this run would never end. Set it to the number of epochs."
        )
    processes = option(groups, "distributed_world_size", 1)
    if "RANK" not in os.environ and processes > max(1, torch.cuda.device_count()):
        raise UserError(
            f"fairseq.distributed_training.distributed_world_size is {processes}, but there are "
            f"{torch.cuda.device_count()} GPUs here: leave it out, and start several processes with "
            "signclip train --jobtype local_small (2) or local_big (4), or with torchrun."
        )
    check_workers(option(groups, "num_workers"), 0, "fairseq.dataset.num_workers")
    _check_loggers(groups)
    for key, supported, why in _UNSUPPORTED:
        value = option(groups, key.rpartition(".")[2], supported)
        if value != supported:
            raise UserError(f"{key}={str(value).lower()} {why}: leave it out.")
    backend = option(groups, "ddp_backend")
    if backend in ("fully_sharded", "slowmo"):
        raise UserError(
            f"fairseq.distributed_training.ddp_backend={backend} needs a package that is not part of this "
            "project: leave it out."
        )
    if config.loss.cached_chunk is not None:
        _check_cached(groups)


def _need_validation(groups: Groups) -> list[str]:
    """The options that have no effect because validation is disabled."""
    if not option(groups, "disable_validation"):
        return []
    names = [name for name in ("patience", "keep_best_checkpoints") if option(groups, name, 0) > 0]
    plateau = option(groups, "lr_scheduler") == "reduce_lr_on_plateau"
    return [*names, "lr_scheduler: reduce_lr_on_plateau"] if plateau else names


def _check_loggers(groups: Groups) -> None:
    """Raises UserError for a logger whose package is not installed: fairseq only warns, and logs nothing."""
    for name, package in _LOGGERS.items():
        if option(groups, name) and importlib.util.find_spec(package) is None:
            raise UserError(
                f"fairseq.common.{name} needs {package}, which is not installed: `pip install {package}`, or "
                "leave it out (metrics.jsonl beside the checkpoints holds the same metrics)."
            )


def _check_batch_size(config: Config, config_file: str) -> None:
    groups = config.fairseq
    for name in ("max_tokens", "max_tokens_valid"):
        if option(groups, name) is not None:
            raise UserError(
                f"fairseq.dataset.{name}: a batch is a number of clips here: leave it out and set "
                f"fairseq.dataset.{name.replace('max_tokens', 'batch_size')}."
            )
    if option(groups, "batch_size") is None:
        raise UserError(
            f"{config_file}: fairseq.dataset.batch_size is not set: set it to the number of clips in a batch."
        )
    for name, then in (
        ("batch_size", "nothing is learnt from it; take at least 2 (update_freq does not help)."),
        ("batch_size_valid", "its loss is 0; take at least 2."),
    ):
        if option(groups, name) == 1 and not config.loss.gather:
            raise UserError(f"fairseq.dataset.{name}=1: a batch of one clip has no negatives, and {then}")


def _check_precision(groups: Groups) -> None:
    for name in ("bf16", "memory_efficient_bf16", "tpu"):  # each of them makes fairseq look for a TPU
        if option(groups, name):
            raise UserError(
                f"fairseq.common.{name} trains on TPUs only: leave it out. model.autocast=bf16 computes in "
                "bf16 on CPUs and GPUs."
            )


def _check_validation(groups: Groups) -> None:
    if option(groups, "train_subset", "train") != "train":
        raise UserError("fairseq.dataset.train_subset: training is on the split 'train': leave it out.")
    if option(groups, "valid_subset", "valid") != "valid":
        raise UserError("fairseq.dataset.valid_subset: validation is on the split 'valid': leave it out.")
    metric = option(groups, "best_checkpoint_metric", "loss")
    if metric not in METRICS:
        raise UserError(
            f"fairseq.checkpoint.best_checkpoint_metric: expected one of {', '.join(METRICS)}, got "
            f"{metric!r}."
        )
    if option(groups, "max_valid_steps") and metric != "loss":
        raise UserError(
            "fairseq.dataset.max_valid_steps skips clips of the validation split, and "
            f"best_checkpoint_metric: {metric} ranks all of them: remove max_valid_steps."
        )
    maximize = option(groups, "maximize_best_checkpoint_metric")
    if maximize is not None and bool(maximize) != (metric != "loss"):
        raise UserError(
            f"fairseq.checkpoint.maximize_best_checkpoint_metric is {str(bool(maximize)).lower()}, but the "
            f"best checkpoint by {metric} is the one with the {'lowest' if metric == 'loss' else 'highest'} "
            "value: leave it out."
        )


def _check_cached(groups: Groups) -> None:
    if option(groups, "amp"):
        raise UserError(
            "loss.cached_chunk cannot be used with fairseq.common.amp: leave amp out and set "
            "model.autocast=bf16."
        )


def check_resets(config: Config, start: Start) -> None:
    """Raises UserError for `reset_*` that would have no effect: no other run's checkpoint is named.

    Published YAMLs name one, with reset_optimizer: a run that resumes in its own folder ignores both.
    """
    groups = config.fairseq
    given = [name for name in _RESETS if option(groups, name)]
    if not given or start.kind is StartKind.OTHER_RUN:
        return
    if option(groups, "restore_file", LAST) == LAST and not option(groups, "reset_optimizer"):
        raise UserError(
            f"fairseq.checkpoint.{given[0]} is for a checkpoint that restore_file names; a run in its own "
            "folder resumes with everything: leave it out. (An epoch whose batches have changed begins again "
            "by itself.)"
        )
    if start.own:
        log.info("%s resumes: %s ignored", start.checkpoint, " and ".join(given))


def check_fine_tuning(config: Config, start: Start) -> None:
    """Raises UserError for an impossible `model.lora_rank`, and if untrained parts would stay random."""
    model = config.model
    check_lora(model.lora_rank, model.train_last_layers, model.train_projections_only)
    if model.lora_rank:
        need_peft()
    if start.kind is not StartKind.SCRATCH:
        return
    where = "name a checkpoint with fairseq.checkpoint.finetune_from_model, or leave"
    if model.lora_rank and model.video_hidden_size is not None:
        raise UserError(
            "model.lora_rank adapts layers that were trained before, but with model.video_hidden_size the "
            f"video tower starts from random weights: {where} lora_rank out."
        )
    for name in ("train_last_layers", "train_projections_only"):
        if getattr(model, name):
            raise UserError(
                f"model.{name} does not train the video tower's frame MLP, which is random without a "
                f"checkpoint: {where} {name} out."
            )


def normalise(config: Config, start: Start) -> Groups:
    """The options that fairseq is given, by group; `config` is not changed.

    Published YAMLs reset the optimizer and the data loader at every start, which would discard the progress
    of an interrupted run: only a run that starts from another run's checkpoint obeys `reset_*`.
    """
    groups: Groups = {name: dict(options or {}) for name, options in config.fairseq.items()}
    _drop(groups, "finetune_from_model", "valid_subset")
    if start.kind is not StartKind.OTHER_RUN:
        _drop(groups, "restore_file", *_RESETS)
    halves = [name for name in ("fp16", "memory_efficient_fp16", "amp") if option(groups, name)]
    if halves and not torch.cuda.is_available():
        log.info("%s needs a GPU: training in fp32", halves[0])
        _drop(groups, "fp16", "memory_efficient_fp16")
    for group, name, value in _DEFAULTS:
        if option(groups, name) is None:
            _set(groups, group, name, value)
    if config.loss.cached_chunk is not None and list(build_loss(config.loss).parameters()):
        # torch's DDP sums gradients of a module's own backward pass, and the loss is outside the model: each
        # process would end up with a temperature of its own
        _set(groups, "distributed_training", "ddp_backend", "legacy_ddp")
    if needs_common_batches(config.loss):  # the parts of a common batch stay together
        _set(groups, "dataset", "grouped_shuffling", True)
    if steps := option(groups, "max_valid_steps"):
        _set(groups, "dataset", "max_valid_steps", steps - 1)  # fairseq validates one batch more
    if option(groups, "best_checkpoint_metric", "loss") != "loss":
        _set(groups, "checkpoint", "maximize_best_checkpoint_metric", True)
    _include_last_epoch(groups, "checkpoint", "save_interval")
    if not option(groups, "disable_validation"):
        _include_last_epoch(groups, "dataset", "validate_interval")
    return groups


def _include_last_epoch(groups: Groups, group: str, interval: str) -> None:
    """Make the last epoch a multiple of an interval: fairseq saves and validates at multiples only."""
    every, epochs = option(groups, interval, 1), option(groups, "max_epoch", 0)
    if epochs and epochs % every:
        _set(groups, group, interval, math.gcd(every, epochs))
        log.info(
            "%s is %d, so that it includes epoch %d, the last", interval, math.gcd(every, epochs), epochs
        )


def _set(groups: Groups, group: str, name: str, value: Any) -> None:
    _drop(groups, name)  # a published YAML may have it in another group
    groups.setdefault(group, {})[name] = value


def _drop(groups: Groups, *names: str) -> None:
    for options in groups.values():
        for name in names:
            options.pop(name, None)

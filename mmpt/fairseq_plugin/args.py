"""The `fairseq:` section -> the command line of `fairseq-train`."""

import logging
import math
import os
from pathlib import Path
from typing import Any

import torch

from mmpt.config import Config
from mmpt.config.fairseq_options import option, to_argv
from mmpt.losses import build_loss, needs_common_batches
from mmpt.models.finetuning import check_lora
from mmpt.models.folder import WEIGHTS_FILE
from mmpt.models.lora import need_peft
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.origins import where_checkpoint_comes_from

log = logging.getLogger(__name__)

_RESETS = ("reset_optimizer", "reset_lr_scheduler", "reset_meters", "reset_dataloader")
_DEFAULT_SAVE_DIR = "checkpoints"
LAST = "checkpoint_last.pt"
_JUDGES = ("loss", "v2t_R@1", "t2v_P@1")  # what validation tells: FairseqMMTask.reduce_metrics
_LIMITS = ("max_epoch", "max_update", "stop_time_hours", "patience")
_NEED_MORE = (  # option, its value without effect, what is wrong with others
    ("fairseq.checkpoint.write_checkpoints_asynchronously", False, "saves nothing here"),
    (
        "fairseq.common.model_parallel_size",
        1,
        "splits models that fairseq has made for that, and this is none",
    ),
    (
        "fairseq.distributed_training.zero_sharding",
        "none",
        "needs a package that is not part of this project",
    ),
    (
        "fairseq.checkpoint.no_save_optimizer_state",
        False,
        "leaves nothing that an interrupted run can go on from",
    ),
    (
        "fairseq.checkpoint.no_last_checkpoints",
        False,
        "leaves nothing that an interrupted run can go on from",
    ),
    (
        "fairseq.checkpoint.checkpoint_suffix",
        "",
        "gives checkpoints names under which nothing looks for them",
    ),
    ("fairseq.checkpoint.continue_once", None, "is called fairseq.checkpoint.restore_file here"),
)
_OUR_DEFAULTS = (
    ("dataset", "required_batch_size_multiple", 1),  # fairseq's 8 would cut a batch of 35 to 32
    ("dataset", "num_workers", 0),  # poses come out of a memory map: a worker costs more than it saves
    ("distributed_training", "distributed_world_size", 1),
)


def save_dir(groups: dict[str, Any]) -> Path:
    """Where checkpoints go."""
    return Path(str(option(groups, "save_dir", _DEFAULT_SAVE_DIR)))


def initial_weights(groups: dict[str, Any], folder: Path) -> Path | None:
    """The checkpoint that fine-tuning starts from, or None where there is none or where a run in `folder`
    goes on.

    `finetune_from_model`, or, as published YAMLs write it, `restore_file` together with `reset_optimizer`: a
    checkpoint, or a model folder, of which the weights are taken. Raises MissingDataError if it is not there.
    """
    if (folder / LAST).exists():
        return None
    path = option(groups, "finetune_from_model")
    restore = option(groups, "restore_file")
    if path is None and restore is not None and option(groups, "reset_optimizer"):
        path = restore
    if path is None:
        if restore not in (None, LAST) and not Path(restore).is_file():  # fairseq would begin anew
            raise MissingDataError(
                f"fairseq.checkpoint.restore_file: there is no checkpoint {restore} to go on from."
            )
        return None
    if (Path(path) / WEIGHTS_FILE).is_file():
        return Path(path) / WEIGHTS_FILE
    if not Path(path).is_file():
        raise MissingDataError(
            f"fairseq.checkpoint: there is no checkpoint or model folder {path} to start from. "
            f"{where_checkpoint_comes_from(Path(path)) or 'Put one there.'} "
            "Or name another: fairseq.checkpoint.finetune_from_model=FILE_OR_FOLDER."
        )
    return Path(path)


def train_argv(config: Config, taskconfig: str, overrides: list[str]) -> list[str]:
    """The arguments of `fairseq-train` for a config.

    Published YAMLs reset the optimizer and the data loader at every start, which would throw away the
    progress of an interrupted run: a run that finds its own checkpoint_last.pt goes on from it, and nothing
    is reset. What another run left, named in `restore_file`, is gone on from but for what is reset.
    """
    groups = {name: dict(options or {}) for name, options in config.fairseq.items()}
    if option(groups, "batch_size") is None:
        raise UserError(
            f"{taskconfig}: fairseq.dataset.batch_size is not set: how many clips stand in a batch?"
        )
    if option(groups, "batch_size") == 1 and not config.loss.gather:
        raise UserError(
            "fairseq.dataset.batch_size=1: a clip alone in its batch is contrasted with nothing, and nothing "
            "is learnt from it; take at least 2 (fairseq.optimization.update_freq does not help)."
        )
    _check_served(groups)
    if config.loss.cached_chunk is not None:
        _check_cached(groups)
        if list(build_loss(config.loss).parameters()):
            # torch's way sums a module's gradients in its backward pass, and the loss is none of the model's:
            # each process would go on with a temperature of its own
            _drop(groups, "ddp_backend")
            groups.setdefault("distributed_training", {})["ddp_backend"] = "legacy_ddp"
    _check_fine_tuning(config, groups)
    weights_alone = option(groups, "reset_optimizer")  # initial_weights
    if weights_alone or (save_dir(groups) / LAST).exists():
        _drop(groups, "restore_file")
    if option(groups, "restore_file", LAST) == LAST:  # nothing of another run's is there to be reset
        _drop(groups, *_RESETS)
    _drop(groups, "finetune_from_model")
    if not torch.cuda.is_available() and (option(groups, "fp16") or option(groups, "memory_efficient_fp16")):
        log.info("fp16 needs a GPU: training in fp32")
        _drop(groups, "fp16", "memory_efficient_fp16")
    for group, name, value in _OUR_DEFAULTS:
        if option(groups, name) is None:
            groups.setdefault(group, {})[name] = value
    if needs_common_batches(config.loss):  # their parts stay together
        _drop(groups, "grouped_shuffling")
        groups.setdefault("dataset", {})["grouped_shuffling"] = True
    _judge_the_right_way(groups)
    _drop(groups, "valid_subset")
    _include_last_epoch(groups, "checkpoint", "save_interval")
    if not option(groups, "disable_validation"):
        _include_last_epoch(groups, "dataset", "validate_interval")
    argv = [taskconfig, "--task", "mmtask", "--arch", "mmarch", "--criterion", "mmloss"]
    for override in overrides:
        argv += ["--override", override]
    return argv + to_argv(groups)


def _check_served(groups: dict[str, Any]) -> None:
    """Refuse options of fairseq that mean nothing to this task, or what this machine cannot give. Raises
    UserError."""
    for name in ("max_tokens", "max_tokens_valid"):
        if option(groups, name) is not None:
            raise UserError(
                f"fairseq.dataset.{name}: a batch is a number of clips here: leave it out and set "
                f"fairseq.dataset.{name.replace('max_tokens', 'batch_size')}."
            )
    for name in ("bf16", "memory_efficient_bf16", "tpu"):  # each of them makes fairseq look for a TPU
        if option(groups, name):
            raise UserError(
                f"fairseq.common.{name} trains on TPUs only: leave it out. model.autocast=bf16 computes in "
                "bf16 on CPUs and GPUs."
            )
    if option(groups, "train_subset", "train") != "train":
        raise UserError("fairseq.dataset.train_subset: training is on the split 'train': leave it out.")
    if option(groups, "valid_subset", "valid") != "valid":
        raise UserError("fairseq.dataset.valid_subset: validation is on the split 'valid': leave it out.")
    if option(groups, "max_valid_steps") and option(groups, "best_checkpoint_metric", "loss") != "loss":
        raise UserError(
            "fairseq.dataset.max_valid_steps leaves clips of the validation split out, and "
            f"best_checkpoint_metric: {option(groups, 'best_checkpoint_metric')} ranks all of them: leave it "
            "out."
        )
    if option(groups, "finetune_from_model") is not None and option(groups, "restore_file", LAST) != LAST:
        raise UserError(
            "fairseq.checkpoint: finetune_from_model takes the weights of a checkpoint, restore_file all of "
            "it: leave one of them out."
        )
    if not any(option(groups, name, 0) > 0 for name in _LIMITS) and option(groups, "stop_min_lr", -1) < 0:
        raise UserError(
            "fairseq.optimization.max_epoch is 0 or not set, which to fairseq is no limit, and there is no "
            "other: this run would never end. Set it to the number of epochs."
        )
    judge = option(groups, "best_checkpoint_metric", "loss")
    if judge not in _JUDGES:
        raise UserError(
            f"fairseq.checkpoint.best_checkpoint_metric: expected one of {', '.join(_JUDGES)}, got {judge!r}."
        )
    processes = option(groups, "distributed_world_size", 1)
    if "RANK" not in os.environ and processes > max(1, torch.cuda.device_count()):
        raise UserError(
            f"fairseq.distributed_training.distributed_world_size is {processes}, but there are "
            f"{torch.cuda.device_count()} GPUs here: leave it out, and start several processes with "
            "locallaunch.py --jobtype local_small (2) or local_big (4), or with torchrun."
        )
    for key, plain, why in _NEED_MORE:
        value = option(groups, key.rpartition(".")[2], plain)
        if value != plain:
            raise UserError(f"{key}={str(value).lower()} {why}: leave it out.")


def _judge_the_right_way(groups: dict[str, Any]) -> None:
    """A loss is best where it is least, a share of right answers where it is most. Raises UserError where
    the config says otherwise: fairseq would keep the worst checkpoint."""
    judge = option(groups, "best_checkpoint_metric", "loss")
    most, given = judge != "loss", option(groups, "maximize_best_checkpoint_metric")
    if given is not None and bool(given) != most:
        raise UserError(
            f"fairseq.checkpoint.maximize_best_checkpoint_metric is {str(bool(given)).lower()}, but the best "
            f"checkpoint by {judge} is that with the {'most' if most else 'least'}: leave it out."
        )
    if most:
        groups.setdefault("checkpoint", {})["maximize_best_checkpoint_metric"] = True


def _check_cached(groups: dict[str, Any]) -> None:
    """Refuse what loss.cached_chunk has not been made for. Raises UserError."""
    if option(groups, "amp"):
        raise UserError(
            "loss.cached_chunk does not go with fairseq.common.amp: leave amp out and set "
            "model.autocast=bf16."
        )
    backend = option(groups, "ddp_backend")
    if backend in ("fully_sharded", "slowmo"):
        raise UserError(
            f"loss.cached_chunk does not go with fairseq.distributed_training.ddp_backend={backend}: leave "
            "one of the two out."
        )


def _check_fine_tuning(config: Config, groups: dict[str, Any]) -> None:
    """Refuse options that leave layers out of training where these would know nothing, and model.lora_rank
    where it cannot be. Raises UserError."""
    model = config.model
    check_lora(model.lora_rank, model.train_last_layers, model.train_projections_only)
    if model.lora_rank:
        need_peft()
    other_run = option(groups, "restore_file", LAST) != LAST
    if option(groups, "finetune_from_model") or other_run or (save_dir(groups) / LAST).exists():
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
                f"model.{name} leaves the video tower's frame MLP out of training, and without a checkpoint "
                f"that is random: {where} {name} out."
            )


def _include_last_epoch(groups: dict[str, Any], group: str, interval: str) -> None:
    """fairseq saves and validates at multiples of an interval of epochs only: make the last epoch one."""
    every, epochs = option(groups, interval, 1), option(groups, "max_epoch", 0)
    if epochs and epochs % every:
        _drop(groups, interval)
        groups.setdefault(group, {})[interval] = math.gcd(every, epochs)
        log.info(
            "%s is %d, so that it includes epoch %d, the last", interval, math.gcd(every, epochs), epochs
        )


def _drop(groups: dict[str, Any], *names: str) -> None:
    for options in groups.values():
        for name in names:
            options.pop(name, None)

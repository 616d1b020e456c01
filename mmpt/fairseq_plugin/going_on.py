"""May a run go on from a checkpoint? Only as the experiment that it belongs to; others are refused before
anything is written. How a run goes on is in resuming.py."""

import dataclasses
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmpt.config import Config
from mmpt.config.compare import differences, trained_with
from mmpt.config.fairseq_options import option
from mmpt.fairseq_plugin.args import LAST, save_dir
from mmpt.utils.checkpoint import load_torch_file
from mmpt.utils.errors import UserError

log = logging.getLogger(__name__)

# what changes only how fast a model computes, or with how much memory, and of which nothing is kept
_WAYS_TO_COMPUTE = ("autocast", "compile", "activation_checkpointing", "init_ignore")
_SAME_EXPERIMENT = (
    *_WAYS_TO_COMPUTE,
    *("cached_chunk", "max_nonfinite", "store_dtype", "pad_to_max", "split", "allow_trial_features"),
)
_GO_ON = (  # of these more, or others, may be asked for
    *("fairseq.optimization.max_epoch", "fairseq.optimization.max_update", "fairseq.optimization.stop_"),
    *("fairseq.checkpoint.", "fairseq.common.", "fairseq.common_eval.", "fairseq.dataset.num_workers"),
)
_OF_THE_OPTIMIZER = (
    ("optimization", "optimizer", None),
    ("optimization", "lr_scheduler", "fixed"),
    ("common", "fp16", False),
    ("common", "memory_efficient_fp16", False),
    ("common", "amp", False),
    ("ema", "store_ema", False),
)


def gone_on_from(groups: dict[str, Any]) -> Path | None:
    """The checkpoint that a run goes on from with all that is in it, or None where it begins."""
    last = save_dir(groups) / LAST
    restore = option(groups, "restore_file", LAST)
    if last.exists():
        return last
    return None if restore == LAST or option(groups, "reset_optimizer") else Path(restore)


def check_gone_on(config: Config) -> None:
    """Refuse to go on from a checkpoint with settings that it does not fit, from a file that is none, or from
    weights alone. Raises UserError."""
    groups = config.fairseq
    checkpoint = gone_on_from(groups)
    if checkpoint is None:
        return
    _check_settings(config, checkpoint)
    content = load_torch_file(checkpoint)
    parts = ("model", "optimizer_history", "last_optimizer_state", "extra_state")
    if not isinstance(content, Mapping) or not all(part in content for part in parts):
        raise UserError(
            f"{checkpoint} holds no training to go on from: take another checkpoint, "
            f"{what_else(groups, checkpoint)}."
        )
    then, now = _processes_of(content), int(os.environ.get("WORLD_SIZE", 1))
    if then not in (None, now):
        log.warning("going on in %d processes, begun in %d: an update is of as many batches", now, then)


def _processes_of(content: Mapping[str, Any]) -> int | None:
    """How many processes have written a fairseq checkpoint; None where it does not say."""
    settings = content.get("cfg") or {}
    return settings.get("distributed_training", {}).get("distributed_world_size")


def _check_settings(config: Config, checkpoint: Path) -> None:
    """Compare with the config beside a checkpoint: what it holds has to fit, and in its own folder a run goes
    on as the same experiment, or its results would be taken for the other's. Raises UserError."""
    groups, before = config.fairseq, trained_with(checkpoint)
    if before is None:  # none, or of another program: loading shows whether it fits
        return
    is_now, was = _kept_in_checkpoints(config, groups), _kept_in_checkpoints(before, before.fairseq)
    own = checkpoint == save_dir(groups) / LAST
    if not own and option(groups, "reset_lr_scheduler"):
        is_now["fairseq.optimization.lr_scheduler"] = was["fairseq.optimization.lr_scheduler"]
    other = {key: (was[key], is_now[key]) for key in is_now if is_now[key] != was[key]}
    kind = "its checkpoints are of another model, loss or optimizer"
    if own and not other:
        changed = differences(before, config)
        other = {key: values for key, values in changed.items() if _is_another_experiment(key)}
        kind = "this would be another experiment"
        for key, (then, now) in changed.items():
            if key not in other and key.startswith("fairseq.") and not key.startswith(_GO_ON):
                log.warning("going on with another %s than the run began with: %s, then %s", key, now, then)
    if other:
        here = " and ".join(f"{key} is {now}" for key, (_, now) in other.items())
        there = " and ".join(f"{key} {then}" for key, (then, _) in other.items())
        raise UserError(
            f"{here}, but the run in {checkpoint.parent} began with {there}: {kind}. Go on with what it "
            f"began with, {what_else(groups, checkpoint)}."
        )


def _is_another_experiment(key: str) -> bool:
    """Whether a run with another value of a setting is another run, and not the same one elsewhere, faster,
    or for longer."""
    section, _, name = key.partition(".")
    if section not in ("dataset", "model", "loss"):
        return key == "fairseq.common.seed"
    return name not in _SAME_EXPERIMENT and not name.endswith(("_path", "_dir"))


def what_else(groups: dict[str, Any], checkpoint: Path) -> str:
    """What to do where a run cannot go on from a checkpoint, as the end of a sentence."""
    if checkpoint == save_dir(groups) / LAST:
        return "or name another fairseq.checkpoint.save_dir"
    return f"or start from its weights alone (fairseq.checkpoint.finetune_from_model={checkpoint})"


def _kept_in_checkpoints(config: Config, groups: dict[str, Any]) -> dict[str, Any]:
    """By dotted key, the settings that decide which weights, learnt numbers and states a checkpoint holds."""
    names = {field.name for field in dataclasses.fields(config.model)} - {"dropout", *_WAYS_TO_COMPUTE}
    found = {f"model.{name}": getattr(config.model, name) for name in sorted(names)}
    for name in ("loss_cls", "learnable_temperature"):
        found[f"loss.{name}"] = getattr(config.loss, name)
    for group, name, default in _OF_THE_OPTIMIZER:
        found[f"fairseq.{group}.{name}"] = option(groups, name, default)
    return found

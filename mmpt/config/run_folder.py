"""The files of a training run, in the folder `fairseq.checkpoint.save_dir`."""

import json
from pathlib import Path
from typing import Any

import yaml

from mmpt.config.fairseq_options import option

LAST = "checkpoint_last.pt"
BEST = "checkpoint_best.pt"
SAVED_CONFIG = "config.yaml"
"""The resolved config that the checkpoints beside it were trained with."""
DATA = "data.json"
"""Hashes of the data and of the TOKENIZER that they were trained with, and VERSION."""
TOKENIZER, VERSION = "tokenizer", "mmpt_version"
METRICS = "metrics.jsonl"
"""A line for each validated epoch."""

_DEFAULT_SAVE_DIR = "checkpoints"
_OTHER_ENDS = ("patience", "max_update", "stop_time_hours", "stop_min_lr")
"""fairseq options that end a training before its last epoch, if they are above 0."""


def save_dir(groups: dict[str, Any]) -> Path:
    """Folder of a run's checkpoints. groups: the `fairseq` section of a config."""
    return Path(str(option(groups, "save_dir", _DEFAULT_SAVE_DIR)))


def unfinished(checkpoint: Path) -> str | None:
    """How far a training came that has not reached its last epoch: "epoch 19 of 60".

    By the files beside its checkpoint. None: it has ended, or they do not tell.
    """
    try:
        lines = (checkpoint.parent / METRICS).read_text(encoding="utf-8").splitlines()
        groups = yaml.safe_load((checkpoint.parent / SAVED_CONFIG).read_text(encoding="utf-8"))["fairseq"]
        epoch, last = int(json.loads(lines[-1])["epoch"]), int(option(groups, "max_epoch", 0))
        ends_otherwise = any(float(option(groups, name, -1)) > 0 for name in _OTHER_ENDS)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, yaml.YAMLError):
        return None
    return f"epoch {epoch} of {last}" if epoch < last and not ends_otherwise else None

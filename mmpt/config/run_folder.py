"""The files of a training run, in the folder `fairseq.checkpoint.save_dir`."""

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mmpt.config.fairseq_options import option
from mmpt.utils.files import read_text

log = logging.getLogger(__name__)

LAST = "checkpoint_last.pt"
BEST = "checkpoint_best.pt"
CHECKPOINT = re.compile(r"checkpoint(_best|_last|\d+|_\d+_\d+|\.best_.+)\.pt")
"""Names of the checkpoints that a training writes, as fairseq names them."""
SAVED_CONFIG = "config.yaml"
"""The resolved config that the checkpoints beside it were trained with."""
DATA = "data.json"
"""Hashes of the data and of the TOKENIZER that they were trained with, and VERSION."""
TOKENIZER, VERSION = "tokenizer", "mmpt_version"
METRICS = "metrics.jsonl"
"""A line for each validated epoch."""

_DEFAULT_SAVE_DIR = "checkpoints"
_OTHER_ENDS = ("patience", "max_update", "stop_time_hours")
"""fairseq options that end a training before its last epoch, if they are above 0."""


def save_dir(groups: dict[str, Any]) -> Path:
    """Folder of a run's checkpoints. groups: the `fairseq` section of a config."""
    return Path(str(option(groups, "save_dir", _DEFAULT_SAVE_DIR)))


def warn_if_moved(config_file: str, overrides: Sequence[str], groups: dict[str, Any]) -> None:
    """Warn if a config is that of a run in its own folder, but names another folder.

    The run was moved or copied, and its config.yaml names the folder where it was trained. No warning if the
    folder is one of the overrides.
    """
    here, named = Path(config_file).parent, save_dir(groups)
    of_run = Path(config_file).name == SAVED_CONFIG and any((here / name).is_file() for name in (LAST, BEST))
    chosen = any(word.partition("=")[0].endswith("save_dir") for word in overrides)
    if of_run and not chosen and here.resolve() != named.resolve():
        log.warning(
            "%s lies beside the checkpoints of a run, but names %s as their folder, which is used: for those "
            "beside it, add fairseq.checkpoint.save_dir=%s",
            *(config_file, named, here),
        )


def unfinished(checkpoint: Path) -> str | None:
    """The progress of a training that has not reached its last epoch, such as "epoch 19 of 60".

    Read from the files beside its checkpoint. None if it has ended, or if they do not hold this.
    """
    try:
        lines = read_text(checkpoint.parent / METRICS).splitlines()
        groups = yaml.safe_load(read_text(checkpoint.parent / SAVED_CONFIG))["fairseq"]
        epoch, last = int(json.loads(lines[-1])["epoch"]), int(option(groups, "max_epoch", 0))
        ends_otherwise = any(float(option(groups, name, -1)) > 0 for name in _OTHER_ENDS)
        ends_otherwise |= float(option(groups, "stop_min_lr", -1)) >= 0
    except (OSError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError):
        return None
    except (RecursionError, yaml.YAMLError):
        return None
    return f"epoch {epoch} of {last}" if epoch < last and not ends_otherwise else None

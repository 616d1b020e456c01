"""The files of a training run, in the folder `fairseq.checkpoint.save_dir`."""

from pathlib import Path
from typing import Any

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


def save_dir(groups: dict[str, Any]) -> Path:
    """Folder of a run's checkpoints. groups: the `fairseq` section of a config."""
    return Path(str(option(groups, "save_dir", _DEFAULT_SAVE_DIR)))

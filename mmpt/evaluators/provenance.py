"""Record what results depend on: a digest of the settings, and hashes of the data files."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from mmpt.config import Config
from mmpt.config.fields import saved_name
from mmpt.utils.files import sha256

DATA_FILES = ("table_path", "train_path", "val_path", "test_path", "gesture_id_path")
"""Keys of `dataset` that name the files with the clips and prompts."""
# paths and performance options, which do not affect results
_IRRELEVANT = {
    "dataset": ("vfeat_dir", "cache_dir", "allow_trial_features"),
    "eval": ("save_path", "after_training", "batch_size", "device", "trust_checkpoint"),
    "model": (),
}


def digest(content: Any) -> str:
    """Hex SHA-256 of JSON content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def evaluation_facts(config: Config) -> dict[str, Any]:
    """What the results of an evaluation depend on, besides the checkpoint.

    {"settings": a digest, "files": see data_files}. The digest excludes paths, and default values so that new
    keys of mmpt do not change the digest of old results.
    """
    content: dict[str, Any] = {}
    for section, irrelevant in _IRRELEVANT.items():
        kept = without_defaults(getattr(config, section))
        content[section] = {key: value for key, value in kept.items() if key not in irrelevant}
    for key in DATA_FILES:
        content["dataset"][key] = getattr(config.dataset, key) is not None
    return {"settings": digest(content), "files": data_files(config)}


def data_files(config: Config) -> dict[str, str]:
    """Hex SHA-256 of each existing file of DATA_FILES, by dotted key."""
    paths = {key: getattr(config.dataset, key) for key in DATA_FILES}
    return {f"dataset.{key}": sha256(path) for key, path in paths.items() if path and Path(path).is_file()}


def changed_files(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Keys of files (see data_files) whose content differs. Files in only one of the two are not compared."""
    return sorted(key for key in before.keys() & now.keys() if before[key] != now[key])


def without_defaults(part: Any) -> dict[str, Any]:
    """The fields of a dataclass, and of nested ones, that differ from their defaults."""
    kept = {}
    for field in dataclasses.fields(part):
        name, value = saved_name(field), getattr(part, field.name)
        if dataclasses.is_dataclass(value):
            kept[name] = without_defaults(value)
        elif value != field.default and not (
            callable(field.default_factory) and value == field.default_factory()
        ):
            kept[name] = value
    return kept

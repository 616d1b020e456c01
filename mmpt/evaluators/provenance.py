"""A record of what results depend on: a digest of the settings, and hashes of the data."""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmpt.config import Config
from mmpt.config.fields import saved_name
from mmpt.datasets.identity import clips_digest, content_digest
from mmpt.utils.errors import UserError
from mmpt.utils.files import sha256

DATA_FILES = ("table_path", "train_path", "val_path", "test_path", "gesture_id_path")
"""Keys of `dataset` that name the files which choose clips and prompts."""
CLIPS, FILES = "clips of ", "files of "
# paths and options of speed: no result depends on them
_IRRELEVANT = {
    "dataset": ("vfeat_dir", "cache_dir", "store_shards", "check_sources", "allow_trial_features"),
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
    return {"settings": digest(content), "files": data_files(config, (config.dataset.split or "test",))}


def data_files(config: Config, splits: Sequence[str] = ()) -> dict[str, str]:
    """Hex SHA-256 of each existing file that the config names in DATA_FILES, by dotted key.

    With "clips of SPLIT" and "files of SPLIT" for each of `splits` that can be read: see clips_digest and
    content_digest. Records of older versions have no "files of SPLIT".
    """
    paths = {key: getattr(config.dataset, key) for key in DATA_FILES}
    found = {f"dataset.{key}": sha256(path) for key, path in paths.items() if path and Path(path).is_file()}
    for split in splits:
        with contextlib.suppress(UserError):
            found[f"{CLIPS}{split}"] = clips_digest(config.dataset, split)
            found[f"{FILES}{split}"] = content_digest(config.dataset, split)
    return found


def changed_files(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Keys of files (see data_files) whose content differs. Files in only one of the two are not compared.

    "clips of SPLIT" also stands for "files of SPLIT".
    """
    changed = (key for key in before.keys() & now.keys() if before[key] != now[key])
    return sorted({CLIPS + key.removeprefix(FILES) if key.startswith(FILES) else key for key in changed})


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

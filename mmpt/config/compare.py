"""Compare the config that a model was trained with and the one it is used with."""

import dataclasses
import logging
import os
from pathlib import Path
from typing import Any

from mmpt.config.dataset_options import (
    FrameFeatures,
    FrameSampling,
    PoseNormalization,
    PoseSelection,
    PoseSmoothing,
)
from mmpt.config.fields import default_of, saved_name
from mmpt.config.loader import load_config
from mmpt.config.run_folder import SAVED_CONFIG
from mmpt.config.schema import Config
from mmpt.utils.errors import UserError

log = logging.getLogger(__name__)

_EMBEDDING_KEYS = (
    *("video_processor", "text_processor", "max_video_len", "max_len", "long_video", "window_step"),
    "vfeat_custom",
    *(
        field.name
        for options in (PoseSelection, PoseNormalization, PoseSmoothing, FrameFeatures, FrameSampling)
        for field in dataclasses.fields(options)
    ),
    *("model_cls", "pooling", "window_pooling", "multimodal_projection"),
)
"""Keys of `dataset` and `model` that change embeddings without changing the shapes of weights."""


def differences(before: Any, now: Any) -> dict[str, tuple[Any, Any]]:
    """Dotted keys in which two configs or sections differ -> (value before, value now; None if missing)."""
    one, other = dotted(before), dotted(now)
    keys = dict.fromkeys([*one, *other])
    return {key: (one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)}


def dotted(section: Any, prefix: str = "") -> dict[str, Any]:
    """The values of a config or section by dotted key; an empty section is {}."""
    if dataclasses.is_dataclass(section):
        section = {field.name: getattr(section, field.name) for field in dataclasses.fields(section)}
    found: dict[str, Any] = {}
    for name, value in section.items():
        if dataclasses.is_dataclass(value) or (isinstance(value, dict) and value):
            found |= dotted(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def embedding_settings(dataset: Any, model: Any) -> dict[str, Any]:
    """The settings of a model that change embeddings and that the weights do not show, without defaults.

    Without defaults, a key that is new in mmpt does not turn an old model into another one.
    """
    changed = without_defaults(dataset) | without_defaults(model)
    found = {key: value for key, value in changed.items() if key in _EMBEDDING_KEYS}
    if found.get("flip_pose") != "right":  # a number only augments
        found.pop("flip_pose", None)
    return found


def without_defaults(section: Any) -> dict[str, Any]:
    """The fields of a section, and of nested ones, that differ from their defaults, by their saved names."""
    kept = {}
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            kept[saved_name(field)] = without_defaults(value)
        elif value != default_of(field):
            kept[saved_name(field)] = value
    return kept


def trained_with(checkpoint: str | os.PathLike[str]) -> Config | None:
    """The config in the folder of a checkpoint; None if it is missing or cannot be read."""
    path = Path(checkpoint).parent / SAVED_CONFIG
    try:
        return load_config(path) if path.is_file() else None
    except UserError as error:
        log.warning("%s cannot be read, so its settings are not compared (%s)", path, error)
        return None


def warn_of_other_preprocessing(checkpoint: str | os.PathLike[str], config: Config) -> None:
    """Warn about settings that change preprocessing or embeddings compared with training."""
    before = trained_with(checkpoint)
    if before is None:
        return
    for section in ("dataset", "model"):
        for key, (then, now) in differences(getattr(before, section), getattr(config, section)).items():
            augments_only = key == "flip_pose" and "right" not in (then, now)
            if key in _EMBEDDING_KEYS and not augments_only:
                log.warning(
                    "%s.%s is %s, but %s was trained with %s: embeddings will differ from those in training",
                    *(section, key, now, checkpoint, then),
                )

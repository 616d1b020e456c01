"""Two configs of one model: what a checkpoint was trained with, and what it is used with."""

import dataclasses
import logging
import os
from pathlib import Path
from typing import Any

from mmpt.config.loader import load_config
from mmpt.config.schema import Config
from mmpt.utils.errors import UserError

log = logging.getLogger(__name__)

SAVED = "config.yaml"
"""The whole config of a training, beside its checkpoints."""

_OF_VECTORS = (
    *("video_processor", "text_processor", "max_video_len", "max_len", "long_video", "vfeat_custom"),
    *(
        "pose_components",
        "normalize_hand",
        "hand_frame",
        "scale_depth",
        "velocity",
        "presence",
        "face_points",
    ),
    *("clip_window", "clip_frames", "flip_pose"),
    *("pooling", "multimodal_projection"),
)
"""Keys of `dataset` and `model` that decide what a vector is, and that weights do not tell."""


def differences(before: Any, now: Any) -> dict[str, tuple[Any, Any]]:
    """Dotted keys of two configs, or sections, that differ: key -> (value before, value now); None where one
    of them lacks the key."""
    one, other = dotted(before), dotted(now)
    keys = dict.fromkeys([*one, *other])
    return {key: (one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)}


def dotted(section: Any, prefix: str = "") -> dict[str, Any]:
    """The values of a config, or of a section of it, by dotted key; a section without keys is {}."""
    if dataclasses.is_dataclass(section):
        section = {field.name: getattr(section, field.name) for field in dataclasses.fields(section)}
    found: dict[str, Any] = {}
    for name, value in section.items():
        if dataclasses.is_dataclass(value) or (isinstance(value, dict) and value):
            found |= dotted(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def trained_with(checkpoint: str | os.PathLike[str]) -> Config | None:
    """The config that lies beside a checkpoint; None where there is none that can be read."""
    path = Path(checkpoint).parent / SAVED
    try:
        return load_config(path) if path.is_file() else None
    except UserError as error:
        log.warning("%s: what the checkpoint beside it was trained with cannot be told (%s)", path, error)
        return None


def warn_of_other_preprocessing(checkpoint: str | os.PathLike[str], config: Config) -> None:
    """Say where a model is about to see clips or prompts that are prepared otherwise than in its training, or
    to make vectors of them in another way."""
    before = trained_with(checkpoint)
    if before is None:
        return
    for section in ("dataset", "model"):
        for key, (then, now) in differences(getattr(before, section), getattr(config, section)).items():
            by_chance = key == "flip_pose" and "right" not in (then, now)  # and so in training only
            if key in _OF_VECTORS and not by_chance:
                log.warning(
                    "%s.%s is %s, and %s was trained with %s: its vectors will not be what it learnt",
                    *(section, key, now, checkpoint, then),
                )

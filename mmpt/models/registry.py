"""Registries of the names in a task config's `model` section."""

from typing import Any

from mmpt.registry import Registry

MODELS: Registry[Any] = Registry("model")
"""model.model_cls -> a subclass of DualEncoder."""
VIDEO_ENCODERS: Registry[Any] = Registry("video encoder")
"""Name -> a class built as VIDEO_ENCODER(settings: BertSettings, options: VideoTowerOptions)."""
TEXT_ENCODERS: Registry[Any] = Registry("text encoder")
"""Name -> a class built from BertSettings."""

"""Registries of the four steps from a corpus to a sample, by the names that YAML uses."""

from typing import Any

from mmpt.registry import Registry

META_PROCESSORS: Registry[Any] = Registry("meta processor")
VIDEO_PROCESSORS: Registry[Any] = Registry("video processor")
TEXT_PROCESSORS: Registry[Any] = Registry("text processor")
ALIGNERS: Registry[Any] = Registry("aligner")

"""The tables in which the names of a task config's `model` section are looked up."""

from typing import Any

from mmpt.registry import Registry

MODELS: Registry[Any] = Registry("model")
"""Classes of DualEncoder."""
VIDEO_ENCODERS: Registry[Any] = Registry("video encoder")
"""Classes built with the arguments of MMBertForEncoder."""
TEXT_ENCODERS: Registry[Any] = Registry("text encoder")
"""Classes built from BertSettings."""

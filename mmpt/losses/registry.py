"""The registry of losses."""

from typing import Any

from mmpt.registry import Registry

LOSSES: Registry[Any] = Registry("loss")
"""loss.loss_cls -> a loss module with `from_config`."""

"""The table in which a task config's `loss.loss_cls` is looked up."""

from typing import Any

from mmpt.registry import Registry

LOSSES: Registry[Any] = Registry("loss")
"""Classes of loss modules with `from_config`."""

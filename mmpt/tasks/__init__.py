"""Experiments: a config's data, model and loss."""

from mmpt.tasks.task import Task

__all__ = ["Task"]

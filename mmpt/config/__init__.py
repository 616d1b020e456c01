"""Typed, strict, layered configuration."""

from mmpt.config.loader import evaluates, load_config, save_config
from mmpt.config.schema import Config, DatasetConfig, EvalConfig, LossConfig, ModelConfig

__all__ = [
    "Config",
    "DatasetConfig",
    "EvalConfig",
    "LossConfig",
    "ModelConfig",
    "evaluates",
    "load_config",
    "save_config",
]

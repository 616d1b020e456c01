"""Typed, strict, layered configuration."""

from mmpt.config.loader import load_config, save_config
from mmpt.config.schema import Config, DatasetConfig, EvalConfig, LossConfig, ModelConfig

__all__ = ["Config", "DatasetConfig", "EvalConfig", "LossConfig", "ModelConfig", "load_config", "save_config"]

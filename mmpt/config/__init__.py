"""Typed, strict, layered configuration."""

from mmpt.config.cluster_options import ClusterConfig
from mmpt.config.loader import evaluates, is_saved_config, load_cluster_config, load_config, save_config
from mmpt.config.package_files import config_path
from mmpt.config.schema import Config, DatasetConfig

__all__ = [
    "ClusterConfig",
    "Config",
    "DatasetConfig",
    "config_path",
    "evaluates",
    "is_saved_config",
    "load_cluster_config",
    "load_config",
    "save_config",
]

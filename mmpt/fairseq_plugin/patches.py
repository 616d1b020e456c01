"""Everything that this project changes in fairseq and torch, in one place.

| what                             | why                                                             |
|----------------------------------|-----------------------------------------------------------------|
| fairseq_cli.train.Trainer        | fairseq offers no choice of trainer: MMTrainer resumes exactly  |
| fairseq.file_io.PathManager.copy | it copies a checkpoint in place: a kill would leave a torn file |
| hydra in fairseq.dataclass.utils | it takes half a second at every start, here a tenth of that     |
| OPTIMIZER_REGISTRY["adam"]       | a fused step instead of ten passes over the parameters          |
| torch's list of safe classes     | a fairseq checkpoint holds an argparse.Namespace                |
| torch's checksums in saved files | nothing reads them                                              |
| methods of torch.optim.Optimizer | they import torch's compiler, only to exclude themselves from it |
| sklearn, scipy.stats             | imported when used, not with fairseq, to start sooner (imports.py) |

Written for fairseq 0.12.3 (`ve-fairseq`); tests/fairseq_plugin/test_patches.py fails when what is replaced
changes.
"""

import argparse
import contextlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from fairseq.dataclass import utils as dataclass_utils
from fairseq.file_io import PathManager
from fairseq.optim import OPTIMIZER_REGISTRY
from fairseq_cli import train as fairseq_train
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mmpt.fairseq_plugin.optimizer import FairseqAdam
from mmpt.fairseq_plugin.trainer import MMTrainer
from mmpt.training.resume import link_or_copy


def install() -> None:
    """Apply all patches. A second call has no further effect."""
    fairseq_train.Trainer = MMTrainer
    PathManager.copy = staticmethod(_copy)
    dataclass_utils.compose = _compose
    dataclass_utils.initialize = lambda config_path: contextlib.nullcontext()
    OPTIMIZER_REGISTRY["adam"] = FairseqAdam
    torch.serialization.add_safe_globals([argparse.Namespace])
    torch.serialization.set_crc32_options(False)
    for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad"):
        function = inspect.unwrap(getattr(torch.optim.Optimizer, name))
        vars(function).setdefault("__dynamo_disable", function)


def _copy(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
    del overwrite  # fairseq always asks for it
    link_or_copy(Path(src_path), Path(dst_path))
    return True


def _compose(config_name: str, overrides: Sequence[str], strict: bool) -> Any:
    """What hydra.compose returns for fairseq's configs. It looks for files too: these are in hydra's store.

    Each override is a choice, such as `optimizer=adam`, or a value, such as `optimizer.lr=[0.1]`.
    """
    store, parser = ConfigStore.instance(), OverridesParser.create()
    settings = store.load(f"{config_name}.yaml").node
    pairs = [override.partition("=")[::2] for override in overrides]
    for key, value in pairs:
        if "." not in key:
            settings[key] = store.load(f"{key}/{value}.yaml").node
    defaults: Any = OmegaConf.to_container(settings)
    for key, value in pairs:
        group, _, name = key.partition(".")
        if not name or value == _text(defaults[group].get(name)):
            continue  # most repeat the default, and the parser takes its time
        to = None if value == "null" else parser.parse_rule(f"{key}={value}", "override").value()
        try:
            OmegaConf.update(settings, key, to)
        except OmegaConfBaseException as error:
            raise ConfigCompositionException(f"Error merging override {key}={value}") from error
    OmegaConf.set_struct(settings, strict)
    return settings


def _text(value: Any) -> str:
    """How fairseq writes a value in an override."""
    return f"'{value}'" if isinstance(value, str) else str(value)

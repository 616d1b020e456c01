"""Everything that this project changes in fairseq and torch, in one place.

| what                             | why                                                             |
|----------------------------------|-----------------------------------------------------------------|
| fairseq_cli.train.Trainer        | fairseq offers no choice of trainer: MMTrainer resumes exactly  |
| fairseq.file_io.PathManager.copy | it copies a checkpoint in place: a kill would leave a torn file |
| OPTIMIZER_REGISTRY["adam"]       | a fused step instead of ten passes over the parameters          |
| torch's list of safe classes     | a fairseq checkpoint holds an argparse.Namespace                |
| torch's checksums in saved files | nothing reads them                                              |
| methods of torch.optim.Optimizer | they import torch's compiler, only to exclude themselves from it |
| sklearn, scipy.stats             | imported when used, not with fairseq, to start sooner (imports.py) |

Written for fairseq 0.12.3 (`ve-fairseq`); tests/fairseq_plugin/test_patches.py fails when what is replaced
changes.
"""

import argparse
import inspect
from pathlib import Path

import torch
from fairseq.file_io import PathManager
from fairseq.optim import OPTIMIZER_REGISTRY
from fairseq_cli import train as fairseq_train

from mmpt.fairseq_plugin.optimizer import FairseqAdam
from mmpt.fairseq_plugin.trainer import MMTrainer
from mmpt.training.resume import link_or_copy


def install() -> None:
    """Apply all patches. A second call has no further effect."""
    fairseq_train.Trainer = MMTrainer
    PathManager.copy = staticmethod(_copy)
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

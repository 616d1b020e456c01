"""The house behind fairseq's doors: a task, a model, a criterion and a dataset, each a thin adapter.

Importing this package registers `mmtask`, `mmarch` and `mmloss` with fairseq. Nothing else in mmpt imports
fairseq, apart from the command that trains.
"""

import argparse

import torch

from mmpt.fairseq_plugin import checkpoints, optimizer
from mmpt.fairseq_plugin.criterion import MMCriterion
from mmpt.fairseq_plugin.dataset import FairseqMMDataset
from mmpt.fairseq_plugin.model import FairseqMMModel
from mmpt.fairseq_plugin.task import FairseqMMTask

__all__ = ["FairseqMMDataset", "FairseqMMModel", "FairseqMMTask", "MMCriterion"]

# A fairseq checkpoint holds its options as an argparse.Namespace; torch.load refuses the class unless it is
# listed.
torch.serialization.add_safe_globals([argparse.Namespace])
checkpoints.install()
optimizer.install()

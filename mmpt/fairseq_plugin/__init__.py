"""Adapters that register the task, model, criterion and dataset with fairseq.

Importing this package registers `mmtask`, `mmarch` and `mmloss`, and applies patches.py. Nothing else in mmpt
imports fairseq.
"""

from mmpt.fairseq_plugin import imports  # noqa: F401  before all others
from mmpt.fairseq_plugin.criterion import MMCriterion
from mmpt.fairseq_plugin.dataset import FairseqMMDataset
from mmpt.fairseq_plugin.patches import install
from mmpt.fairseq_plugin.task import FairseqMMModel, FairseqMMTask

__all__ = ["FairseqMMDataset", "FairseqMMModel", "FairseqMMTask", "MMCriterion"]

install()

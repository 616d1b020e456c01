"""Examples -> samples -> batches."""

from mmpt.datasets.collate import collate
from mmpt.datasets.mmdataset import MMDataset
from mmpt.datasets.samplers import BatchSampler

__all__ = ["BatchSampler", "MMDataset", "collate"]

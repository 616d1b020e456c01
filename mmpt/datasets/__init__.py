"""Examples -> samples -> batches."""

from mmpt.datasets.collate import collate
from mmpt.datasets.mmdataset import MMDataset
from mmpt.datasets.samplers import prompt_batches, random_batches

__all__ = ["MMDataset", "collate", "prompt_batches", "random_batches"]

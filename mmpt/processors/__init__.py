"""Corpora, video processors, text processors and aligners, by the names that YAML uses."""

from mmpt.processors.aligner import ALIGNERS, DSAligner
from mmpt.processors.example import META_PROCESSORS, VIDEO_PROCESSORS, Example, MetaProcessor
from mmpt.processors.fingerspelling import FingerspellingMetaProcessor
from mmpt.processors.npy_video import RWTHFSVideoProcessor, VideoProcessor
from mmpt.processors.pose_video import PoseProcessor
from mmpt.processors.rwthfs import RWTHFSMetaProcessor
from mmpt.processors.table import TableMetaProcessor
from mmpt.processors.text import TEXT_PROCESSORS, TextProcessor

__all__ = [
    "ALIGNERS",
    "META_PROCESSORS",
    "TEXT_PROCESSORS",
    "VIDEO_PROCESSORS",
    "DSAligner",
    "Example",
    "FingerspellingMetaProcessor",
    "MetaProcessor",
    "PoseProcessor",
    "RWTHFSMetaProcessor",
    "RWTHFSVideoProcessor",
    "TableMetaProcessor",
    "TextProcessor",
    "VideoProcessor",
]

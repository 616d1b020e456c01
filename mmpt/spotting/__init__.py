"""Spotting: where in a long recording each of some signs or prompts occurs."""

from mmpt.spotting.finding import Detection, SpotOptions, find_peaks, spot
from mmpt.spotting.metrics import Annotated, Criterion, Segments, choose_thresholds, spotting_metrics
from mmpt.spotting.peaks import PeakFinder
from mmpt.spotting.scores import Targets, Unread, embed_windows, window_scores
from mmpt.spotting.texts import targets_of_file, targets_of_index
from mmpt.spotting.thresholds import Thresholds
from mmpt.spotting.windows import Recording, WindowGrid

__all__ = [
    "Annotated",
    "Criterion",
    "Detection",
    "PeakFinder",
    "Recording",
    "Segments",
    "SpotOptions",
    "Targets",
    "Thresholds",
    "Unread",
    "WindowGrid",
    "choose_thresholds",
    "embed_windows",
    "find_peaks",
    "spot",
    "spotting_metrics",
    "targets_of_file",
    "targets_of_index",
    "window_scores",
]

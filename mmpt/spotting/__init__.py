"""Spotting: where in a long recording each of some signs or prompts occurs."""

from mmpt.spotting.scores import Block, Targets, Unread, embed_windows, window_scores
from mmpt.spotting.windows import Recording, WindowGrid

__all__ = [
    "Block",
    "Recording",
    "Targets",
    "Unread",
    "WindowGrid",
    "embed_windows",
    "window_scores",
]

"""Videos -> fixed windows of pictures for a 3D network. Runs in the decoding processes and needs no torch."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from mmpt.extractors.base import Outcome, StreamReader
from mmpt.extractors.video import Interpolation, Video, cached_pictures


@dataclass(frozen=True)
class WindowReader(StreamReader):
    """How one network wants its input.

    Attributes: `fps` frames a second; `fit` "short_side" scales the shorter side to `size` (the other rounded
    down), "square" scales both, whatever the aspect; `crop` pixels a side are cut from the centre; `length`
    frames a window; `stride` frames from one window to the next; `tail` "zeros" fills the last window up with
    black frames, "aligned" lets the last window end with the clip (and repeats the last frame of a clip
    shorter than a window).
    """

    fps: Fraction
    fit: Literal["short_side", "square"]
    size: int
    crop: int
    interpolation: Interpolation
    length: int
    stride: int
    tail: Literal["zeros", "aligned"]

    def windows(self, source: Path) -> Generator[np.ndarray, None, Outcome]:
        count = sampled = 0
        with Video(source) as video:
            width, height = self.scaled_size(video.width, video.height)
            top, left = (height - self.crop) // 2, (width - self.crop) // 2
            pictures = (
                picture[top : top + self.crop, left : left + self.crop]
                for picture in cached_pictures(
                    video, video.sampled(self.fps), width, height, self.interpolation
                )
            )
            split = fill_windows if self.tail == "zeros" else aligned_windows
            for window in split(pictures, self.length, self.stride):
                count += 1
                yield window
            sampled = video.sampled_count(self.fps)
            facts = {**video.facts(), "sampled_frames": sampled, "tokens": count}
            return Outcome(facts, video.decoded.notes)

    def scaled_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after scaling."""
        if self.fit == "square":
            return self.size, self.size
        if width < height:
            return self.size, height * self.size // width
        return width * self.size // height, self.size


def fill_windows(pictures: Iterator[np.ndarray], length: int, stride: int) -> Iterator[np.ndarray]:
    """Windows without overlap, uint8 [length, H, W, 3], the last padded with zeros; stride == length."""
    assert stride == length
    window: np.ndarray | None = None
    filled = 0
    for picture in pictures:
        if window is None:
            window = np.zeros((length, *picture.shape), np.uint8)
        window[filled] = picture
        filled += 1
        if filled == length:
            yield window
            window, filled = None, 0
    if window is not None:
        yield window


def aligned_windows(pictures: Iterator[np.ndarray], length: int, stride: int) -> Iterator[np.ndarray]:
    """Windows that begin every `stride` frames, the last moved so that it ends with the clip.

    A clip of n frames has ceil((n - length) / stride) + 1 windows, as published, where windows touch or
    overlap (stride <= length); where they do not, ceil(n / stride): one for each stride begun. A clip of
    fewer than `length` frames is one window, its last frame repeated.
    """
    recent: list[np.ndarray] = []
    waiting: np.ndarray | None = None
    begun = count = 0
    for picture in pictures:
        # a window is let go once the next one is sure to begin: else it is the last, and moves to the end
        if waiting is not None and count == begun + stride:
            yield waiting
            waiting = None
        recent = [*recent[-(length - 1) :], picture] if length > 1 else [picture]
        count += 1
        start = count - length
        if start >= 0 and start % stride == 0:
            if waiting is not None:
                yield waiting
            waiting, begun = np.stack(recent), start
    if not recent:
        return
    if waiting is not None and (begun + stride < count or begun + length == count):
        yield waiting
        if begun + length == count:
            return
    recent += [recent[-1]] * (length - len(recent))
    yield np.stack(recent)

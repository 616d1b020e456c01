"""Videos -> fixed-length windows of frames for a 3D network. Runs in worker processes, without torch."""

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
    """How a network's input is prepared.

    Attributes: `fps` frames per second; `fit` "short_side" scales the shorter side to `size` (the other is
    rounded down), "square" scales both sides; `crop` size of the centre crop; `length` frames per window;
    `stride` frames from one window to the next; `tail` "zeros" pads the last window with black frames,
    "aligned" makes the last window end with the clip (a clip shorter than a window repeats its last frame).
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
    """Windows uint8 [length, H, W, 3] without overlap, the last one padded with zeros."""
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
    """Windows every `stride` frames; the last one is shifted to end with the clip.

    A clip of n frames gives ceil((n - length) / stride) + 1 windows if stride <= length, as published, else
    ceil(n / stride). A clip shorter than `length` gives one window, padded with its last frame.
    """
    recent: list[np.ndarray] = []
    waiting: np.ndarray | None = None
    begun = count = 0
    for picture in pictures:
        # yield a window only once the next one has begun: the last one is shifted instead
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

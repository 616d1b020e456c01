"""Fill short gaps of the hands, and smooth the landmarks over time. Pure functions: they return new clips.

Points are independent of each other. Nothing is smoothed across frames in which the point is missing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmpt.config.dataset_options import PoseSmoothing
from mmpt.pose.clip import PoseClip
from mmpt.pose.components import HANDS


@dataclass(frozen=True)
class Smoothing:
    """The gaps that are filled, and how landmarks are smoothed (see PoseSmoothing for the fields)."""

    fill_gaps: int = 0
    smooth: str | None = None
    parameters: tuple[float, ...] = ()

    @classmethod
    def of(cls, options: PoseSmoothing) -> "Smoothing":
        """Those of a config."""
        names = SMOOTH_PARAMETERS.get(options.smooth or "", ())
        return cls(options.fill_gaps, options.smooth, tuple(getattr(options, name) for name in names))

    def __call__(self, clip: PoseClip) -> PoseClip:
        """Fill, then smooth. The coordinates are in shoulder widths (for one_euro)."""
        clip = fill_gaps(clip, self.fill_gaps)
        return SMOOTHERS[self.smooth](clip, *self.parameters) if self.smooth else clip


def fill_gaps(clip: PoseClip, most: int) -> PoseClip:
    """Fill the gaps of the hands' points of at most `most` frames.

    Coordinates and confidence are interpolated linearly between the frames before and after the gap. A gap at
    the start or the end of the clip is not filled.
    """
    names = [name for name in HANDS if name in clip.layout.components] if most else []
    filled = False
    data, confidence = clip.data, clip.confidence
    for name in names:
        columns = clip.component_slice(name)
        before, after = _neighbours(clip.present[:, columns])
        gap = (before >= 0) & (after < len(clip)) & (after - before > 1) & (after - before <= most + 1)
        frames, points = np.nonzero(gap)
        if not len(frames):
            continue
        if not filled:
            data, confidence, filled = data.copy(), confidence.copy(), True
        start, stop = before[frames, points], after[frames, points]
        weight = ((frames - start) / (stop - start)).astype(np.float32)
        for values, share in ((data[:, columns], weight[:, None]), (confidence[:, columns], weight)):
            values[frames, points] = values[start, points] * (1 - share) + values[stop, points] * share
    return clip.with_data(data, confidence)


def _neighbours(present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The last frame up to each frame, and the first from it on, that shows a point; bool [T, P] -> [T, P].

    -1 and T where there is none.
    """
    count = len(present)
    frames = np.arange(count)[:, None]
    before = np.maximum.accumulate(np.where(present, frames, -1), axis=0)
    after = np.minimum.accumulate(np.where(present, frames, count)[::-1], axis=0)[::-1]
    return before, after


def savgol(clip: PoseClip, window: float, order: float) -> PoseClip:
    """Savitzky-Golay filter: a polynomial of degree `order` fitted to each window of `window` ms.

    The window has an odd number of frames, more than order + 1, which a polynomial would fit exactly. Of a
    run of frames that is shorter, it has the largest odd number of its frames; if that is not more than
    order + 1, the run stays as it is.
    """
    from scipy.signal import savgol_filter

    degree = int(order)
    least = degree + 2 + (degree % 2 == 0)
    length = max(round(window * clip.fps / 1000), least)
    data = clip.data.copy()
    for frames, columns in _runs(clip.present):
        here = min(length, frames.stop - frames.start)
        here -= here % 2 == 0
        if here >= least:
            part = data[frames][:, columns].astype(np.float64)
            data[frames, columns] = savgol_filter(part, here, degree, axis=0)
    return clip.with_data(data)


def _runs(present: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """(frames, columns): consecutive frames that show these points, of points seen in the same frames."""
    patterns, which = np.unique(present, axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        columns = np.flatnonzero(which.reshape(-1) == number)
        edges = np.flatnonzero(np.diff(pattern, prepend=False, append=False))
        for start, stop in zip(edges[::2], edges[1::2]):
            yield slice(int(start), int(stop)), columns


def one_euro(clip: PoseClip, cutoff: float, beta: float) -> PoseClip:
    """One-Euro filter: a low-pass filter whose cut-off frequency rises with the speed.

    cutoff: Hz at rest. beta: Hz more for each unit of length per second. Each coordinate is filtered for
    itself and starts anew where the point was missing. It delays fast movements a little.

    Casiez, Roussel and Vogel (2012), 1€ Filter: A Simple Speed-based Low-pass Filter for Noisy Input in
    Interactive Systems, CHI.
    """
    data, present = clip.data.copy(), clip.present
    smooth = data[0].astype(np.float64)
    speed = np.zeros_like(smooth)
    for frame in range(1, len(clip)):
        raw = data[frame].astype(np.float64)
        goes_on = (present[frame] & present[frame - 1])[:, None]
        weight = _weight(_SPEED_CUTOFF, clip.fps)
        speed = np.where(goes_on, speed + weight * ((raw - smooth) * clip.fps - speed), 0)
        weight = _weight(cutoff + beta * np.abs(speed), clip.fps)
        smooth = np.where(goes_on, smooth + weight * (raw - smooth), raw)
        data[frame] = smooth
    return clip.with_data(data)


_SPEED_CUTOFF = 1.0
"""Hz, of the speed, as in the paper."""


def _weight(cutoff: Any, fps: float) -> Any:
    """Weight of a new value in a low-pass filter of `cutoff` Hz."""
    return 1 / (1 + fps / (2 * np.pi * cutoff))


SMOOTHERS: dict[str, Callable[..., PoseClip]] = {"savgol": savgol, "one_euro": one_euro}
"""Value of dataset.smooth -> function of a clip and the filter's parameters."""
SMOOTH_PARAMETERS = {
    "savgol": ("smooth_window", "smooth_order"),
    "one_euro": ("smooth_cutoff", "smooth_beta"),
}
"""Value of dataset.smooth -> the options that are its parameters."""

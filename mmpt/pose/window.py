"""Frame sampling: a window of the clip, at a fixed number of evenly spaced frames.

A recording of one sign begins and ends with the hands at rest; the frames that tell signs apart are in the
middle. A few evenly spaced frames cost a transformer much less than all frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmpt.pose.augmentation3d import resample
from mmpt.pose.clip import PoseClip
from mmpt.utils.errors import UserError


@dataclass(frozen=True)
class FrameSampler:
    """The part of a clip and the frames of it that clip_window and clip_frames select.

    window: fractions of the clip, (0, 1) for all of it. frames: number of frames, evenly spaced from end to
    end; None: one for each frame of the window, at least one. active: false if neither was selected.
    """

    window: tuple[float, float] = (0.0, 1.0)
    frames: int | None = None
    active: bool = True

    @classmethod
    def of(cls, window: Sequence[float] | None, frames: int | None) -> "FrameSampler":
        """The sampler of the YAML values. Raises UserError for a window that is not [from, to]."""
        if window is None:
            return cls(frames=frames, active=frames is not None)
        if len(window) != 2:
            raise UserError(f"clip_window: got {list(window)}; expected fractions of the clip, [from, to]")
        low, high = float(window[0]), float(window[1])
        if not 0 <= low < high <= 1:
            raise UserError(
                f"clip_window: got {[low, high]}; expected two fractions of the clip, 0 <= from < to <= 1"
            )
        return cls((low, high), frames)

    def __call__(
        self, clip: PoseClip, jitter: float = 0.0, rng: np.random.Generator | None = None
    ) -> PoseClip:
        """The clip resampled between the ends of the window; points are interpolated linearly.

        jitter: in training (with rng), each end of the window moves by up to this fraction of the clip, the
        speed within becomes uneven, and each frame moves by up to half its distance to the next.
        """
        if not self.active:
            return clip
        last = len(clip) - 1
        low, high = self.window
        random = rng if jitter > 0 else None
        if random is not None:
            low, high = sorted(end + random.uniform(-jitter, jitter) for end in self.window)
        low, high = min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)
        count = max(round((high - low) * last), 0) + 1 if self.frames is None else self.frames
        steps = np.linspace(0, 1, count) if count > 1 else np.full(1, 0.5)
        if random is not None and count > 1:
            steps = steps ** np.exp(random.normal(0, jitter)) + random.uniform(-0.5, 0.5, count) / count
        return resample(clip, np.clip(low + (high - low) * steps, 0, 1) * last)

    def lengths(self, frames: np.ndarray) -> np.ndarray:
        """Sampled frames of clips of int64 [N] frames, without augmentation."""
        if self.frames is not None:
            return np.full_like(frames, self.frames)
        low, high = self.window
        return np.round((high - low) * np.maximum(frames - 1, 0)).astype(frames.dtype) + (frames > 0)

    def rate(self, clip: PoseClip) -> float:
        """Frames per second of the sampled clip, without jitter."""
        low, high = self.window
        frames = (high - low) * (len(clip) - 1)
        count = int(self.lengths(np.array([len(clip)]))[0])
        return clip.fps * (count - 1) / frames if count > 1 and frames else clip.fps

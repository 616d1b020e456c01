"""The part of a clip that holds the sign, at a fixed number of moments.

A recording of one sign begins and ends with the hands at rest; what tells signs apart is in the middle. A few
evenly spread moments of it cost a transformer a fraction of all frames.
"""

import numpy as np

from mmpt.pose.augmentation3d import resample
from mmpt.pose.clip import PoseClip


def sample_window(
    clip: PoseClip,
    window: tuple[float, float] = (0.0, 1.0),
    frames: int | None = None,
    jitter: float = 0.0,
    rng: np.random.Generator | None = None,
) -> PoseClip:
    """The moments from share window[0] to window[1] of the clip; points between frames are interpolated.

    frames: how many, evenly spread from end to end; None: one for each frame of the window, at least one.
    jitter: in training (with rng), each end of the window moves by up to this share of the clip, the speed
    within becomes uneven, and each moment moves by up to half its distance to the next.
    """
    last = len(clip) - 1
    low, high = window
    random = rng is not None and jitter > 0
    if random:
        assert rng is not None
        low, high = sorted((low + rng.uniform(-jitter, jitter), high + rng.uniform(-jitter, jitter)))
    low, high = min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0)
    count = max(round((high - low) * last), 0) + 1 if frames is None else frames
    steps = np.linspace(0, 1, count) if count > 1 else np.full(1, 0.5)
    if random and count > 1:
        assert rng is not None
        steps = steps ** np.exp(rng.normal(0, jitter)) + rng.uniform(-0.5, 0.5, count) / count
    return resample(clip, np.clip(low + (high - low) * steps, 0, 1) * last)

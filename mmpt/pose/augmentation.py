"""Augmentation of training clips, as the config describes it, and the published steps.

They return new clips, in which missing points stay missing and 0. The other steps are in augmentation3d.py.
"""

from dataclasses import dataclass, replace

import numpy as np

from mmpt.config.dataset_options import PoseAugmentation, PoseAugmentations
from mmpt.pose.augmentation3d import augment3d, joint_noise, linear_map
from mmpt.pose.clip import PoseClip
from mmpt.pose.mirror import mirror

_NOISE = 0.001
"""Standard deviation of the published noise of each coordinate."""


@dataclass(frozen=True)
class Augmenter:
    """Clip -> augmented clip.

    flip_chance: probability of mirroring. max_video_len: a clip that augment_temporal would make this long or
    longer keeps its speed.
    """

    options: PoseAugmentations
    flip_chance: float
    max_video_len: int

    def draw(self, rng: np.random.Generator) -> PoseAugmentation:
        """augment3d for one clip: its `probability` is drawn once, for the frame sampling and the steps."""
        options = self.options.augment3d
        if options.probability < 1:
            options = replace(options, probability=float(rng.random() < options.probability))
        return options

    def __call__(self, clip: PoseClip, rng: np.random.Generator, drawn: PoseAugmentation) -> PoseClip:
        """Augment in SignCLIP's order: mirror, (augment3d,) 2-D, temporal, noise. drawn: see `draw`."""
        if self.flip_chance:
            clip = flip(clip, rng, self.flip_chance)
        clip = augment3d(clip, drawn, rng)
        if self.options.augment2d:
            clip = augment2d(clip, rng)
        if self.options.augment_temporal:
            chance = self.options.augment_temporal_chance
            if chance is None or rng.random() < chance:
                clip = augment_temporal(clip, rng, self.max_video_len)
        if self.options.gaussian_noise:
            clip = joint_noise(clip, _NOISE, rng)
        return clip


def augment2d_matrix(rng: np.random.Generator) -> np.ndarray:
    """float32 [3, 3] for row vectors: shear (x by y), rotation (radians), scale of y, each N(0, 0.2).

    The matrices, their order and the order of the draws are those of pose-format's `Pose.augment2d`.
    """
    shear = np.array([[1.0, rng.normal(0, 0.2)], [0.0, 1.0]])
    angle = rng.normal(0, 0.2)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    scale = np.diag([1.0, 1.0 + rng.normal(0, 0.2)])
    matrix = np.eye(3, dtype=np.float32)
    matrix[:2, :2] = shear @ rotation @ scale
    return matrix


def augment2d(clip: PoseClip, rng: np.random.Generator) -> PoseClip:
    """Published 2-D augmentation: one random linear map of x and y for the whole clip."""
    return clip.with_data(linear_map(clip.data, augment2d_matrix(rng)))


def augment_temporal(clip: PoseClip, rng: np.random.Generator, max_video_len: int) -> PoseClip:
    """Published temporal augmentation: resample to another frame rate, ratio ~ N(1, 0.2).

    A clip of one frame, or one that would reach `max_video_len` frames, is returned unchanged.
    """
    if len(clip) < 2:
        return clip
    ratio = rng.normal(1, 0.2)
    fps = max(round(clip.fps * ratio), 1)
    too_long = max(len(clip) * ratio, frames_at(clip, fps)) >= max_video_len
    return clip if too_long else interpolate(clip, fps)


def frames_at(clip: PoseClip, fps: float) -> int:
    """The frames of a clip at another frame rate."""
    return max(round(len(clip) * fps / clip.fps), 1)


def interpolate(clip: PoseClip, fps: float) -> PoseClip:
    """The clip at another frame rate, like pose-format's `Pose.interpolate(fps, kind="linear")`.

    T frames become round(T * fps / clip.fps), at least one, evenly spaced from the first frame to the last. A
    point is interpolated between the frames that have it, which closes gaps; before its first and after its
    last such frame it is missing. A point in a single frame is kept if a new frame coincides with that frame.
    """
    frames, new_frames = len(clip), frames_at(clip, fps)
    # whole numbers, so that frames at the same time are equal
    old_steps, steps = np.arange(frames) * max(new_frames - 1, 1), np.arange(new_frames) * (frames - 1)
    # correct for points that are always or never present; the others follow
    data, confidence = _between(clip.data, clip.confidence, np.arange(frames), old_steps, steps)
    for pattern, columns in _gappy(clip.present):
        seen = np.flatnonzero(pattern)
        inside = np.flatnonzero((steps >= old_steps[seen[0]]) & (steps <= old_steps[seen[-1]]))
        data[:, columns], confidence[:, columns] = 0, 0
        if len(inside):
            parts = _between(
                clip.data[:, columns], clip.confidence[:, columns], seen, old_steps[seen], steps[inside]
            )
            data[inside[:, None], columns], confidence[inside[:, None], columns] = parts
    return replace(clip, data=data, confidence=confidence, fps=float(fps))


def _between(
    data: np.ndarray, confidence: np.ndarray, seen: np.ndarray, times: np.ndarray, steps: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both arrays at `steps`, interpolated between the frames `seen` at `times`."""
    after = np.clip(np.searchsorted(times, steps, side="right"), 1, max(len(seen) - 1, 1))
    before, after = after - 1, np.minimum(after, len(seen) - 1)
    gap = times[after] - times[before]
    weight = ((steps - times[before]) / np.where(gap > 0, gap, 1)).astype(np.float32)
    low, high = seen[before], seen[after]
    w = weight[:, None, None]
    return (
        data[low] * (1 - w) + data[high] * w,
        confidence[low] * (1 - w[..., 0]) + confidence[high] * w[..., 0],
    )


def flip(clip: PoseClip, rng: np.random.Generator, probability: float) -> PoseClip:
    """Mirror the clip with this probability."""
    return mirror(clip) if rng.random() < probability else clip


def _gappy(present: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Columns that are missing in some frames only, grouped by the frames: (bool [T], columns)."""
    counts = present.sum(axis=0)
    columns = np.flatnonzero((counts > 0) & (counts < len(present)))
    if not len(columns):
        return []
    packed = np.ascontiguousarray(np.packbits(present[:, columns], axis=0).T)
    keys = packed.view(np.dtype((np.void, packed.shape[1])))[:, 0]
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    return [(present[:, columns[column]], columns[group == i]) for i, column in enumerate(first)]

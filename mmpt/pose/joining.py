"""Several clips joined to one recording, with rests between them."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from mmpt.pose.augmentation3d import resample
from mmpt.pose.clip import PoseClip
from mmpt.pose.components import WORLD
from mmpt.pose.normalization import shoulder_frame
from mmpt.utils.errors import UserError

JOINS = ("cut", "crossfade")


def join_clips(
    clips: Sequence[PoseClip], rests: Sequence[float], fps: float, join: str = "crossfade"
) -> tuple[PoseClip, list[tuple[int, int]]]:
    """One clip of several, and the frames [start, end) of each of them in it.

    All are resampled to `fps`, and moved and scaled so that their shoulders are where those of the first clip
    are. rests: seconds before the first clip, between two clips, and after the last. A rest is made of the
    two frames around it: "cut" holds each of them for half of the time, "crossfade" moves the points in a
    straight line from one to the other. Before the first clip and after the last, its frame is held. Raises
    UserError for clips without a frame, of different points, or without shoulders.
    """
    if not clips or len(rests) != len(clips) + 1:
        raise UserError(f"expected clips and one rest more than clips, got {len(clips)} and {len(rests)}.")
    if join not in JOINS:
        raise UserError(f"join: got {join!r}; expected one of {', '.join(JOINS)}.")
    if any(clip.points != clips[0].points for clip in clips):
        raise UserError("the clips have different points: they cannot be joined.")
    frame = shoulder_frame(clips[0], axes=2)
    aligned = [at_rate(_aligned(clip, *frame), fps) for clip in clips]
    neighbours = [aligned[0].frames(slice(1)), *aligned, aligned[-1].frames(slice(-1, None))]
    parts, spans, length = [], [], 0
    for number, (before, after) in enumerate(itertools.pairwise(neighbours)):
        rest = _rest(before, after, round(rests[number] * fps), join)
        parts += [rest, after]
        length += len(rest)
        spans.append((length, length + len(after)))
        length += len(after)
    parts, spans = parts[:-1], spans[:-1]  # the held frame after the last rest
    data = np.concatenate([part.data for part in parts])
    confidence = np.concatenate([part.confidence for part in parts])
    return aligned[0].with_data(data, confidence), spans


def at_rate(clip: PoseClip, fps: float) -> PoseClip:
    """The clip at another frame rate, by linear interpolation between frames; the first frame stays."""
    last = len(clip) - 1
    frames = round(last * fps / clip.fps) + 1
    positions = np.minimum(np.arange(frames) * (clip.fps / fps), last)
    return dataclasses.replace(resample(clip, positions), fps=fps)


def _aligned(clip: PoseClip, centre: np.ndarray, scale: float) -> PoseClip:
    """The clip with its shoulders at those of a `shoulder_frame`. World landmarks, in metres, stay."""
    own_centre, own_scale = shoulder_frame(clip, axes=2)
    factor, moved = own_scale / scale, [name != WORLD for name, _ in clip.points]
    shift = (centre - own_centre * factor) * [1, 1, 0]
    data = clip.data.copy()
    data[:, moved] = data[:, moved] * factor + shift
    data[clip.confidence == 0] = 0
    return clip.with_data(data)


def _rest(before: PoseClip, after: PoseClip, frames: int, join: str) -> PoseClip:
    """`frames` frames between the last of one clip and the first of the next."""
    ends = before.with_data(
        np.stack([before.data[-1], after.data[0]]), np.stack([before.confidence[-1], after.confidence[0]])
    )
    weights = np.arange(1, frames + 1) / (frames + 1)
    return resample(ends, np.round(weights) if join == "cut" else weights)

"""Normalisation by the shoulders. Pure functions: they return new clips."""

import numpy as np

from mmpt.pose.clip import PoseClip
from mmpt.pose.components import LEG_POINTS, POSE, visible_hands
from mmpt.utils.errors import UserError

_BEYOND = 1e6
_SHOULDERS = ("RIGHT_SHOULDER", "LEFT_SHOULDER")


def shoulder_frame(clip: PoseClip, axes: int = 3) -> tuple[np.ndarray, float]:
    """(centre float64 [3], scale): the origin and the factor of `normalize_shoulders` for the whole clip.

    centre = mean over frames of the shoulders' midpoint, scale = 1 / mean over frames of their 3-D distance
    (axes = 2: their distance in x and y); frames that lack a shoulder are ignored. Raises UserError if no
    frame has both, or if they coincide.
    """
    if any((POSE, name) not in clip.layout for name in _SHOULDERS):
        raise UserError(
            f"there are no shoulders to normalise by: the pose has {', '.join(clip.layout.components)}; "
            f"expected {POSE} with {' and '.join(_SHOULDERS)}. Estimate the pose with the body, not the "
            "hands alone"
        )
    right, left = (clip.index(POSE, name) for name in _SHOULDERS)
    both = (clip.confidence[:, right] != 0) & (clip.confidence[:, left] != 0)
    if not both.any():
        raise UserError(
            f"none of the {len(clip)} frames has both shoulders, which normalisation needs. The whole upper "
            f"body must be visible; remove this clip"
        )
    a = clip.data[both, right].astype(np.float64)
    b = clip.data[both, left].astype(np.float64)
    distance = float(np.sqrt(((a - b)[:, :axes] ** 2).sum(axis=1)).mean())
    if not distance > 1e-9:
        raise UserError(
            f"the shoulders coincide in every frame (mean distance {distance:g}), so the pose has no scale. "
            f"The pose estimate is broken; remove this clip"
        )
    return ((a + b) / 2).mean(axis=0), 1 / distance


def apply_frame(clip: PoseClip, centre: np.ndarray, scale: float) -> PoseClip:
    """Return (data - centre) * scale; missing points stay 0. Raises UserError for impossible coordinates."""
    with np.errstate(over="ignore"):
        data = ((clip.data - centre) * scale).astype(np.float32)  # computed in float64
    data[clip.confidence == 0] = 0
    if max(data.max(), -data.min()) > _BEYOND:  # squares would overflow float32
        raise UserError(
            f"coordinates of up to {np.abs(clip.data).max():.3g}, with the shoulders {1 / scale:.3g} apart, "
            f"are impossible for a body; the pose estimate is broken, remove this clip"
        )
    return clip.with_data(data)


def normalize_shoulders(clip: PoseClip) -> PoseClip:
    """Move the shoulders' midpoint to the origin and scale their distance to 1. Raises UserError."""
    return apply_frame(clip, *shoulder_frame(clip))


def hide_legs(clip: PoseClip) -> PoseClip:
    """Remove knees, ankles, heels and feet, as in the published features; the hips are kept."""
    return clip.without([clip.index(POSE, name) for name in LEG_POINTS if (POSE, name) in clip.layout])


def scale_depth(clip: PoseClip) -> PoseClip:
    """Scale z to the unit of x and y.

    MediaPipe's z is a fraction of the image width. pose-format writes x and y in pixels but keeps z, which
    makes a hand flat. So z is multiplied by the width, unless the hands (or all points, without hands)
    already extend along z at least 3 % as far as along x or y. Raises UserError if z must be scaled and the
    width is unknown.
    """
    if depth_to_scale(clip) is not False:
        return clip
    if not clip.width > 0:
        raise UserError(
            "z is not in pixels and the file has no image width to scale it by: estimate the pose again"
        )
    scaled = clip.data.copy()
    scaled[..., 2] *= np.float32(clip.width)
    return clip.with_data(scaled)


def depth_to_scale(clip: PoseClip) -> bool | None:
    """Whether z has the unit of x and y (see scale_depth); None for a clip without points."""
    names = visible_hands(clip)
    data, present = clip.data, clip.present
    if names:
        columns = np.concatenate([clip.layout.columns(name) for name in names])
        data, present = data.take(columns, axis=1), present.take(columns, axis=1)
    seen = present.any(axis=1)
    if not seen.any():
        return None
    axes, here = np.ascontiguousarray(data[seen].transpose(2, 0, 1)), present[seen]  # points last: faster
    if here.all():
        spread = axes.max(axis=2) - axes.min(axis=2)
    else:
        spread = axes.max(axis=2, initial=-np.inf, where=here) - axes.min(axis=2, initial=np.inf, where=here)
    spread.sort(axis=1)
    middle = spread.shape[1] - 1
    x, y, z = (spread[:, middle // 2] + spread[:, (middle + 1) // 2]) / 2  # np.median is ten times slower
    return bool(z >= 0.03 * max(x, y))

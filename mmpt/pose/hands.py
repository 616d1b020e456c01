"""Features of one hand: the published 3-D normalisation, and the hand in palm coordinates."""

import numpy as np

from mmpt.pose.clip import PoseClip
from mmpt.pose.components import FINGERS, HAND_POINTS

WRIST, INDEX_MCP, MIDDLE_MCP, PINKY_MCP = (
    HAND_POINTS.index(name) for name in ("WRIST", "INDEX_FINGER_MCP", "MIDDLE_FINGER_MCP", "PINKY_MCP")
)
PALM = (WRIST, INDEX_MCP, MIDDLE_MCP, PINKY_MCP)
PALM_FRAME_DIM, PALM_FRAME_DIM_2D = 3 * len(HAND_POINTS) + 6, 2 * len(HAND_POINTS) + 2
"""63 joint coordinates and two directions: 69. In 2-D 42 and one direction: 44."""
FINGERTIPS = tuple(i for i, name in enumerate(HAND_POINTS) if name.endswith("_TIP"))
PALM_SHAPE_DIM = PALM_FRAME_DIM + 10 + 15 + 16 + 63
PALM_SHAPE_DIM_2D = PALM_FRAME_DIM_2D + 10 + 15 + 16 + 42
"""palm_frame, fingertip distances, bends, thumb distances, joints in image orientation: 173, in 2-D 127."""

_FIRST_TIP, _SECOND_TIP = np.triu_indices(len(FINGERTIPS), 1)
_CHAINS = np.array(FINGERS)
_BEYOND_THUMB = np.arange(5, len(HAND_POINTS))

_SIZE = 100.0


def normalize_hand(clip: PoseClip) -> PoseClip:
    """The published 3-D hand normalisation of a clip of one hand (P = 21), for published configs only.

    Frame by frame: wrist at 0, the palm's normal along z, wrist to middle knuckle along -y, that distance
    100. As published, the in-plane axes do not have unit length before the last scaling, so this is not a
    rigid rotation; and the smallest x, y and z of the whole clip are subtracted from all points. `palm_frame`
    does neither. Missing frames stay 0; a degenerate hand (no plane, no length) becomes missing.
    """
    assert clip.data.shape[1] == len(HAND_POINTS), clip.data.shape
    hand = clip.data.astype(np.float64)
    wrist = hand[:, WRIST]
    normal, area = _unit(np.cross(hand[:, PINKY_MCP] - wrist, hand[:, INDEX_MCP] - wrist))
    y_axis = np.cross([1.0, 0.0, 0.0], normal)
    x_axis = np.cross(normal, y_axis)
    axes = np.stack([x_axis, y_axis, normal], axis=1)  # [T, axis, 3]
    turned = (hand - wrist[:, None]) @ axes.transpose(0, 2, 1)

    line = turned[:, MIDDLE_MCP]
    angle = -(np.pi / 2 + np.arctan2(line[:, 1], line[:, 0]))
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, y = turned[..., 0], turned[..., 1]
    turned = np.stack([cos * x - sin * y, sin * x + cos * y, turned[..., 2]], axis=-1)
    length = np.sqrt((line**2).sum(axis=1))

    present = clip.present
    sound = present[:, PALM].all(axis=1) & (area > 0) & (length > 1e-12)
    turned *= (_SIZE / np.where(sound, length, 1))[:, None, None]
    present = present & sound[:, None]
    if present.any():
        turned -= turned[present].min(axis=0)
    turned[~present] = 0
    return clip.with_data(turned.astype(np.float32), np.where(present, clip.confidence, 0))


def palm_frame(hand: np.ndarray, present: np.ndarray) -> np.ndarray:
    """A hand in palm coordinates: the hand shape, separate from the hand's position and orientation.

    hand: float [T, 21, 3] with the same unit on all axes (see normalization.scale_depth); present: bool
    [T, 21]. Returns float32 [T, 69]: the 21 joints (x, y, z) with the wrist at the origin, y along wrist ->
    middle knuckle, z along the palm's normal (index x pinky), x across, all orthonormal, and wrist -> middle
    knuckle of length 1; then the directions of y and z in the input's coordinates (unit vectors). The first
    63 values are invariant to rotation, translation and scaling of the hand. Zeros where the hand (one of the
    four palm points) is missing or degenerate; a single missing joint is zero.

    hand: float [T, 21, 2] gives float32 [T, 44]: the joints (x, y) in the image plane, then the direction of
    y (see palm_axes_2d).
    """
    return _in_palm(hand, present, *_axes(hand))


def _axes(hand: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return palm_axes(hand) if hand.shape[2] == 3 else palm_axes_2d(hand)


def _in_palm(hand: np.ndarray, present: np.ndarray, axes: np.ndarray, length: np.ndarray) -> np.ndarray:
    """palm_frame, given the result of palm_axes."""
    sound = present[:, PALM].all(axis=1) & (length > 0)
    joints = ((hand - hand[:, WRIST : WRIST + 1]) @ axes) / np.where(sound, length, 1)[:, None, None]
    joints *= (present & sound[:, None])[..., None]
    frames, points, dim = hand.shape
    out = np.empty((frames, points * dim + (dim - 1) * dim), dtype=np.float32)
    out[:, : points * dim] = joints.reshape(frames, points * dim)
    for axis in range(1, dim):
        start = (points + axis - 1) * dim
        out[:, start : start + dim] = axes[..., axis] * sound[:, None]
    return out


def palm_shape(hand: np.ndarray, present: np.ndarray) -> np.ndarray:
    """palm_frame with derived hand-shape features: float32 [T, 173]; of a hand in 2-D [T, 127].

    After the 69 (44) values of palm_frame: the distances between the five fingertips (10), the cosines
    between successive bones of each finger from the wrist to the tip (15: how bent it is), the distances from
    the thumb's tip to the joints of all other fingers (16), all invariant to rotation, translation and
    scaling; and the joints in the input's orientation, from the wrist, in palm lengths (63 or 42). Zeros
    where palm_frame has zeros.
    """
    axes, length = _axes(hand)
    frame = _in_palm(hand, present, axes, length)
    joints = frame[:, : len(HAND_POINTS) * hand.shape[2]].reshape(-1, len(HAND_POINTS), hand.shape[2])
    here = joints.any(axis=2)
    here[:, WRIST] = here.any(axis=1)
    tips = joints[:, FINGERTIPS]
    spread = np.sqrt(((tips[:, _FIRST_TIP] - tips[:, _SECOND_TIP]) ** 2).sum(axis=2))
    spread *= here[:, FINGERTIPS][:, _FIRST_TIP] & here[:, FINGERTIPS][:, _SECOND_TIP]
    bones = joints[:, _CHAINS[:, 1:]] - joints[:, _CHAINS[:, :-1]]  # [T, finger, bone, 3]
    bones /= np.maximum(np.sqrt((bones**2).sum(axis=3, keepdims=True)), 1e-6)
    whole = here[:, _CHAINS]
    bend = (bones[:, :, 1:] * bones[:, :, :-1]).sum(axis=3) * (
        whole[:, :, 2:] & whole[:, :, 1:-1] & whole[:, :, :-2]
    )
    reach = np.sqrt(((joints[:, _BEYOND_THUMB] - tips[:, :1]) ** 2).sum(axis=2))
    reach *= here[:, _BEYOND_THUMB] & here[:, FINGERTIPS[:1]]
    held = joints @ axes.transpose(0, 2, 1)
    parts = [frame, spread, bend.reshape(len(frame), -1), reach, held.reshape(len(frame), -1)]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def palm_axes_2d(hand: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(axes [T, 2, axis], length [T]) of the palm in the image plane, for hand [T, 21, 2].

    axes: orthonormal x and y as columns, undefined for a degenerate hand; y along wrist -> middle knuckle, x
    a quarter turn from it, so that palm and back are mirror images. length: the longer of wrist -> middle
    knuckle and index -> little knuckle, because the first shrinks to nothing in a hand that points at the
    camera; 0 for a degenerate hand.
    """
    up, length = _unit(hand[:, MIDDLE_MCP] - hand[:, WRIST])
    width = _unit(hand[:, PINKY_MCP] - hand[:, INDEX_MCP])[1]
    axes = np.empty((len(hand), 2, 2), dtype=up.dtype)
    axes[:, 0, 0], axes[:, 1, 0], axes[..., 1] = up[:, 1], -up[:, 0], up
    return axes, np.where(length > 1e-3 * width, np.maximum(length, width), 0)


def palm_axes(hand: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(axes [T, 3, axis], length [T]) of the palm.

    axes: the orthonormal x, y, z (see palm_frame) as columns, undefined for a degenerate hand. length: the
    distance from the wrist to the middle knuckle; 0 for a degenerate hand.
    """
    wrist = hand[:, WRIST]
    up, length = _unit(hand[:, MIDDLE_MCP] - wrist)
    normal, area = _unit(_cross(hand[:, INDEX_MCP] - wrist, hand[:, PINKY_MCP] - wrist))
    normal, tilt = _unit(normal - np.einsum("ti,ti->t", normal, up)[:, None] * up)
    sound = (tilt > 1e-3) & (area > 1e-3 * length**2)
    axes = np.empty((len(hand), 3, 3), dtype=normal.dtype)
    axes[..., 0], axes[..., 1], axes[..., 2] = _cross(up, normal), up, normal
    return axes, np.where(sound, length, 0)


def _unit(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(unit vectors [T, 3], lengths [T]); a vector of length 0 stays 0."""
    length = np.sqrt(np.einsum("ti,ti->t", vectors, vectors))
    return vectors / np.where(length > 0, length, 1)[:, None], length


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product of [T, 3] and [T, 3]; np.cross takes several times as long on short arrays."""
    a0, a1, a2, b0, b1, b2 = a[:, 0], a[:, 1], a[:, 2], b[:, 0], b[:, 1], b[:, 2]
    out = np.empty_like(a)
    np.subtract(a1 * b2, a2 * b1, out=out[:, 0])
    np.subtract(a2 * b0, a0 * b2, out=out[:, 1])
    np.subtract(a0 * b1, a1 * b0, out=out[:, 2])
    return out

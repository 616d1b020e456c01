"""MediaPipe landmarks that a corpus publishes in another format, as `.pose` files."""

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pose_format import Pose
from pose_format.numpy import NumPyPoseBody
from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions

from mmpt.pose.clip import PoseClip
from mmpt.pose.components import COMPONENT_POINTS, FACE, FACE_SIZES, FULL_BODY, HAND_POINTS, POSE, POSE_POINTS
from mmpt.pose.reader import parse_pose
from mmpt.utils.errors import UserError
from mmpt.utils.files import atomic_write

Array = NDArray[np.float32]


def pose_of_landmarks(parts: Mapping[str, ArrayLike], fps: float, width: int, height: int) -> bytes:
    """The content of a `.pose` file with one person's Holistic landmarks.

    parts: POSE_LANDMARKS, FACE_LANDMARKS, LEFT_HAND_LANDMARKS and RIGHT_HAND_LANDMARKS, each [T, points, 3]
    in MediaPipe's units: x and z as fractions of the image width, y of its height; NaN where a point is
    missing. width, height: of the image in pixels. Raises UserError for other shapes.
    """
    arrays = _checked(parts)
    data = np.concatenate([arrays[name] for name in FULL_BODY], axis=1)
    present = ~np.isnan(data).any(axis=2)
    with np.errstate(over="ignore"):  # infinite coordinates are refused where the file is read
        pixels: Array = np.multiply(
            np.where(present[..., None], data, 0), np.array([width, height, 1], np.float32)
        )
    return _content(arrays, pixels, present.astype(np.float32), fps, width, height)


def pose_of_pixels(
    parts: Mapping[str, ArrayLike],
    confidence: Mapping[str, ArrayLike],
    fps: float,
    width: int,
    height: int,
) -> bytes:
    """As pose_of_landmarks, from the coordinates of `.pose` files.

    parts: as there, but x and y in pixels. confidence: [T, points] for each part, 0 where a
    point is missing; a point with a non-finite value is missing too. Raises UserError for other shapes.
    """
    arrays = _checked(parts)
    data = np.concatenate([arrays[name] for name in FULL_BODY], axis=1)
    confidences = np.concatenate([np.asarray(confidence[name], np.float32) for name in FULL_BODY], axis=1)
    if confidences.shape != data.shape[:2]:
        raise UserError(
            f"got confidences of shape {list(confidences.shape)}, expected {list(data.shape[:2])} as "
            "the landmarks."
        )
    confidences = np.where(np.isfinite(data).all(axis=2) & np.isfinite(confidences), confidences, 0)
    data = np.where(confidences[..., None] > 0, data, 0)
    return _content(arrays, data, confidences, fps, width, height)


def shows_somebody(content: bytes) -> bool:
    """Whether a `.pose` file has a point. Raises UserError if it cannot be read (see read_pose)."""
    return bool(parse_pose(content).confidence.any())


def write_once(path: Path, content: bytes, known: str | None = None) -> None:
    """Write a file, unless it is there with the same content.

    known: the SHA-256 of a file that is replaced. Raises UserError if another file is there.
    """
    if os.path.lexists(path):
        there = path.read_bytes() if path.is_file() else b""
        if there == content:
            return
        if hashlib.sha256(there).hexdigest() != known:
            raise UserError(
                f"{path} exists and differs from what would be written: give another --out, or move it away."
            )
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def as_pose(clip: PoseClip, height: int) -> Pose:
    """A clip as an object of pose-format, in 3-D. height: of the image in pixels."""
    components = [
        PoseHeaderComponent(name, [point for part, point in clip.points if part == name], [], [], "XYZC")
        for name in clip.layout.components
    ]
    width = round(clip.width)
    header = PoseHeader(0.2, PoseHeaderDimensions(width, height, width), components)
    return Pose(header, NumPyPoseBody(clip.fps, clip.data[:, None], clip.confidence[:, None]))


def _checked(parts: Mapping[str, ArrayLike]) -> dict[str, Array]:
    arrays = {name: np.asarray(parts.get(name), dtype=np.float32) for name in FULL_BODY}
    frames = len(arrays[POSE]) if arrays[POSE].ndim else 0
    for name, array in arrays.items():
        sizes = FACE_SIZES if name == FACE else (COMPONENT_POINTS[name],)
        if array.ndim != 3 or array.shape[1] not in sizes or array.shape[::2] != (frames, 3) or not frames:
            raise UserError(
                f"{name}: expected landmarks [frames, {' or '.join(map(str, sizes))}, 3] with as many "
                f"frames as {POSE}, got {list(array.shape)}."
            )
    return arrays


def _content(
    arrays: Mapping[str, Array],
    data: Array,
    confidences: Array,
    fps: float,
    width: int,
    height: int,
) -> bytes:
    components = [
        PoseHeaderComponent(name, _points(name, arrays[name].shape[1]), [], [], "XYZC") for name in FULL_BODY
    ]
    header = PoseHeader(0.2, PoseHeaderDimensions(width, height, width), components)
    body = NumPyPoseBody(fps, data[:, None].astype(np.float32), confidences[:, None].astype(np.float32))
    buffer = io.BytesIO()
    Pose(header, body).write(buffer)
    return buffer.getvalue()


def _points(component: str, count: int) -> list[str]:
    if component == FACE:
        return [str(number) for number in range(count)]
    return list(POSE_POINTS if component == POSE else HAND_POINTS)

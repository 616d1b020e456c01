"""MediaPipe landmarks that a corpus publishes in another format, as `.pose` files."""

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pose_format import Pose
from pose_format.numpy import NumPyPoseBody
from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions

from mmpt.pose.clip import PoseClip
from mmpt.pose.components import COMPONENT_POINTS, FACE, FACE_SIZES, FULL_BODY, POSE, component_points
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

    parts: as there, but x and y in pixels. confidence: [T, points] for each part, 0 or less where a
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
    seen = np.isfinite(data).all(axis=2) & np.isfinite(confidences) & (confidences > 0)
    confidences, data = np.where(seen, confidences, 0), np.where(seen[..., None], data, 0)
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
    names = {part: [point for of, point in clip.points if of == part] for part in clip.layout.components}
    return pose_of(_components(names), clip.data, clip.confidence, clip.fps, round(clip.width), height)


def pose_of(
    parts: Sequence[PoseHeaderComponent],
    data: np.ndarray,
    confidence: np.ndarray,
    fps: float,
    width: int,
    height: int,
) -> Pose:
    """One person's landmarks [T, P, 2 or 3] with confidences [T, P] as an object of pose-format."""
    size = PoseHeaderDimensions(width, height, width if data.shape[-1] == 3 else 0)
    arrays = (array[:, None].astype(np.float32, copy=False) for array in (data, confidence))
    return Pose(PoseHeader(0.2, size, list(parts)), NumPyPoseBody(fps, *arrays))


def _components(names: Mapping[str, Sequence[str]]) -> list[PoseHeaderComponent]:
    """Components in 3-D from the names of their points; without lines and colours."""
    return [PoseHeaderComponent(name, list(points), [], [], "XYZC") for name, points in names.items()]


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
    arrays: Mapping[str, Array], data: Array, confidences: Array, fps: float, width: int, height: int
) -> bytes:
    names = {name: component_points(name, None, arrays[name].shape[1]) for name in FULL_BODY}
    buffer = io.BytesIO()
    pose_of(_components(names), data, confidences, fps, width, height).write(buffer)
    return buffer.getvalue()

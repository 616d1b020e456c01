"""Write MediaPipe landmarks that a corpus publishes in another format as `.pose` files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pose_format import Pose
from pose_format.numpy import NumPyPoseBody
from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions

from mmpt.pose.clip import PoseClip
from mmpt.pose.components import COMPONENT_POINTS, FACE, FACE_SIZES, FULL_BODY, POSE, component_points
from mmpt.utils.errors import UserError
from mmpt.utils.files import atomic_write

Array = NDArray[np.float32]


def write_landmarks(path: Path, parts: Mapping[str, ArrayLike], fps: float, width: int, height: int) -> None:
    """Write one person's Holistic landmarks.

    parts: POSE_LANDMARKS, FACE_LANDMARKS, LEFT_HAND_LANDMARKS and RIGHT_HAND_LANDMARKS, each [T, points, 3]
    in MediaPipe's units: x and z as fractions of the image width, y of its height; NaN where a point is
    missing. width, height: of the image in pixels. Raises UserError for other shapes.
    """
    arrays = _checked(parts)
    size = np.array([width, height, 1], np.float32)
    pixels = {name: array * size for name, array in arrays.items()}
    seen = {name: np.ones(array.shape[:2], np.float32) for name, array in arrays.items()}
    write_pixels(path, pixels, seen, fps, width, height)


def write_pixels(
    path: Path,
    parts: Mapping[str, ArrayLike],
    confidence: Mapping[str, ArrayLike],
    fps: float,
    width: int,
    height: int,
) -> None:
    """Write one person's Holistic landmarks in the coordinates of `.pose` files.

    parts: as in write_landmarks, but x and y in pixels. confidence: [T, points] for each part, 0 where a
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
    names = {name: component_points(name, None, arrays[name].shape[1]) for name in FULL_BODY}
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        pose_of(_components(names), data, confidences, fps, width, height).write(file)


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

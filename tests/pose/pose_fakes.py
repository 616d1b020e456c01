"""Made-up poses: as clips, and as files of pose-format."""

from pathlib import Path

import numpy as np
from pose_format import Pose
from pose_format.numpy import NumPyPoseBody
from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions

from mmpt.pose.clip import PoseClip, PoseLayout
from mmpt.pose.components import FACE, HAND_POINTS, LEFT_HAND, POSE, POSE_POINTS, RIGHT_HAND

POINTS = {POSE: POSE_POINTS, LEFT_HAND: HAND_POINTS, RIGHT_HAND: HAND_POINTS}


def layout(*components: str, n_face: int = 0) -> PoseLayout:
    points = POINTS | {FACE: tuple(map(str, range(n_face)))}
    names = components or (POSE, *([FACE] if n_face else []), LEFT_HAND, RIGHT_HAND)
    return PoseLayout.of([(name, point) for name in names for point in points[name]])


def fake_clip(frames: int = 12, seed: int = 0, missing: float = 0.3, **kwargs) -> PoseClip:
    """Random points; whole components come and go, the body is always there."""
    rng = np.random.default_rng(seed)
    names = kwargs.pop("layout", None) or layout(**kwargs)
    data = rng.normal(size=(frames, len(names), 3)).astype(np.float32)
    confidence = rng.uniform(0.2, 1, size=(frames, len(names))).astype(np.float32)
    for component in names.components:
        if component != POSE:
            confidence[np.ix_(rng.random(frames) < missing, names.columns(component))] = 0
    data[confidence == 0] = 0
    return PoseClip(data, confidence, 25.0, names, 500.0)


def without(clip: PoseClip, *components: str) -> PoseClip:
    """A copy of the clip in which these components are never visible."""
    data, confidence = clip.data.copy(), clip.confidence.copy()
    for component in components:
        columns = clip.layout.columns(component)
        data[:, columns], confidence[:, columns] = 0, 0
    return clip.with_data(data, confidence)


def header(names: PoseLayout, point_format: str = "XYZC") -> PoseHeader:
    parts = [
        PoseHeaderComponent(name, [p for c, p in names.points if c == name], [], [], point_format)
        for name in names.components
    ]
    return PoseHeader(0.2, PoseHeaderDimensions(500, 400, 0), parts)


def as_pose(clip: PoseClip, people: int = 1) -> Pose:
    data = np.repeat(clip.data[:, None], people, axis=1)
    confidence = np.repeat(clip.confidence[:, None], people, axis=1)
    return Pose(header(clip.layout), NumPyPoseBody(clip.fps, data, confidence))


def write_pose(path: Path, clip: PoseClip, people: int = 1) -> Path:
    with open(path, "wb") as file:
        as_pose(clip, people).write(file)
    return path


def assert_masked(clip: PoseClip) -> None:
    assert clip.data.dtype == np.float32 and clip.confidence.dtype == np.float32
    assert np.isfinite(clip.data).all()
    assert not clip.data[clip.confidence == 0].any()

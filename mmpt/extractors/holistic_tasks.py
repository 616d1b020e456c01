"""HolisticLandmarker of MediaPipe's Tasks, with the models of a bundle (holistic_bundle.py).

Layout, thresholds and time stamps (which control how much landmarks are smoothed) are those of the legacy
backend. Frames are tracked (VIDEO mode); docs/decisions.md has the measurements.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmpt.extractors.holistic import HolisticReader
from mmpt.pose.components import FACE, FACE_SIZES, HANDS, HOLISTIC, component_points
from mmpt.utils.errors import UserError

if TYPE_CHECKING:
    from pose_format import Pose

    from mmpt.extractors.video import Video

_UNREACHABLE = "http://127.0.0.1:9"


@dataclass(frozen=True, kw_only=True)
class TasksReader(HolisticReader):
    """`bundle`: the file of the models. `refine_face` needs a bundle whose face model has irises."""

    bundle: Path

    def estimate(self, video: "Video", frames: Iterator[tuple[Fraction, Any]], fps: float) -> "Pose":
        from pose_format import Pose
        from pose_format.numpy import NumPyPoseBody
        from pose_format.pose_header import PoseHeader, PoseHeaderDimensions

        points = FACE_SIZES[self.refine_face]
        found = [_landmarks(result, points) for result in self._results(video, frames)]
        data = np.stack([coordinates for coordinates, _ in found])
        data[..., :2] *= (video.width, video.height)
        confidence = np.stack([seen for _, seen in found])
        size = PoseHeaderDimensions(width=video.width, height=video.height, depth=0)
        body = NumPyPoseBody(fps, data[:, None], confidence[:, None])
        return Pose(PoseHeader(version=0.1, dimensions=size, components=_components(points)), body)

    def _results(self, video: "Video", frames: Iterator[tuple[Fraction, Any]]) -> Iterator[Any]:
        """One HolisticLandmarkerResult per frame."""
        from mediapipe import Image, ImageFormat
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.HolisticLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(self.bundle)),
            running_mode=vision.RunningMode.VIDEO,
            min_pose_suppression_threshold=0.3,
            min_face_suppression_threshold=0.3,
        )
        with no_usage_metrics():
            try:
                landmarker = vision.HolisticLandmarker.create_from_options(options)
            except (OSError, RuntimeError, ValueError) as error:
                raise UserError(f"{self.bundle} cannot be used by HolisticLandmarker: {error}") from error
            with landmarker:
                for number, (_, frame) in enumerate(frames, 1):
                    picture = video.picture(frame, video.width, video.height, "bicubic")
                    # MediaPipe reads the memory of an array with padded rows as if there were no padding
                    image = Image(image_format=ImageFormat.SRGB, data=np.ascontiguousarray(picture))
                    # the legacy Holistic takes every video for one of 30 frames per second
                    yield landmarker.detect_for_video(image, round(number * 1000 / 30))


def _landmarks(result: Any, face_points: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates float32 [points, 3] in the units of MediaPipe, and confidences [points], of one frame."""
    coordinates, confidence = [], []
    for name in HOLISTIC:
        points = len(component_points(name, None, face_points))
        found = getattr(result, name.lower())[:points]
        coordinates.append(np.array([(p.x, p.y, p.z) for p in found], np.float32).reshape(-1, 3))
        seen = np.array([p.visibility if name.startswith("POSE") else 1 for p in found], np.float32)
        if not found:
            coordinates[-1], seen = np.zeros((points, 3), np.float32), np.zeros(points, np.float32)
        confidence.append(seen)
    return np.concatenate(coordinates), np.concatenate(confidence)


def _components(face_points: int) -> list[Any]:
    """The header's components, as pose-format writes those of the legacy Holistic."""
    from mediapipe.tasks.python import vision
    from pose_format.pose_header import PoseHeaderComponent

    hand = vision.HandLandmarksConnections.HAND_CONNECTIONS
    face = list(vision.FaceLandmarksConnections.FACE_LANDMARKS_TESSELATION)
    if face_points > FACE_SIZES[0]:
        face += vision.FaceLandmarksConnections.FACE_LANDMARKS_LEFT_IRIS
        face += vision.FaceLandmarksConnections.FACE_LANDMARKS_RIGHT_IRIS
    limbs = dict.fromkeys(HOLISTIC, vision.PoseLandmarksConnections.POSE_LANDMARKS)
    limbs |= dict.fromkeys(HANDS, hand) | {FACE: face}
    return [
        PoseHeaderComponent(
            name=name,
            points=list(component_points(name, None, face_points)),
            limbs=[(limb.start, limb.end) for limb in limbs[name]],
            colors=[(128, 0, 0) if name == FACE else (255, 0, 0)],
            point_format="XYZC",
        )
        for name in HOLISTIC
    ]


@contextlib.contextmanager
def no_usage_metrics() -> Iterator[None]:
    """Block the usage metrics that MediaPipe 1.x sends to a Google host when a task is closed.

    It has no option for that. Its HTTP client obeys the proxy variables of the environment.
    """
    ours = {"https_proxy": _UNREACHABLE, "no_proxy": "", "NO_PROXY": ""}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

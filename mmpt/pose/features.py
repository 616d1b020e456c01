"""Prepared clip -> feature vectors: coordinates or hand features, velocity, presence."""

import numpy as np

from mmpt.config.dataset_options import FrameFeatures
from mmpt.pose import hands
from mmpt.pose.clip import PoseClip
from mmpt.pose.components import HANDS, PoseComponents, component_names, n_points

_VELOCITY_FPS = 25.0

#: value of hand_frame -> function of a hand, and its feature dimension
HAND_FRAMES = {
    "palm": (hands.palm_frame, hands.PALM_FRAME_DIM),
    "palm_shape": (hands.palm_shape, hands.PALM_SHAPE_DIM),
}


class PoseFeatures:
    """Clip -> features, float32 [T, dim]; missing points are 0.

    pose_components: the components of the clips. options: what each frame's vector holds.
    """

    def __init__(self, pose_components: PoseComponents, options: FrameFeatures):
        self.components = component_names(pose_components)
        self.hands = [name for name in self.components if name in HANDS]
        self.options = options
        self._pose_components = pose_components

    def dim(self, face_points: int) -> int:
        """Feature dimension, for a whole face of `face_points` points."""
        width = 3 * n_points(self._pose_components, face_points)
        if self.options.hand_frame is not None:
            width += (HAND_FRAMES[self.options.hand_frame][1] - 63) * len(self.hands)
        velocity = width if self.options.velocity else 0
        return width + velocity + (len(self.hands) if self.options.presence else 0)

    def __call__(self, clip: PoseClip, rate: float) -> np.ndarray:
        """Features of a clip of `rate` frames per second."""
        if self.options.hand_frame is None:
            out = np.ascontiguousarray(clip.data).reshape(len(clip), -1)
        else:
            out = np.concatenate([self._component(clip, name) for name in self.components], axis=1)
        blocks = [out]
        if self.options.velocity:
            blocks.append(_velocity(out, rate))
        if self.options.presence:
            present = [clip.component(name)[1].any(axis=1, keepdims=True) for name in self.hands]
            blocks.append(np.concatenate(present, axis=1).astype(np.float32))
        return np.concatenate(blocks, axis=1) if len(blocks) > 1 else out

    def _component(self, clip: PoseClip, name: str) -> np.ndarray:
        data, confidence = clip.component(name)
        if name in HANDS:
            assert self.options.hand_frame is not None
            return HAND_FRAMES[self.options.hand_frame][0](data, confidence != 0)
        return data.reshape(len(data), -1)


def _velocity(out: np.ndarray, rate: float) -> np.ndarray:
    """Change since the previous frame, per 1/25 s; 0 where either frame is missing."""
    velocity = np.zeros_like(out)
    velocity[1:] = (out[1:] - out[:-1]) * np.float32(rate / _VELOCITY_FPS)
    return np.where((out != 0) & (np.roll(out, 1, axis=0) != 0), velocity, np.float32(0))

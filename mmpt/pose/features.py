"""Prepared clip -> feature vectors: coordinates or hand features, velocity, numbers per hand."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mmpt.config.dataset_options import FrameFeatures
from mmpt.pose import hands
from mmpt.pose.clip import Point, PoseClip
from mmpt.pose.components import (
    CANONICAL,
    FACE,
    HANDS,
    HOLISTIC_LAYOUT,
    PoseComponents,
    component_names,
    component_points,
)

_VELOCITY_FPS = 25.0

#: value of hand_frame -> function of a hand, and its feature dimension in 3-D and 2-D
HAND_FRAMES = {
    "palm": (hands.palm_frame, {3: hands.PALM_FRAME_DIM, 2: hands.PALM_FRAME_DIM_2D}),
    "palm_shape": (hands.palm_shape, {3: hands.PALM_SHAPE_DIM, 2: hands.PALM_SHAPE_DIM_2D}),
}


def presence(clip: PoseClip, hand: str) -> np.ndarray:
    """Whether a hand is visible, [T, 1].

    Append 1 for each hand that was found, 0 otherwise.
    """
    return clip.component(hand)[1].any(axis=1, keepdims=True)


@dataclass(frozen=True)
class PerHand:
    """Numbers that are appended to the features for each hand.

    function: of a clip and the name of a hand, [T, size]; its docstring after the summary describes it for
    users of ONNX. points: landmarks that it reads besides those of the hand.
    """

    function: Callable[[PoseClip, str], np.ndarray]
    size: int = 1
    points: tuple[Point, ...] = ()


#: option of FrameFeatures -> numbers
PER_HAND = {"presence": PerHand(presence)}


class PoseFeatures:
    """Clip -> features, float32 [T, dim]; missing points are 0.

    pose_components: the components of the clips. options: what each frame's vector holds. layout: with
    "canonical", the features are made of x and y alone.
    """

    def __init__(
        self, pose_components: PoseComponents, options: FrameFeatures, layout: str = HOLISTIC_LAYOUT
    ):
        self.components = component_names(pose_components)
        self.hands = [name for name in self.components if name in HANDS]
        self.options = options
        self.per_hand = [numbers for name, numbers in PER_HAND.items() if getattr(options, name)]
        self.axes = 2 if layout == CANONICAL else 3
        self._layout = layout
        self._pose_components = pose_components

    def dim(self, face_points: int) -> int:
        """Feature dimension, for a whole face of `face_points` points."""
        width = sum(self._sizes(face_points).values())
        return width * (2 if self.options.velocity else 1) + self._appended

    @property
    def _appended(self) -> int:
        return len(self.hands) * sum(numbers.size for numbers in self.per_hand)

    def _sizes(self, face_points: int) -> dict[str, int]:
        """Component -> how many numbers describe it."""
        frame = self.options.hand_frame
        return {
            name: self.axes * len(component_points(name, self._pose_components, face_points, self._layout))
            if frame is None or name not in HANDS
            else HAND_FRAMES[frame][1][self.axes]
            for name in self.components
        }

    def __call__(self, clip: PoseClip, rate: float) -> np.ndarray:
        """Features of a clip of `rate` frames per second."""
        if self.options.hand_frame is None:
            out = np.ascontiguousarray(clip.data[..., : self.axes]).reshape(len(clip), -1)
        else:
            out = np.concatenate([self._component(clip, name) for name in self.components], axis=1)
        blocks = [out]
        if self.options.velocity:
            blocks.append(_velocity(out, rate))
        for numbers in self.per_hand:
            blocks += [numbers.function(clip, hand).astype(np.float32) for hand in self.hands]
        return np.concatenate(blocks, axis=1) if len(blocks) > 1 else out

    def blank(self, features: np.ndarray) -> bool:
        """Whether features [T, D] are 0 for all selected hands; without a hand, whether all are 0.

        The embedding of such a clip does not depend on the signs.
        """
        return not (features[:, self._hand_columns(features.shape[1])] if self.hands else features).any()

    @property
    def blank_means(self) -> str:
        """What `blank` says of a clip, for messages."""
        return self.without_parts("in the frames that are read")

    def without_parts(self, where: str) -> str:
        """That clips show nothing of the hands, for messages."""
        hint = " (left-handed signers must be mirrored, right-handed ones must not)" if self.hands else ""
        return f"show nothing of {' or '.join(self.hands or self.components)} {where}{hint}"

    def _hand_columns(self, width: int) -> np.ndarray:
        """The columns of the hands' coordinates in features of `width` numbers, bool [width]."""
        coordinates = (width - self._appended) // (2 if self.options.velocity else 1)
        sizes = self._sizes(0) | {FACE: 0}
        sizes[FACE] = coordinates - sum(sizes.values())  # its number of points differs
        columns = np.zeros(width, dtype=bool)
        start = 0
        for name in self.components:
            end = start + sizes[name]
            columns[start:end] = name in HANDS
            start = end
        return columns

    def _component(self, clip: PoseClip, name: str) -> np.ndarray:
        data, confidence = clip.component(name)
        data = data[..., : self.axes]
        if name in HANDS:
            assert self.options.hand_frame is not None
            return HAND_FRAMES[self.options.hand_frame][0](data, confidence != 0)
        return data.reshape(len(data), -1)


def _velocity(out: np.ndarray, rate: float) -> np.ndarray:
    """Change since the previous frame, per 1/25 s; 0 where either frame is missing."""
    velocity = np.zeros_like(out)
    velocity[1:] = (out[1:] - out[:-1]) * np.float32(rate / _VELOCITY_FPS)
    return np.where((out != 0) & (np.roll(out, 1, axis=0) != 0), velocity, np.float32(0))

"""A `.pose` file -> frames of numbers: reading, normalising, selecting, and in training augmenting."""

import dataclasses
import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmpt.config.dataset_options import PoseAugmentation
from mmpt.pose import augmentation, hands
from mmpt.pose.augmentation3d import augment3d as apply_augment3d
from mmpt.pose.clip import PoseClip
from mmpt.pose.components import (
    FACE,
    FACE_SIZES,
    HANDS,
    REDUCED_FACE,
    RIGHT_HAND,
    PoseComponents,
    component_names,
    n_points,
    select_components,
)
from mmpt.pose.mirror import mirror as mirror_clip
from mmpt.pose.mirror import mirrored_point, right_hand_is_idle
from mmpt.pose.normalization import apply_frame, hide_legs, scale_depth, shoulder_frame
from mmpt.pose.reader import read_pose, read_recording
from mmpt.pose.span import Span
from mmpt.pose.window import sample_window
from mmpt.processors.registry import VIDEO_PROCESSORS
from mmpt.utils.errors import UserError

log = logging.getLogger(__name__)

_VERSION = 1  # of what `prepare` computes: raise it when that changes, so that caches are made anew
_VELOCITY_FPS = 25.0

#: value of hand_frame -> what makes it of a hand, and how many numbers
HAND_FRAMES = {
    "palm": (hands.palm_frame, hands.PALM_FRAME_DIM),
    "palm_shape": (hands.palm_shape, hands.PALM_SHAPE_DIM),
}


@VIDEO_PROCESSORS.register("PoseProcessor", "RWTHFSPoseProcessor", "SignCLIPPoseProcessor")
class PoseProcessor:
    """`prepare` is deterministic and worth keeping (see mmpt.pose.store); `features` adds what is random.

    pose_components: null = body, face, hands; "reduced_face"; or a list of components (config order is kept).
    normalize_hand: the published 3-D hand normalisation, where the components are exactly
    [RIGHT_HAND_LANDMARKS].
    hand_frame: "palm" = each hand becomes 69 numbers: its joints in the palm's own frame, and the palm's
    directions.
    scale_depth: bring z to the unit of x and y first (always so with hand_frame: "palm").
    velocity: append the change of each number per 1/25 s. presence: append a 0/1 number for each hand.
    face_points: 468 or 478 points of the whole face; None takes what the file has.
    flip_pose: "right" mirrors a clip whose right hand is idle; a number is the chance to mirror in training.
    augment2d, augment_temporal (for a share augment_temporal_chance of the clips, None = all),
    gaussian_noise: the published augmentations; augment3d: those of raw landmarks. They act only when
    `training`, and with a Generator. clip_window, clip_frames: the share of the clip that is used, such as
    (0.25, 0.75), and at how many evenly spread moments; None: all of it, frame by frame.
    max_video_len: augment_temporal leaves a clip alone that would get this long.
    """

    suffix = ".pose"

    def __init__(
        self,
        *,
        pose_components: PoseComponents = None,
        normalize_hand: bool = False,
        hand_frame: str | None = None,
        scale_depth: bool = False,
        velocity: bool = False,
        presence: bool = False,
        face_points: int | None = None,
        flip_pose: str | float | None = None,
        augment2d: bool = False,
        augment_temporal: bool = False,
        augment_temporal_chance: float | None = None,
        gaussian_noise: bool = False,
        augment3d: PoseAugmentation | None = None,
        clip_window: Sequence[float] | None = None,
        clip_frames: int | None = None,
        max_video_len: int = 256,
        training: bool = False,
    ):
        self.pose_components = (
            pose_components
            if pose_components is None or isinstance(pose_components, str)
            else list(pose_components)
        )
        self.components = component_names(pose_components)
        self.hand_frame = hand_frame
        self.scale_depth = scale_depth or hand_frame is not None
        self.velocity = velocity
        self.presence = presence
        self.face_points = face_points
        self.augment2d = augment2d
        self.augment_temporal = augment_temporal
        self.augment_temporal_chance = augment_temporal_chance
        self.gaussian_noise = gaussian_noise
        self.augment3d = augment3d or PoseAugmentation()
        self.clip_window = None if clip_window is None else _window(clip_window)
        self.clip_frames = clip_frames
        self.max_video_len = max_video_len
        self.training = training
        self.flip_to_right, self.flip_chance = _flip(flip_pose, self.components)
        self.normalize_hand = normalize_hand and self.components == (RIGHT_HAND,)
        self._check(normalize_hand)

    @classmethod
    def from_config(cls, config: Any, training: bool, vfeat_dim: int | None = None) -> "PoseProcessor":
        """The processor that the `dataset` section of a config describes.

        `vfeat_dim` (model.vfeat_dim), where given, tells whether a model of the full body takes 468 face
        points (1629 numbers) or 478 (1659), so that it can read poses of either kind. Raises UserError.
        """
        if config.anonym_pose:
            raise UserError(
                "dataset.anonym_pose: removing the signer's appearance needs the package pose-anonymization "
                "and its mean pose, which mmpt does not have; anonymise the .pose files beforehand and set "
                "it to false"
            )
        if config.preprocess:
            raise UserError(
                f"dataset.preprocess: {config.preprocess!r} needs the package sign-vq and its mean and std "
                f"of poses, which mmpt does not have; leave it out to normalise by the shoulders"
            )
        made = cls(
            pose_components=config.pose_components,
            normalize_hand=config.normalize_hand,
            hand_frame=config.hand_frame,
            scale_depth=config.scale_depth,
            velocity=config.velocity,
            presence=config.presence,
            face_points=config.face_points,
            flip_pose=config.flip_pose,
            augment2d=config.augment2d,
            augment_temporal=config.augment_temporal,
            augment_temporal_chance=config.augment_temporal_chance,
            gaussian_noise=config.gaussian_noise,
            augment3d=config.augment3d,
            clip_window=config.clip_window,
            clip_frames=config.clip_frames,
            max_video_len=config.max_video_len,
            training=training,
        )
        whole_face = FACE in made.components and config.pose_components != REDUCED_FACE
        if whole_face and made.face_points is None:
            made.face_points = next((n for n in FACE_SIZES if made._dim(n) == vfeat_dim), None)
        return made

    def __call__(
        self,
        path: str | os.PathLike[str],
        rng: np.random.Generator | None = None,
        mirror: bool = False,
        span: Span | None = None,
    ) -> np.ndarray:
        """A file's features, float32 [T, feature_dim]: features(prepare(path)). Raises UserError."""
        return self.features(self.prepare(path, mirror, span), rng)

    def prepare(
        self, path: str | os.PathLike[str], mirror: bool = False, span: Span | None = None
    ) -> PoseClip:
        """Read a file and do all that is not random. Raises UserError, which names the file.

        span: the part of the file that is the clip, prepared as if it were a file of its own.
        """
        clip = read_pose(path) if span is None else read_recording(path)
        try:
            if span is not None:
                clip = clip.frames(span.frames(len(clip), clip.fps))
            return self.prepare_clip(clip, mirror)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def prepare_clip(self, clip: PoseClip, mirror: bool = False) -> PoseClip:
        """What `prepare` does, for a clip in memory (see mmpt.pose.reader.from_pose). Raises UserError.

        In this order: mirror, bring z to scale (both if asked), take the shoulders' frame of the whole clip,
        hide the legs, select the components, move them into that frame, normalise the hand (if asked).
        """
        if mirror or (self.flip_to_right and right_hand_is_idle(clip)):
            clip = mirror_clip(clip)
        if self.scale_depth:
            clip = scale_depth(clip)
        centre, scale = shoulder_frame(clip)
        clip = select_components(clip, self.pose_components, self.face_points)
        clip = apply_frame(hide_legs(clip), centre, scale)
        return hands.normalize_hand(clip) if self.normalize_hand else clip

    def prepare_key(self) -> dict[str, Any]:
        """All settings that `prepare` depends on, for the key of a cache."""
        return {
            "processor": "PoseProcessor",
            "version": _VERSION,
            "pose_components": self.pose_components,
            "normalize_hand": self.normalize_hand,
            "scale_depth": self.scale_depth,
            "face_points": self.face_points,
            "flip_to_right": self.flip_to_right,
        }

    def features(self, clip: PoseClip, rng: np.random.Generator | None = None) -> np.ndarray:
        """A prepared clip's numbers, float32 [T, feature_dim]; missing points are 0.

        When `training` and with `rng`, the clip is augmented first (and T may change).
        """
        rate = self._rate(clip)
        if rng is None or not self.training:
            return self._numbers(self._moments(clip), rate)
        options = self.augment3d
        if options.probability < 1:  # decided here for the choice of moments and for the rest
            options = dataclasses.replace(options, probability=float(rng.random() < options.probability))
        clip = self._moments(clip, options.window_jitter if options.active() else 0.0, rng)
        return self._numbers(self.augment(clip, rng, options), rate)

    def features_of(self, clips: Sequence[PoseClip]) -> list[np.ndarray]:
        """features(clip) for each of some prepared clips, not augmented: the same numbers, in fewer steps.

        A step over a short clip's frames costs NumPy more to begin than to do.
        """
        chosen = [self._moments(clip) for clip in clips]
        alike = len({clip.layout for clip in chosen}) == 1
        if self.hand_frame is None or self.velocity or not alike:  # nothing to gain; steps across frames
            return [self._numbers(moments, self._rate(clip)) for moments, clip in zip(chosen, clips)]
        data = np.concatenate([clip.data for clip in chosen])
        together = chosen[0].with_data(data, np.concatenate([clip.confidence for clip in chosen]))
        return np.split(self._numbers(together, together.fps), np.cumsum([len(clip) for clip in chosen])[:-1])

    def _moments(
        self, clip: PoseClip, jitter: float = 0.0, rng: np.random.Generator | None = None
    ) -> PoseClip:
        """The part of the clip, and the frames of it, that the config asks for."""
        if self.clip_window is None and self.clip_frames is None:
            return clip
        return sample_window(clip, self.clip_window or (0.0, 1.0), self.clip_frames, jitter, rng)

    def _rate(self, clip: PoseClip) -> float:
        """Moments a second that `_moments` takes of a clip, without jitter."""
        low, high = self.clip_window or (0.0, 1.0)
        frames = (high - low) * (len(clip) - 1)
        count = int(self.feature_lengths(np.array([len(clip)]))[0])
        return clip.fps * (count - 1) / frames if count > 1 and frames else clip.fps

    def _numbers(self, clip: PoseClip, rate: float) -> np.ndarray:
        if self.hand_frame is None:
            out = np.ascontiguousarray(clip.data).reshape(len(clip), -1)
        else:
            out = np.concatenate([self._component_features(clip, name) for name in self.components], axis=1)
        blocks = [out]
        if self.velocity:
            blocks.append(self._velocity(out, rate))
        if self.presence:
            here = [clip.component(name)[1].any(axis=1, keepdims=True) for name in self._hands]
            blocks.append(np.concatenate(here, axis=1).astype(np.float32))
        return np.concatenate(blocks, axis=1) if len(blocks) > 1 else out

    def feature_lengths(self, frames: np.ndarray) -> np.ndarray:
        """Frames of `features` for clips of int64 [N] frames, before augmentation."""
        if self.clip_frames is not None:
            return np.full_like(frames, self.clip_frames)
        low, high = self.clip_window or (0.0, 1.0)
        return np.round((high - low) * np.maximum(frames - 1, 0)).astype(frames.dtype) + (frames > 0)

    def augment(
        self, clip: PoseClip, rng: np.random.Generator, options: PoseAugmentation | None = None
    ) -> PoseClip:
        """The random changes that are switched on, in the ancestor's order: flip, (augment3d,) 2-D, time,
        noise. options: of augment3d; None: as configured.
        """
        if self.flip_chance:
            clip = augmentation.flip(clip, rng, self.flip_chance)
        clip = apply_augment3d(clip, options or self.augment3d, rng)
        if self.augment2d:
            clip = augmentation.augment2d(clip, rng)
        if self.augment_temporal:
            chance = self.augment_temporal_chance
            if chance is None or rng.random() < chance:
                clip = augmentation.augment_temporal(clip, rng, self.max_video_len)
        if self.gaussian_noise:
            clip = augmentation.gaussian_noise(clip, rng)
        return clip

    @property
    def feature_dim(self) -> int:
        """Numbers in a frame. A whole face is taken to have 468 points where `face_points` is None."""
        return self._dim(self.face_points or FACE_SIZES[0])

    def _dim(self, face_points: int) -> int:
        width = 3 * n_points(self.pose_components, face_points)
        if self.hand_frame is not None:
            width += (HAND_FRAMES[self.hand_frame][1] - 63) * len(self._hands)
        return width * (2 if self.velocity else 1) + (len(self._hands) if self.presence else 0)

    @property
    def _hands(self) -> Sequence[str]:
        return [name for name in self.components if name in HANDS]

    def _component_features(self, clip: PoseClip, name: str) -> np.ndarray:
        data, confidence = clip.component(name)
        if name in HANDS:
            assert self.hand_frame is not None
            return HAND_FRAMES[self.hand_frame][0](data, confidence != 0)
        return data.reshape(len(data), -1)

    def _velocity(self, out: np.ndarray, rate: float) -> np.ndarray:
        """Change since the moment before, per 1/25 s, at so many moments a second; 0 where either is
        missing."""
        velocity = np.zeros_like(out)
        velocity[1:] = (out[1:] - out[:-1]) * np.float32(rate / _VELOCITY_FPS)
        return np.where((out != 0) & (np.roll(out, 1, axis=0) != 0), velocity, np.float32(0))

    def _check(self, normalize_hand: bool) -> None:
        if normalize_hand and not self.normalize_hand:
            log.warning("normalize_hand has no effect: it is for pose_components: [%s] alone", RIGHT_HAND)
        turning = self.augment3d.rotation or self.augment3d.shear or self.augment3d.finger_bend
        if turning and self.training and not self.scale_depth:
            log.warning(
                "augment3d turns poses that are flat, as z is not to scale: set dataset.scale_depth: true"
            )
        if self.augment3d.window_jitter and self.clip_window is None and self.clip_frames is None:
            log.warning(
                "augment3d.window_jitter has no effect: it is for clip_window and clip_frames, both unset"
            )
        if self.augment_temporal_chance and not self.augment_temporal:
            log.warning("augment_temporal_chance has no effect: it is for augment_temporal: true")
        if self.hand_frame not in (None, *HAND_FRAMES):
            raise UserError(
                f"hand_frame: got {self.hand_frame!r}; expected null or one of {', '.join(HAND_FRAMES)}"
            )
        for option in ("hand_frame", "presence"):
            if getattr(self, option) and not self._hands:
                raise UserError(
                    f"{option}: {getattr(self, option)!r} needs a hand among pose_components; got "
                    f"{', '.join(self.components)}"
                )
        if self.hand_frame is not None and self.normalize_hand:
            raise UserError("normalize_hand and hand_frame are two ways to do one thing; keep one of them")
        if self.face_points not in (None, *FACE_SIZES):
            raise UserError(f"face_points: got {self.face_points!r}; expected null, 468 or 478")
        low, high = self.clip_window or (0.0, 1.0)
        if not 0 <= low < high <= 1:
            raise UserError(
                f"clip_window: got {[low, high]}; expected two shares of the clip, 0 <= from < to <= 1"
            )
        if self.max_video_len < 1:
            raise UserError(f"max_video_len: got {self.max_video_len}; expected at least 1")

    def __repr__(self) -> str:
        settings = {**self.prepare_key(), "hand_frame": self.hand_frame, "training": self.training}
        changes = {k: v for k, v in dataclasses.asdict(self.augment3d).items() if v}
        return f"PoseProcessor({settings}, feature_dim={self.feature_dim}, augment3d={changes})"


def _window(given: Sequence[float]) -> tuple[float, float]:
    if len(given) != 2:
        raise UserError(f"clip_window: got {list(given)}; expected two shares of the clip, [from, to]")
    return float(given[0]), float(given[1])


def _flip(flip_pose: str | float | None, components: Sequence[str]) -> tuple[bool, float]:
    """(mirror left-handed clips, chance to mirror in training) of the YAML value."""
    if flip_pose == "right":
        return True, 0.0
    try:
        chance = float(flip_pose or 0)
    except (TypeError, ValueError):
        chance = -1.0
    if not 0 <= chance <= 1:
        raise UserError(
            f"flip_pose: got {flip_pose!r}; expected 'right', or the chance to mirror, from 0 to 1"
        )
    if chance:
        alone = [name for name in components if mirrored_point((name, ""))[0] not in components]
        if alone:
            raise UserError(
                f"flip_pose: {flip_pose} mirrors clips at random, which needs both hands; pose_components "
                f"has only {', '.join(alone)}. Add the other hand, or use flip_pose: right"
            )
    return False, chance

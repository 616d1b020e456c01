"""`.pose` files -> features: prepare (cached), sample frames, augment in training, compute features."""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmpt.config.dataset_options import ClipStorage, PoseOptions, PoseSmoothing
from mmpt.config.schema import DatasetConfig
from mmpt.pose.augmentation import Augmenter
from mmpt.pose.clip import Point, PoseClip
from mmpt.pose.components import (
    CANONICAL,
    FACE,
    FACE_SIZES,
    HANDS,
    LEG_POINTS,
    POSE,
    REDUCED_FACE,
    RIGHT_HAND,
    WORLD,
    selected_points,
)
from mmpt.pose.features import HAND_FRAMES, PER_HAND, PoseFeatures
from mmpt.pose.mirror import mirrored_point
from mmpt.pose.people import RULES
from mmpt.pose.preparation import PosePreparation
from mmpt.pose.sharded_store import ShardedStore
from mmpt.pose.smoothing import SMOOTH_PARAMETERS, SMOOTHERS, Smoothing
from mmpt.pose.span import Span
from mmpt.pose.store import PoseStore, StoreRequest
from mmpt.pose.window import FrameSampler
from mmpt.processors.example import VIDEO_PROCESSORS, ClipSource, Example, blank_warning, readable
from mmpt.utils.errors import UserError
from mmpt.utils.files import cache_folder
from mmpt.utils.parallel import cores

log = logging.getLogger(__name__)

_PARALLEL_FROM = 5000
"""Clips: as many or more are prepared by several processes."""


@VIDEO_PROCESSORS.register("PoseProcessor", "RWTHFSPoseProcessor", "SignCLIPPoseProcessor")
class PoseProcessor:
    """Reads `.pose` files. `prepare` is deterministic and cached; `features` samples, augments and computes.

    options: the pose keys of the config; a whole DatasetConfig is accepted. max_video_len: a clip that
    augment_temporal would make this long keeps its speed. training: augment where a Generator is given.
    vfeat_dim: the model's feature dimension; if face_points is null, it decides between 468 and 478 points.

    Raises UserError for options that contradict each other.
    """

    suffix = ".pose"

    def __init__(
        self,
        options: PoseOptions | None = None,
        *,
        max_video_len: int = 256,
        training: bool = False,
        vfeat_dim: int | None = None,
    ):
        options = options or PoseOptions()
        components = options.pose_components
        if components is not None and not isinstance(components, str):
            components = list(components)
        self.options = options
        self.training = training
        self._features = PoseFeatures(components, options, options.pose_layout)
        self._sampler = FrameSampler.of(options.clip_window, options.clip_frames)
        flip_to_right, flip_chance = _flip(options.flip_pose, self._features.components)
        self.augmenter = Augmenter(options, flip_chance, max_video_len)
        normalize_hand = options.normalize_hand and self._features.components == (RIGHT_HAND,)
        if options.normalize_hand and not normalize_hand:
            log.warning("normalize_hand has no effect: it is for pose_components: [%s] alone", RIGHT_HAND)
        canonical = options.pose_layout == CANONICAL
        scale_depth = options.scale_depth or options.hand_frame is not None or canonical
        _warn_of_augmentation(options, training, scale_depth)
        _warn_of_smoothing(options, self._features.components)
        _check(options, self._features, normalize_hand, max_video_len)
        face_points = options.face_points
        whole_face = FACE in self._features.components and components != REDUCED_FACE and not canonical
        if face_points is None and whole_face:
            face_points = next((n for n in FACE_SIZES if self._features.dim(n) == vfeat_dim), None)
        self.prepare = PosePreparation(
            pose_components=components,
            normalize_hand=normalize_hand,
            scale_depth=scale_depth,
            face_points=face_points,
            flip_to_right=flip_to_right,
            pose_layout=options.pose_layout,
            person=options.person,
            smoothing=Smoothing.of(options),
        )

    @classmethod
    def from_config(
        cls, config: DatasetConfig, training: bool, vfeat_dim: int | None = None
    ) -> "PoseProcessor":
        """The processor of a config's `dataset` section. Raises UserError, also for unsupported options."""
        if config.anonym_pose:
            raise UserError(
                "dataset.anonym_pose: removing the signer's appearance needs the package pose-anonymization "
                "and its mean pose, which mmpt does not have; anonymise the .pose files beforehand and set "
                "it to false"
            )
        if config.preprocess:
            raise UserError(
                f"dataset.preprocess: {config.preprocess!r} needs the package sign-vq and its mean and std "
                f"of poses, which mmpt does not have; remove it to normalise by the shoulders"
            )
        # augment_temporal leaves long clips as they are, which would be cut
        longest = sys.maxsize if config.long_video == "windows" else config.max_video_len
        return cls(config, max_video_len=longest, training=training, vfeat_dim=vfeat_dim)

    def open(self, examples: Sequence[Example], storage: ClipStorage) -> ClipSource:
        """The clips of a split, prepared once and cached on disk.

        Raises UserError for a clip that cannot be read; with on_bad_example: skip, if more than half cannot.
        """
        request = self.store_request(examples, storage)
        store = open_store(request, storage.store_shards)
        rows = readable(examples, store.bad)
        empty = [examples[i].video_id for i in rows[store.seen[rows] == 0]]
        if empty:
            others = (
                "; `signclip check` and `embed` count clips of which only those that are read show nothing"
            )
            where = f"in any frame{others if self._sampler.active else ''}"
            log.warning("%s", blank_warning(empty, len(rows), self._features.without_parts(where)))
        return PoseClips([examples[i] for i in rows], store, self, rows)

    def store_request(self, examples: Sequence[Example], storage: ClipStorage) -> StoreRequest:
        """What the pose cache of the examples holds, and how it is built."""
        return StoreRequest(
            [example.path for example in examples],
            self.prepare.key(),
            self.prepare,
            storage.cache_dir or default_cache(),
            mirrored=[example.mirror for example in examples],
            spans=[example.span for example in examples],
            dtype=storage.store_dtype,
            on_bad=storage.on_bad_example,
            workers=0 if len(examples) < _PARALLEL_FROM else cores(),
            check_sources=storage.check_sources,
        )

    def __call__(
        self,
        path: str | os.PathLike[str],
        rng: np.random.Generator | None = None,
        mirror: bool = False,
        span: Span | None = None,
    ) -> np.ndarray:
        """A file's features, float32 [T, feature_dim]: features(prepare(path)). Raises UserError."""
        return self.features(self.prepare(path, mirror, span), rng)

    def features(self, clip: PoseClip, rng: np.random.Generator | None = None) -> np.ndarray:
        """A prepared clip's features, float32 [T, feature_dim]; missing points are 0.

        If `training` and with `rng`, the clip is augmented first (and T may change).
        """
        return self._features(*self._sampled(clip, rng))

    def features_of(
        self, clips: Sequence[PoseClip], rngs: Sequence[np.random.Generator | None] | None = None
    ) -> list[np.ndarray]:
        """features(clip, rng) of several prepared clips: the same values, computed together.

        NumPy's call overhead dominates on short clips.
        """
        chosen = [self._sampled(clip, rng) for clip, rng in zip(clips, rngs or [None] * len(clips))]
        one_layout = len({clip.layout for clip, _ in chosen}) == 1
        if self.options.hand_frame is None or self.options.velocity or not one_layout:
            return [self._features(clip, rate) for clip, rate in chosen]
        data = np.concatenate([clip.data for clip, _ in chosen])
        first = chosen[0][0]
        together = first.with_data(data, np.concatenate([clip.confidence for clip, _ in chosen]))
        ends = np.cumsum([len(clip) for clip, _ in chosen])[:-1]
        return np.split(self._features(together, together.fps), ends)

    def _sampled(self, clip: PoseClip, rng: np.random.Generator | None) -> tuple[PoseClip, float]:
        """The sampled frames of a clip, augmented in training, and how many there are per second."""
        rate = self._sampler.rate(clip)
        if rng is None or not self.training:
            return self._sampler(clip), rate
        drawn = self.augmenter.draw(rng)
        clip = self._sampler(clip, drawn.window_jitter if drawn.active() else 0.0, rng)
        return self.augmenter(clip, rng, drawn), rate

    @property
    def hands(self) -> list[str]:
        """The hands among the selected components."""
        return self._features.hands

    def blank(self, features: np.ndarray) -> bool:
        """See PoseFeatures.blank."""
        return self._features.blank(features)

    @property
    def blank_means(self) -> str:
        """See PoseFeatures.blank_means."""
        return self._features.blank_means

    def feature_lengths(self, frames: np.ndarray) -> np.ndarray:
        """Frames of `features` for clips of int64 [N] frames, before augmentation."""
        return self._sampler.lengths(frames)

    @property
    def feature_dim(self) -> int:
        """Feature dimension per frame; a whole face counts 468 points if their number is unknown."""
        return self._features.dim(self.prepare.face_points or FACE_SIZES[0])

    @property
    def landmarks(self) -> tuple[Point, ...]:
        """The points that features are computed of."""
        face_points = self.prepare.face_points or FACE_SIZES[0]
        points = selected_points(self.prepare.pose_components, face_points, self.prepare.pose_layout)
        return tuple((name, point) for name, point in points if name != POSE or point not in LEG_POINTS)

    def __repr__(self) -> str:
        settings = {**self.prepare.key(), "hand_frame": self.options.hand_frame, "training": self.training}
        changes = {k: v for k, v in vars(self.options.augment3d).items() if v}
        return f"PoseProcessor({settings}, feature_dim={self.feature_dim}, augment3d={changes})"


class PoseClips:
    """A ClipSource of cached poses; sampling, augmentation and features are computed when a clip is read.

    rows: the index of each example in the store.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        store: PoseStore | ShardedStore,
        processor: PoseProcessor,
        rows: np.ndarray,
    ):
        self.examples = examples
        self._store = store
        self._processor = processor
        self._rows = rows

    def features(self, index: int, rng: np.random.Generator | None) -> np.ndarray:
        """See ClipSource."""
        return self._processor.features(self._store[int(self._rows[index])], rng)

    def features_of(
        self, indices: Sequence[int], rngs: Sequence[np.random.Generator | None]
    ) -> list[np.ndarray]:
        """See ClipSource."""
        return self._processor.features_of([self._store[int(self._rows[i])] for i in indices], rngs)

    def lengths(self) -> np.ndarray:
        """See ClipSource."""
        return self._processor.feature_lengths(self._store.lengths[self._rows].astype(np.int64))


def open_store(request: StoreRequest, shards: int) -> PoseStore | ShardedStore:
    """The store of a request, in this many files."""
    if shards > 1:
        return ShardedStore.build_or_open(request, shards)
    return PoseStore.build_or_open(request)


def default_cache() -> Path:
    """Default folder of the pose cache."""
    return cache_folder() / "poses"


def _warn_of_augmentation(options: PoseOptions, training: bool, scale_depth: bool) -> None:
    augment3d = options.augment3d
    rotates = augment3d.rotation or augment3d.shear or augment3d.finger_bend
    if rotates and training and not scale_depth:
        log.warning("augment3d rotates flat poses, as z is not to scale: set dataset.scale_depth: true")
    if augment3d.window_jitter and options.clip_window is None and options.clip_frames is None:
        log.warning(
            "augment3d.window_jitter has no effect: it is for clip_window and clip_frames, both unset"
        )
    if options.augment_temporal_chance and not options.augment_temporal:
        log.warning("augment_temporal_chance has no effect: it is for augment_temporal: true")


def _warn_of_smoothing(options: PoseOptions, components: Sequence[str]) -> None:
    if options.fill_gaps and not any(name in HANDS for name in components):
        log.warning("fill_gaps has no effect: it is for hands, and pose_components has none")
    for method, names in SMOOTH_PARAMETERS.items():
        for name in names:
            if options.smooth != method and getattr(options, name) != getattr(PoseSmoothing, name):
                log.warning("%s has no effect: it is for smooth: %s", name, method)


def _check(options: PoseOptions, features: PoseFeatures, normalize_hand: bool, max_video_len: int) -> None:
    """Raises UserError for options that are wrong or contradict each other."""
    if options.hand_frame not in (None, *HAND_FRAMES):
        raise UserError(
            f"hand_frame: got {options.hand_frame!r}; expected null or one of {', '.join(HAND_FRAMES)}"
        )
    for option in ("hand_frame", *PER_HAND):
        value = getattr(options, option)
        if value and not features.hands:
            raise UserError(
                f"{option}: {value!r} needs a hand among pose_components; got "
                f"{', '.join(features.components)}"
            )
    if options.hand_frame is not None and normalize_hand:
        raise UserError("normalize_hand and hand_frame exclude each other; keep one of them")
    if options.face_points not in (None, *FACE_SIZES):
        raise UserError(f"face_points: got {options.face_points!r}; expected null, 468 or 478")
    if options.pose_layout == CANONICAL:
        _check_canonical(options, features)
    _check_points(options)
    if options.person not in RULES:
        raise UserError(f"person: got {options.person!r}; expected one of {', '.join(RULES)}")
    if options.smooth not in (None, *SMOOTHERS):
        raise UserError(f"smooth: got {options.smooth!r}; expected null or one of {', '.join(SMOOTHERS)}")
    if max_video_len < 1:
        raise UserError(f"max_video_len: got {max_video_len}; expected at least 1")


def _check_points(options: PoseOptions) -> None:
    """Raises UserError if numbers for each hand read landmarks that are not selected."""
    face_points = options.face_points or FACE_SIZES[0]
    selected = set(selected_points(options.pose_components, face_points, options.pose_layout))
    for option, numbers in PER_HAND.items():
        lacking = [point for point in numbers.points if point not in selected]
        if getattr(options, option) and lacking:
            raise UserError(
                f"{option}: True needs {', '.join(map(' '.join, lacking))}, which pose_components and "
                "pose_layout do not select: select them, or set it to false"
            )


def _check_canonical(options: PoseOptions, features: PoseFeatures) -> None:
    """Raises UserError for options that pose_layout: canonical excludes."""
    without: dict[str, str | None] = {
        "normalize_hand": "is in 3-D; use hand_frame" if options.normalize_hand else None,
        "face_points": "is for the whole face" if options.face_points is not None else None,
        f"pose_components: {REDUCED_FACE}": "is another face; use null"
        if options.pose_components == REDUCED_FACE
        else None,
        f"pose_components: [{WORLD}]": "is in 3-D" if WORLD in features.components else None,
    }
    for option, why in without.items():
        if why:
            raise UserError(
                f"{option} {why}; pose_layout: canonical has 2-D features of the points that all pose "
                "estimators have: remove one of the two"
            )


def _flip(flip_pose: str | float | None, components: Sequence[str]) -> tuple[bool, float]:
    """flip_pose -> (mirror left-handed clips, probability of mirroring in training). Raises UserError."""
    if flip_pose == "right":
        return True, 0.0
    try:
        chance = float(flip_pose or 0)
    except (TypeError, ValueError):
        chance = -1.0
    if not 0 <= chance <= 1:
        raise UserError(
            f"flip_pose: got {flip_pose!r}; expected 'right', or the probability of mirroring, from 0 to 1"
        )
    if chance:
        alone = [name for name in components if mirrored_point((name, ""))[0] not in components]
        if alone:
            raise UserError(
                f"flip_pose: {flip_pose} mirrors clips at random, which needs both hands; pose_components "
                f"has only {', '.join(alone)}. Add the other hand, or use flip_pose: right"
            )
    return False, chance

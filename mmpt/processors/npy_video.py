"""Features of a frozen video encoder: `.npy` files of [T, D]."""

import logging
import os
from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from mmpt.config.dataset_options import (
    ClipStorage,
    FrameFeatures,
    FrameSampling,
    PoseAugmentation,
    PoseAugmentations,
    PoseNormalization,
    PoseSelection,
    PoseSmoothing,
)
from mmpt.config.schema import DatasetConfig
from mmpt.pose.span import Span
from mmpt.processors.example import VIDEO_PROCESSORS, ClipSource, Example, readable
from mmpt.utils.arrays import open_array
from mmpt.utils.errors import UserError

S3D_DIM = 512

log = logging.getLogger(__name__)

_EXPECTED = "expected a .npy file of numbers, [T, D], as `signclip extract` writes"


@VIDEO_PROCESSORS.register("VideoProcessor")
class VideoProcessor:
    """Reads features without changing them.

    vfeat_dim: the feature dimension that `open` expects; None: that of the first file.
    """

    suffix = ".npy"
    feature_dim: int | None = None
    """Unknown until a file is read."""
    blank_means = "hold only zeros"
    """What `blank` says of a clip, for messages."""

    def __init__(self, vfeat_dim: int | None = None):
        self.vfeat_dim = vfeat_dim

    @classmethod
    def from_config(
        cls, config: DatasetConfig, training: bool, vfeat_dim: int | None = None
    ) -> "VideoProcessor":
        """The processor of a config's `dataset` section; it is the same in training and evaluation."""
        warn_about_pose_options(config)
        return cls(vfeat_dim)

    def open(self, examples: Sequence[Example], storage: ClipStorage) -> ClipSource:
        """The clips of a split, read from their files when they are needed.

        Raises UserError for a clip that cannot be read or has another feature dimension; with
        on_bad_example: skip, if more than half are such clips.
        """
        width, lengths, bad = self.vfeat_dim, [], {}
        for index, example in enumerate(examples):
            where = (example.path, example.mirror, example.span)
            try:
                if storage.on_bad_example == "skip":  # read whole files, to find bad clips before training
                    frames, found = self(where[0], None, *where[1:]).shape
                else:
                    frames, found = self.shape(*where)
                    width = found if index == 0 else width  # the task checks it against model.vfeat_dim
                if width is not None and found != width:
                    raise UserError(f"{example.path}: feature dimension {found}, expected {width}")
                lengths.append(frames)
            except UserError as error:
                if storage.on_bad_example == "error":
                    raise
                lengths.append(0)
                bad[index] = str(error)
        rows = readable(examples, bad)
        return FeatureFiles([examples[i] for i in rows], self, np.array(lengths, dtype=np.int64)[rows])

    def __call__(
        self,
        path: str | os.PathLike[str],
        rng: np.random.Generator | None = None,
        mirror: bool = False,
        span: Span | None = None,
    ) -> np.ndarray:
        """A file's features, float32 [T, D]; `rng` is not used. Raises UserError, which names the file.

        span: the rows that are the clip, in frames.
        """
        _refuse_mirror(path, mirror)
        return load_features(path, span)

    def blank(self, features: np.ndarray) -> bool:
        """Whether features [T, D] are all 0."""
        return not features.any()

    def shape(
        self, path: str | os.PathLike[str], mirror: bool = False, span: Span | None = None
    ) -> tuple[int, int]:
        """(frames, feature dimension) of a clip, from the file's header. Raises UserError."""
        _refuse_mirror(path, mirror)
        count, width = _open_array(path).shape
        if span is not None:
            rows = _rows(path, span, count)
            count = rows.stop - rows.start
        return count, self._width(path, width)

    def _width(self, path: str | os.PathLike[str], width: int) -> int:
        """Feature dimension of a file whose arrays are `width` wide."""
        return width


@VIDEO_PROCESSORS.register("RWTHFSVideoProcessor")
class RWTHFSVideoProcessor(VideoProcessor):
    """Averages neighbours of features wider than 512 (I3D: 1024) down to 512, for models made for S3D.

    keep_width (vfeat_custom in YAML): do not average.
    """

    def __init__(self, keep_width: bool = False, vfeat_dim: int | None = None):
        super().__init__(vfeat_dim)
        self.keep_width = keep_width

    @classmethod
    def from_config(
        cls, config: DatasetConfig, training: bool, vfeat_dim: int | None = None
    ) -> "RWTHFSVideoProcessor":
        """See VideoProcessor."""
        warn_about_pose_options(config)
        return cls(bool(config.vfeat_custom), vfeat_dim)

    def __call__(
        self,
        path: str | os.PathLike[str],
        rng: np.random.Generator | None = None,
        mirror: bool = False,
        span: Span | None = None,
    ) -> np.ndarray:
        """See VideoProcessor."""
        features = super().__call__(path, rng, mirror, span)
        if self._width(path, features.shape[1]) == features.shape[1]:
            return features
        groups = features.reshape(len(features), S3D_DIM, -1)
        return groups.mean(axis=2, dtype=np.float64).astype(np.float32)

    def _width(self, path: str | os.PathLike[str], width: int) -> int:
        if self.keep_width or width <= S3D_DIM:
            return width
        if width % S3D_DIM:
            raise UserError(
                f"{path}: features of width {width} cannot be averaged down to {S3D_DIM}; "
                f"expected a multiple of it, or set dataset.vfeat_custom: true to keep the width"
            )
        return S3D_DIM


class FeatureFiles:
    """A ClipSource of `.npy` files, one per clip."""

    def __init__(self, examples: Sequence[Example], processor: VideoProcessor, lengths: np.ndarray):
        self.examples = examples
        self._processor = processor
        self._lengths = lengths

    def features(self, index: int, rng: np.random.Generator | None) -> np.ndarray:
        """See ClipSource."""
        example = self.examples[index]
        return self._processor(example.path, rng, example.mirror, example.span)

    def features_of(
        self, indices: Sequence[int], rngs: Sequence[np.random.Generator | None]
    ) -> list[np.ndarray]:
        """See ClipSource."""
        return [self.features(index, rng) for index, rng in zip(indices, rngs)]

    def lengths(self) -> np.ndarray:
        """See ClipSource."""
        return self._lengths


def warn_about_pose_options(config: DatasetConfig) -> None:
    """Warn about pose options of the config, which have no effect on video features."""
    groups = (PoseNormalization, PoseSmoothing, FrameFeatures, FrameSampling, PoseAugmentations)
    defaults = {field.name: field.default for group in groups for field in fields(group)}
    defaults["person"] = PoseSelection.person
    values = {name: getattr(config, name) for name in defaults}
    changed = [
        name
        for name, value in values.items()
        if (value.active() if isinstance(value, PoseAugmentation) else value != defaults[name])
    ]
    if changed:
        log.warning(
            "dataset.%s: no effect on video features (dataset.video_processor: %s)",
            ", dataset.".join(changed),
            config.video_processor,
        )


def _refuse_mirror(path: str | os.PathLike[str], mirror: bool) -> None:
    if mirror:
        raise UserError(f"{path}: features of a video cannot be mirrored; mirror the video and extract again")


def load_features(path: str | os.PathLike[str], span: Span | None = None) -> np.ndarray:
    """Read and check a `.npy` file, or the rows of `span`: float32 [T, D], T and D at least 1, all finite.

    Code in the file is not run; rows outside the span are not read. Raises UserError, which names the file.
    """
    array = _open_array(path)
    rows = slice(0, len(array)) if span is None else _rows(path, span, len(array))
    with np.errstate(over="ignore"):  # an overflow to inf is reported below
        features = np.array(array[rows], dtype=np.float32)
    finite = np.isfinite(features)
    if not finite.all():
        frame, column = np.argwhere(~finite)[0]
        raise UserError(
            f"{path}: {int((~finite).sum())} values are NaN or infinite (the first: frame "
            f"{rows.start + frame}, column {column}); extract the features again"
        )
    return features


def _rows(path: str | os.PathLike[str], span: Span, count: int) -> slice:
    try:
        return span.frames(count, None, path)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _open_array(path: str | os.PathLike[str]) -> np.ndarray:
    """The file as a memory-mapped array, [T, D]."""
    array = open_array(path, _EXPECTED)
    if array.ndim != 2 or 0 in array.shape:
        raise UserError(
            f"{path}: its shape is {list(array.shape)}; {_EXPECTED} with at least one row and column"
        )
    return array

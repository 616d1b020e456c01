"""Features that a frozen video encoder wrote: `.npy` files of [T, D]."""

import logging
import os
from typing import Any

import numpy as np

from mmpt.pose.span import Span
from mmpt.processors.registry import VIDEO_PROCESSORS
from mmpt.utils.arrays import open_array
from mmpt.utils.errors import UserError

S3D_DIM = 512

_OF_POSES = (
    *("normalize_hand", "hand_frame", "scale_depth", "velocity", "presence", "flip_pose"),
    *("augment2d", "augment_temporal", "gaussian_noise", "clip_window", "clip_frames"),
)

log = logging.getLogger(__name__)

_EXPECTED = "expected a .npy file of numbers, [T, D], as `python -m mmpt.cli.extract` writes"


@VIDEO_PROCESSORS.register("VideoProcessor")
class VideoProcessor:
    """Reads the features as they are."""

    suffix = ".npy"
    feature_dim: int | None = None
    """Numbers in a frame: known only from the files."""

    @classmethod
    def from_config(cls, config: Any, training: bool, vfeat_dim: int | None = None) -> "VideoProcessor":
        """The processor that the `dataset` section of a config describes; the same in training and not."""
        warn_of_pose_options(config)
        return cls()

    def __call__(
        self,
        path: str | os.PathLike[str],
        rng: np.random.Generator | None = None,
        mirror: bool = False,
        span: Span | None = None,
    ) -> np.ndarray:
        """A file's features, float32 [T, D]. Nothing is random. Raises UserError, which names the file.

        span: the rows that are the clip, in frames.
        """
        _refuse_mirror(path, mirror)
        return load_features(path, span)

    def shape(
        self, path: str | os.PathLike[str], mirror: bool = False, span: Span | None = None
    ) -> tuple[int, int]:
        """Frames and numbers in each that a call gives of a clip, without reading them. Raises UserError,
        which names the file."""
        _refuse_mirror(path, mirror)
        count, width = _open_array(path).shape
        if span is not None:
            rows = _rows(path, span, count)
            count = rows.stop - rows.start
        return count, self._width(path, width)

    def _width(self, path: str | os.PathLike[str], width: int) -> int:
        """Numbers in a frame that are given of a file with `width`."""
        return width


@VIDEO_PROCESSORS.register("RWTHFSVideoProcessor")
class RWTHFSVideoProcessor(VideoProcessor):
    """Features wider than 512 (I3D: 1024) come down to 512 by the mean of neighbours, for models made for
    S3D.

    keep_width (vfeat_custom in YAML): leave the width as it is.
    """

    def __init__(self, keep_width: bool = False):
        self.keep_width = keep_width

    @classmethod
    def from_config(cls, config: Any, training: bool, vfeat_dim: int | None = None) -> "RWTHFSVideoProcessor":
        warn_of_pose_options(config)
        return cls(keep_width=bool(config.vfeat_custom))

    def __call__(
        self,
        path: str | os.PathLike[str],
        rng: np.random.Generator | None = None,
        mirror: bool = False,
        span: Span | None = None,
    ) -> np.ndarray:
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


def warn_of_pose_options(config: Any) -> None:
    """Say which options of a config's `dataset` section have no effect on features."""
    without_effect = [name for name in _OF_POSES if getattr(config, name, None)]
    augment3d = getattr(config, "augment3d", None)
    if augment3d is not None and augment3d.active():
        without_effect.append("augment3d")
    if without_effect:
        log.warning(
            "dataset.%s: without effect on features of videos (dataset.video_processor: %s)",
            ", dataset.".join(without_effect),
            config.video_processor,
        )


def _refuse_mirror(path: str | os.PathLike[str], mirror: bool) -> None:
    if mirror:
        raise UserError(f"{path}: features of a video cannot be mirrored; mirror the video and extract again")


def load_features(path: str | os.PathLike[str], span: Span | None = None) -> np.ndarray:
    """Read and check a `.npy` file, or the rows of `span`: float32 [T, D], T and D at least 1, all finite. No
    code in it is run; rows beside the span are not read.

    Raises UserError, which names the file.
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
        return span.frames(count, fps=None)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _open_array(path: str | os.PathLike[str]) -> np.ndarray:
    """The file as a mapped array of numbers, [T, D]."""
    array = open_array(path, _EXPECTED)
    if array.ndim != 2 or 0 in array.shape:
        raise UserError(
            f"{path}: its shape is {list(array.shape)}; {_EXPECTED} with at least one row and column"
        )
    return array

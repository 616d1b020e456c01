"""Features that a frozen video encoder wrote: `.npy` files of [T, D]."""

import os
from typing import Any

import numpy as np

from mmpt.pose.span import Span
from mmpt.processors.registry import VIDEO_PROCESSORS
from mmpt.utils.arrays import open_array
from mmpt.utils.errors import UserError

S3D_DIM = 512

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
        if mirror:
            raise UserError(
                f"{path}: features of a video cannot be mirrored; mirror the video and extract again"
            )
        return load_features(path, span)

    def n_frames(self, path: str | os.PathLike[str], span: Span | None = None) -> int:
        """Frames of a clip, without reading them. Raises UserError, which names the file."""
        count = len(_open_array(path))
        if span is None:
            return count
        rows = _rows(path, span, count)
        return rows.stop - rows.start


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
        return cls(keep_width=bool(config.vfeat_custom))

    def __call__(
        self,
        path: str | os.PathLike[str],
        rng: np.random.Generator | None = None,
        mirror: bool = False,
        span: Span | None = None,
    ) -> np.ndarray:
        features = super().__call__(path, rng, mirror, span)
        if self.keep_width or features.shape[1] <= S3D_DIM:
            return features
        if features.shape[1] % S3D_DIM:
            raise UserError(
                f"{path}: features of width {features.shape[1]} cannot be averaged down to {S3D_DIM}; "
                f"expected a multiple of it, or set dataset.vfeat_custom: true to keep the width"
            )
        groups = features.reshape(len(features), S3D_DIM, -1)
        return groups.mean(axis=2, dtype=np.float64).astype(np.float32)


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

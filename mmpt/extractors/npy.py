"""Check and copy features that were computed elsewhere (such as SignVQNet's), with a manifest."""

import argparse
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from mmpt.extractors.base import Extractor, FileReader, Outcome
from mmpt.extractors.manifest import trial_weights
from mmpt.utils.arrays import open_array
from mmpt.utils.errors import UserError


@dataclass(frozen=True)
class NpyReader(FileReader):
    """Copies an array [T, D] (or [1, T, D]) after checking it.

    Attributes: `dim` the expected D; `dtype` of the output.
    """

    dim: int
    dtype: Literal["float16", "float32"]

    def convert(self, source: Path, target: Path) -> Outcome:
        array = open_array(source, f"expected a .npy file of numbers, [T, {self.dim}]")
        shape = list(array.shape)
        if array.ndim == 3 and array.shape[0] == 1:
            array = array[0]
        if array.ndim != 2 or array.shape[1] != self.dim or not len(array):
            turned = " It looks transposed." if array.ndim == 2 and array.shape[0] == self.dim else ""
            raise UserError(f"{source} has shape {shape}, expected [T, {self.dim}] with T >= 1.{turned}")
        with np.errstate(over="ignore"):
            features = np.ascontiguousarray(array, self.dtype)
        if not np.isfinite(features).all():
            raise UserError(f"{source} contains NaN or numbers too large for {self.dtype}.")
        np.save(target, features)
        return Outcome({"tokens": len(features), "dim": self.dim})


class NpyExtractor(Extractor):
    """Copies precomputed features and gives them a manifest.

    Args:
        dim: feature dimension of every file.
        save_dtype: "float16" or "float32".
        trial: `random:SEED` if the arrays come from a network with random weights; the manifest keeps it.
    """

    name = "npy"
    source_suffixes = frozenset({".npy"})

    def __init__(
        self, dim: int, save_dtype: Literal["float16", "float32"] = "float32", trial: str | None = None
    ):
        if dim < 1:
            raise UserError(f"--dim {dim}: expected a feature dimension of 1 or more.")
        self.dim, self.save_dtype, self.trial = dim, save_dtype, trial

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--dim", type=int, required=True, help="feature dimension (SignVQNet: 1024)")
        parser.add_argument(
            "--save-dtype",
            default="float32",
            choices=["float16", "float32"],
            help="dtype of the files (default: %(default)s)",
        )

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> Self:
        trial = None
        with contextlib.suppress(UserError, OSError):  # a manifest of something else
            trial = trial_weights(args.folder)
        return cls(args.dim, args.save_dtype, trial)

    def reader(self) -> NpyReader:
        return NpyReader(self.dim, self.save_dtype)

    def options(self) -> dict[str, Any]:
        options = {"version": self.version, "dim": self.dim, "dtype": self.save_dtype}
        return options if self.trial is None else options | {"weights": self.trial}

    def tools(self) -> dict[str, str]:
        return {"numpy": np.__version__}

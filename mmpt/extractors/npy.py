"""Features that somebody else computed (SignVQNet's 1024 numbers a second, say), checked and recorded."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from mmpt.extractors.base import Extractor, FileReader, Outcome
from mmpt.utils.arrays import open_array
from mmpt.utils.errors import UserError


@dataclass(frozen=True)
class NpyReader(FileReader):
    """Copies an array [T, D] (or [1, T, D]) after checking it.

    Attributes: `dim` is the D expected; `dtype` of what is written.
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
            raise UserError(f"{source} holds NaN or numbers too large for {self.dtype}.")
        np.save(target, features)
        return Outcome({"tokens": len(features), "dim": self.dim})


class NpyExtractor(Extractor):
    """Arrays in, the same arrays out, so that precomputed features have a manifest like all others.

    Args:
        dim: numbers in a token, the same in every file.
        save_dtype: "float16" or "float32".
    """

    name = "npy"
    source_suffixes = frozenset({".npy"})

    def __init__(self, dim: int, save_dtype: Literal["float16", "float32"] = "float32"):
        if dim < 1:
            raise UserError(f"--dim {dim}: expected the width of the features, 1 or more.")
        self.dim, self.save_dtype = dim, save_dtype

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--dim", type=int, required=True, help="numbers in a token (SignVQNet: 1024)")
        parser.add_argument("--save-dtype", default="float32", choices=["float16", "float32"])

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> Self:
        return cls(args.dim, args.save_dtype)

    def reader(self) -> NpyReader:
        return NpyReader(self.dim, self.save_dtype)

    def options(self) -> dict[str, Any]:
        return {"version": self.version, "dim": self.dim, "dtype": self.save_dtype}

    def tools(self) -> dict[str, str]:
        return {"numpy": np.__version__}

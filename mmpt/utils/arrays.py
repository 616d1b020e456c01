"""Open NumPy files without running code in them."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmpt.utils.errors import UserError


def open_array(path: str | os.PathLike[str], expected: str) -> np.ndarray:
    """A `.npy` file of numbers, memory-mapped, so that a false header costs no memory.

    expected: the end of the error, "expected ...". Raises UserError, which names the file.
    """
    try:
        array = np.load(Path(path), mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {expected}") from None
    except Exception as error:  # numpy raises errors of many types on invalid bytes
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read ({reason}); {expected}") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise UserError(f"{path}: this is an archive of arrays (.npz); {expected}")
    if array.dtype.kind not in "fiu":
        raise UserError(f"{path}: its dtype is {array.dtype}; {expected}")
    return array


def non_finite(vectors: NDArray[np.float32]) -> list[int]:
    """The rows that hold NaN or infinite values."""
    return np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist()


def why_non_finite(name: str, frames: NDArray[np.float32]) -> str:
    """The error message for a clip whose embedding is NaN or infinite. frames: its features [T, D]."""
    return (
        f"{name}: its embedding is NaN or infinite, its largest feature is {np.abs(frames).max():g}: extract "
        "its features again; if those of other clips fail too, check the model's weights and --autocast."
    )

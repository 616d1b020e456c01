"""Open NumPy files without running code in them; pad arrays to one length; unit rows; round to a grid."""

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mmpt.utils.errors import UserError
from mmpt.utils.files import UNREADABLE, atomic_write, check_regular
from mmpt.utils.videos import how_to_extract, is_video

_LEAST_LENGTHS = {kind: float(np.sqrt(np.finfo(kind).tiny) * 1e6) for kind in "fd"}
"""By dtype: rows that are shorter are scaled before they are divided by their length."""

Float = TypeVar("Float", np.float32, np.float64)

# Adding and subtracting this number leaves a multiple of 2^-40: the mantissa of float64 has 52 bits.
_TO_GRID = 1.5 * 2.0**12


def open_array(path: str | os.PathLike[str], expected: str) -> np.ndarray:
    """A `.npy` file of numbers, memory-mapped, so that a false header costs no memory.

    expected: the end of the error, "expected ...". Raises UserError, which names the file, also if bytes
    follow the array.
    """
    check_regular(path)
    try:
        array = np.load(Path(path), mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {expected}") from None
    except OSError as error:
        raise UserError(f"{path}: {UNREADABLE} ({error.strerror or error}); {expected}") from None
    except Exception as error:  # numpy raises errors of many types on invalid bytes
        if is_video(path):
            raise UserError(
                f"{path}: this is a video, not a .npy file; {how_to_extract(Path(path).parent, '.npy')}"
            ) from None
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise UserError(f"{path}: no complete .npy file ({reason}); {expected}") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise UserError(f"{path}: this is an archive of arrays (.npz); {expected}")
    if array.dtype.kind not in "fiu":
        raise UserError(f"{path}: its dtype is {array.dtype}; {expected}")
    if extra := Path(path).stat().st_size - array.offset - array.nbytes:  # type: ignore[attr-defined]
        raise UserError(
            f"{path}: {extra:,} bytes follow the array of shape {list(array.shape)} (a second array, or the "
            f"wrong shape in the header?); {expected}, and nothing behind it"
        )
    return array


def save_npz(path: str | os.PathLike[str], **arrays: np.ndarray) -> None:
    """Write named arrays to a `.npz` file atomically.

    The archive is built in memory: on a full disk, that of np.savez fails again when Python deletes it.
    """
    archive = io.BytesIO()
    np.savez(archive, **arrays)
    with atomic_write(path) as temporary:
        temporary.write_bytes(archive.getbuffer())


def padded(
    arrays: Sequence[np.ndarray], fill: Any, dtype: DTypeLike, length: int | None = None
) -> np.ndarray:
    """Arrays [T, ...] as one [N, longest T, ...] with `fill` behind the shorter ones. length: at least."""
    longest = max(length or 0, *map(len, arrays))
    rows = np.full((len(arrays), longest, *arrays[0].shape[1:]), fill, dtype)
    for row, array in zip(rows, arrays):
        row[: len(array)] = array
    return rows


def non_finite(vectors: NDArray[np.float32]) -> list[int]:
    """The rows that hold NaN or infinite values."""
    return np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist()


def all_finite(values: NDArray[np.floating]) -> bool:
    """Whether there is no NaN and no infinity."""
    # a sum by BLAS is the fastest, but it may overflow
    return math.isfinite(np.vdot(values, values)) or bool(np.isfinite(values).all())


def why_non_finite(name: str, frames: NDArray[np.float32]) -> str:
    """The error message for a clip whose embedding is NaN or infinite. frames: its features [T, D]."""
    return (
        f"{name}: its embedding is NaN or infinite, its largest feature is {np.abs(frames).max():g}: extract "
        "its features again; if those of other clips fail too, check the model's weights and --autocast."
    )


def unit_rows(rows: NDArray[Float]) -> NDArray[Float]:
    """Rows [N, D] of floats divided by their length in place; zero rows stay zero.

    Very large or small numbers, whose squares the dtype cannot hold, are scaled first.
    """
    with np.errstate(over="ignore"):
        length = np.sqrt(np.add.reduce(rows * rows, axis=1, keepdims=True))  # faster than linalg.norm
    usual = (length >= _LEAST_LENGTHS[rows.dtype.char]) & (length < np.inf)
    if not usual.all():
        extreme = np.flatnonzero(~usual)
        largest = np.abs(rows[extreme]).max(axis=1, keepdims=True)
        rows[extreme] /= np.where(largest == 0, 1, largest)
        length[extreme] = np.linalg.norm(rows[extreme], axis=1, keepdims=True)
        length[length == 0] = 1
    rows /= length
    return rows


def on_grid(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round products of vectors of norm at most 1 in place to multiples of 2^-40.

    Products of equal vectors become equal in every block.
    """
    products += _TO_GRID
    products -= _TO_GRID
    return products

"""The k highest of each row of a matrix, selected without sorting the rows."""

import numpy as np
from numpy.typing import DTypeLike, NDArray

_LAST = np.iinfo(np.int64).max  # number of a place that is still empty: sorts behind all others


class TopK:
    """The k highest scores of each row of a matrix that is added block by block.

    Best first; of equal scores, the one with the lower number. NaN is never among them.
    """

    def __init__(self, rows: int, k: int, dtype: DTypeLike = np.float32):
        self._scores: NDArray = np.full((rows, k), -np.inf, dtype=dtype)
        self._numbers = np.full((rows, k), _LAST)

    @property
    def scores(self) -> NDArray:
        """[rows, k]; -inf where fewer than k were added."""
        return self._scores

    @property
    def numbers(self) -> NDArray[np.int64]:
        """[rows, k], the numbers of the columns; -1 where fewer than k were added."""
        return np.where(self._numbers == _LAST, -1, self._numbers)

    def add(self, block: NDArray, numbers: int | NDArray[np.int64], rows: slice = slice(None)) -> None:
        """Add a block [some rows, n] of columns, in any order.

        numbers: [n], the number of each column, or that of the first one.
        """
        best = self._scores[rows, -1]
        row, column = _candidates(block, best, self._scores.shape[1])
        number = column + numbers if isinstance(numbers, int) else numbers[column]
        self.merge(row, block[row, column], number, rows)

    def merge(
        self, row: NDArray[np.int64], score: NDArray, number: NDArray[np.int64], rows: slice = slice(None)
    ) -> None:
        """Add single scores and their numbers. row: the row of each, counted from the first one of `rows`."""
        best, best_numbers = self._scores[rows], self._numbers[rows]
        counts = np.bincount(row, minlength=len(best))
        changed = np.flatnonzero(counts)
        if not len(changed):
            return
        # sort the new ones and the former best of the rows that change; keep the first k of each row
        width = best.shape[1]
        if counts.min() < width or best_numbers.min() < _LAST:
            row = np.concatenate([row, np.repeat(changed, width)])
            score = np.concatenate([score, best[changed].ravel()])
            number = np.concatenate([number, best_numbers[changed].ravel()])
            counts[changed] += width
        order = np.lexsort((number, -score, row))
        first = np.cumsum(counts) - counts
        kept = order[first[changed, None] + np.arange(width)]
        best[changed], best_numbers[changed] = score[kept], number[kept]


def _candidates(block: NDArray, at_least: NDArray, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the scores that can be among the k highest, given the k-th highest so far."""
    few = 8 * k * len(block)
    found = block >= at_least[:, None] if np.isfinite(at_least).all() else None
    if found is None or np.count_nonzero(found) > few:
        found = block >= np.maximum(at_least, _kth_highest_or_less(block, k))[:, None]
    flat = np.flatnonzero(found)
    row = flat // max(1, block.shape[1])
    return row, flat - row * block.shape[1]


def _kth_highest_or_less(block: NDArray, k: int) -> NDArray:
    """A bound for the k-th highest score of each row that is cheap to compute and not much lower.

    The columns are divided into groups; k groups have a maximum of at least the k-th highest maximum.
    """
    rows, n = block.shape
    if n <= k:
        return np.full(rows, -np.inf, dtype=block.dtype)
    per_group = max(1, min(64, n // (4 * k)))
    groups = n // per_group
    highest = block[:, : groups * per_group].reshape(rows, per_group, groups).max(axis=1)
    highest = np.partition(highest, groups - k, axis=1)[:, groups - k :]
    return np.where(np.isnan(highest).any(axis=1), -np.inf, highest[:, 0])

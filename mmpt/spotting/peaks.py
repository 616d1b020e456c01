"""Non-maximum suppression of windows, while the scores of a recording come in."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmpt.spotting.windows import Spans
from mmpt.utils.errors import UserError


class Peaks(NamedTuple):
    """Windows that remain: frames int32 [P, 2], the number of the text int32 [P], score float32 [P]."""

    spans: NDArray[np.int32]
    texts: NDArray[np.int32]
    scores: NDArray[np.float32]

    @classmethod
    def joined(cls, parts: "list[Peaks]") -> "Peaks":
        """All of `parts`, ordered by start, end and text."""
        spans = np.concatenate([np.zeros((0, 2), np.int32), *(part.spans for part in parts)])
        texts = np.concatenate([np.zeros(0, np.int32), *(part.texts for part in parts)])
        scores = np.concatenate([np.zeros(0, np.float32), *(part.scores for part in parts)])
        return cls(spans, texts, scores).of(np.lexsort((texts, spans[:, 1], spans[:, 0])))

    def of(self, rows: NDArray | slice) -> "Peaks":
        """Some of the peaks, by number, by a mask or a slice."""
        return Peaks(self.spans[rows], self.texts[rows], self.scores[rows])


class PeakFinder:
    """For each text, the windows that no better window of the text overlaps (greedy suppression).

    In order of score, a window is kept unless its intersection over union with a kept window of the same text
    is above `overlap`; of equal scores, the earlier window is kept. floor: the least score of a window; one
    for all texts or float [n]. one_at_a_time: windows of other texts suppress too. Only windows that are not
    decided yet are held. Raises UserError for an overlap outside [0, 1).
    """

    def __init__(self, overlap: float = 0.2, floor: NDArray | float = -np.inf, one_at_a_time: bool = False):
        if not 0 <= overlap < 1:
            raise UserError(f"overlap {overlap}: expected an intersection over union from 0 to below 1.")
        self.overlap = overlap
        self.floor = floor
        self.one_at_a_time = one_at_a_time
        self._spans: Spans = np.zeros((0, 2), np.int64)
        self._scores: NDArray[np.float32] | None = None
        self._best: NDArray[np.intp] = np.zeros(0, np.intp)

    def add(self, spans: Spans, scores: NDArray[np.float32]) -> Peaks:
        """The peaks that further windows cannot change.

        spans: [N, 2], ordered by start, none before those of an earlier call. scores: [N, n]; NaN for none.
        """
        with np.errstate(invalid="ignore"):
            open_ = np.where(scores >= self.floor, scores, np.float32(-np.inf))
        best = np.zeros(len(spans), np.intp)
        if self.one_at_a_time and open_.shape[1]:
            best = open_.argmax(axis=1)
            open_ = open_.max(axis=1, keepdims=True)
        before = open_[:0] if self._scores is None else self._scores
        self._spans = np.concatenate([self._spans, spans])
        self._scores = np.concatenate([before, open_])
        self._best = np.concatenate([self._best, best])
        return self._decide(int(spans[-1, 0]) if len(spans) else -1)

    def finish(self) -> Peaks:
        """The remaining peaks: there are no further windows."""
        return self._decide(np.iinfo(np.int64).max)

    def _decide(self, until: int) -> Peaks:
        """Decide what no window that starts at `until` or later can change, and forget it."""
        if self._scores is None or not len(self._spans):
            return Peaks.joined([])
        neighbours = _neighbours(self._spans, self.overlap)
        complete = self._spans[:, 1] <= until
        found = _keep(self._scores, neighbours, complete)
        texts = self._best[found[0]] if self.one_at_a_time else found[1]
        peaks = Peaks(self._spans[found[0]].astype(np.int32), texts.astype(np.int32), found[2])
        undecided = np.flatnonzero((self._scores > -np.inf).any(axis=1))
        first = undecided[0] if len(undecided) else len(self._spans)
        self._spans, self._scores = self._spans[first:], self._scores[first:]
        self._best = self._best[first:]
        return peaks


def _neighbours(spans: Spans, overlap: float) -> NDArray[np.int32]:
    """The other windows that overlap each window too much: [N, K], filled up with N."""
    starts, ends = spans[:, 0], spans[:, 1]
    pairs = []
    for first in range(0, len(spans), _ROWS):  # an intersection over union [N, N] may be large
        part = slice(first, first + _ROWS)
        common = np.minimum(ends[part, None], ends) - np.maximum(starts[part, None], starts)
        union = (ends - starts)[part, None] + (ends - starts) - common
        rows, columns = np.nonzero(common > overlap * union)
        pairs.append(np.stack([rows + first, columns]))
    rows, columns = np.concatenate(pairs, axis=1)
    rows, columns = rows[rows != columns], columns[rows != columns]
    counts = np.bincount(rows, minlength=len(spans))
    found = np.full((len(spans), int(counts.max())), len(spans), np.int32)
    found[rows, np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)] = columns
    return found


_ROWS = 512


def _keep(
    scores: NDArray[np.float32], neighbours: NDArray[np.int32], complete: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Keep what is best among its neighbours, remove these, and repeat: row, column and score of each.

    It keeps the same windows as greedy suppression in order of score. Decided scores become -inf, in place.
    complete: windows with all their neighbours; others are not kept.
    """
    rows, columns = np.nonzero(scores > -np.inf)
    padded = np.concatenate([scores, np.full((1, scores.shape[1]), -np.inf, np.float32)])
    kept: list[tuple[NDArray, NDArray, NDArray]] = []
    while len(rows):
        own = padded[rows, columns]
        is_best = complete[rows].copy()
        for others in neighbours.T:
            here = np.flatnonzero(is_best)
            if not len(here):
                break
            other = others[rows[here]]
            score = padded[other, columns[here]]
            is_best[here] = np.where(other < rows[here], own[here] > score, own[here] >= score)
        best_rows, best_columns = rows[is_best], columns[is_best]
        if not len(best_rows):
            break
        kept.append((best_rows, best_columns, own[is_best]))
        padded[neighbours[best_rows], best_columns[:, None]] = -np.inf
        padded[best_rows, best_columns] = -np.inf
        left = padded[rows, columns] > -np.inf
        rows, columns = rows[left], columns[left]
    scores[:] = padded[:-1]
    if not kept:
        return np.zeros(0, np.intp), np.zeros(0, np.intp), np.zeros(0, np.float32)
    found_rows, found_columns, found_scores = (np.concatenate(part) for part in zip(*kept))
    return found_rows, found_columns, found_scores

"""Ranks by counting instead of sorting, one tile of the similarity matrix at a time.

The rank of a candidate is one plus the number of candidates before it: those with a higher score, and those
with the same score and a lower index (the order of a stable sort of the negated scores). Counting needs
neither sorting nor the whole matrix, so it also works for matrices that do not fit in memory.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmpt.utils.arrays import all_finite
from mmpt.utils.errors import UserError
from mmpt.utils.parallel import cores
from mmpt.utils.top_k import TopK

KS = (1, 5, 10)
"""The usual cut-offs of recall and precision."""
MATRIX_TILE, THREADS_FROM = 1 << 19, 1 << 20  # scores
TILE_ROWS = 240  # at most 255: a tile's column counts are held in uint8
TILE_COLUMNS = 2040


@dataclass(frozen=True)
class Ranks:
    """Ranks in both directions, starting at 1; all metrics are computed from them.

    v2t: int64 [n_videos], the rank of each video's own prompt among the prompts.
    queries: int64 [n_queries], the prompts that have at least one video, in increasing order.
    t2v: int64 [n_queries], the rank of the first relevant video among the videos.
    relevant: int64 [n_queries], the number of relevant videos.
    hits: for each k, int64 [n_queries], the number of relevant videos among the first k.
    """

    v2t: NDArray[np.int64]
    queries: NDArray[np.int64]
    t2v: NDArray[np.int64]
    relevant: NDArray[np.int64]
    hits: dict[int, NDArray[np.int64]]


def join_ranks(parts: Sequence[Ranks], rows: Sequence[NDArray[np.int64]]) -> Ranks:
    """Merge several rankings into one; rows: indices of each ranking's clips among all clips."""
    v2t = np.empty(sum(map(len, rows)), dtype=np.int64)
    for part, clips in zip(parts, rows):
        v2t[clips] = part.v2t
    starts = np.cumsum([0, *(len(part.queries) for part in parts[:-1])])
    return Ranks(
        v2t,
        np.concatenate([start + np.arange(len(part.queries)) for start, part in zip(starts, parts)]),
        np.concatenate([part.t2v for part in parts]),
        np.concatenate([part.relevant for part in parts]),
        {k: np.concatenate([part.hits[k] for part in parts]) for k in parts[0].hits},
    )


def check_prompt_ids(prompt_ids: ArrayLike, n_prompts: int, n_videos: int) -> NDArray[np.int64]:
    """Return `prompt_ids` as int64 [n_videos]. Raises UserError unless each is from 0 to n_prompts - 1."""
    ids = np.asarray(prompt_ids)
    if n_videos == 0 or n_prompts == 0:
        raise UserError(f"nothing to rank: got {n_prompts} prompts and {n_videos} videos.")
    if ids.shape != (n_videos,) or not np.issubdtype(ids.dtype, np.integer):
        raise UserError(
            f"expected one integer prompt id for each of the {n_videos} videos, got an array of {ids.dtype} "
            f"with shape {ids.shape}."
        )
    if ids.min() < 0 or ids.max() >= n_prompts:
        raise UserError(
            f"prompt ids must be rows of the similarity matrix (0 to {n_prompts - 1}), got "
            f"{ids.min()} to {ids.max()}."
        )
    return ids.astype(np.int64)


def check_ks(ks: Sequence[int]) -> tuple[int, ...]:
    """Return the cut-offs as a tuple. Raises UserError if there are none or one is below 1."""
    if not ks or any(k < 1 for k in ks):
        raise UserError(f"the cut-offs k must be whole numbers of at least 1, got {list(ks)}.")
    return tuple(int(k) for k in ks)


class RankCounter:
    """Counts, tile by tile, the candidates ranked before each relevant one.

    own_scores: [n_videos], the score of each video with its own prompt, bit for bit as in the tiles.
    prompt_ids: int64 [n_videos], the row of each video's own prompt.
    Pass every tile of the [n_prompts, n_videos] matrix to `add` once, in any order, then call `ranks()`.
    """

    def __init__(self, own_scores: NDArray, prompt_ids: NDArray[np.int64], n_prompts: int, ks: Sequence[int]):
        self._ks = tuple(ks)
        self._lock = Lock()
        self._prompt_ids = prompt_ids
        self._own = own_scores
        # x >= s equals x > (the next smaller number), so one comparison works on both sides of a target
        self._own_or_tie = np.nextafter(own_scores, own_scores.dtype.type(-np.inf))
        self._v2t = np.ones(len(prompt_ids), dtype=np.int64)
        self._t2v = np.ones(n_prompts, dtype=np.int64)
        self._relevant = np.bincount(prompt_ids, minlength=n_prompts)
        # the best relevant video of each prompt
        self._target_column = np.full(n_prompts, -1, dtype=np.int64)
        self._first: TopK | None = None
        if len(prompt_ids) <= n_prompts and self._relevant.max() == 1:
            self._target_column[prompt_ids] = np.arange(len(prompt_ids))
        else:
            best = np.full(n_prompts, -np.inf, dtype=own_scores.dtype)
            np.maximum.at(best, prompt_ids, own_scores)
            columns = np.flatnonzero(own_scores == best[prompt_ids])[::-1]
            self._target_column[prompt_ids[columns]] = columns  # the last assignment stays: the lowest column
            self._first = TopK(n_prompts, min(max(ks), len(prompt_ids)), own_scores.dtype)
        self._target = own_scores[self._target_column]
        self._target_or_tie = self._own_or_tie[self._target_column]

    def add(self, tile: NDArray, row: int, column: int) -> None:
        """Count the tile that starts at matrix element (row, column). Raises UserError on NaN or inf."""
        assert tile.shape[0] <= 255, "the column counts of a tile are held in uint8"
        if not all_finite(tile):
            raise UserError("the similarities contain NaN or infinite values; check the embeddings.")
        rows, columns = slice(row, row + tile.shape[0]), slice(column, column + tile.shape[1])
        width = -(-tile.shape[1] // 8) * 8  # whole words
        flags = (np.empty if width == tile.shape[1] else np.zeros)((len(tile), width), dtype=np.bool_)
        before_own = self._prompts_before(tile, rows, columns, flags)
        with self._lock:
            self._v2t[columns] += before_own
        self._t2v[rows] += self._videos_before(tile, rows, columns, flags)
        if self._first is not None:
            self._first.add(tile, column, rows)

    def _prompts_before(self, tile: NDArray, rows: slice, columns: slice, flags: NDArray) -> NDArray:
        """V2T: for each video of the tile, the number of prompts of the tile ranked before its own."""
        bound = own = self._own[columns]
        own_row = self._prompt_ids[columns]
        inside = None  # all
        if len(tile) < len(self._t2v):
            bound = np.where(own_row >= rows.stop, self._own_or_tie[columns], own)
            inside = np.flatnonzero((own_row >= rows.start) & (own_row < rows.stop))
        before = np.greater(tile, bound, out=flags[:, : len(own)])
        count = np.add.reduce(before.view(np.uint8), axis=0, dtype=np.uint8)
        if inside is None:
            ties = _with_ties(tile, own, np.count_nonzero(flags))
        else:
            own, own_row = own[inside], own_row[inside]
            ties = inside[_with_ties(tile[:, inside], own, int(count[inside].sum()))]
        if ties.size:  # those with rows of this tile above the clip's own row
            count = count.astype(np.int64)
            own, own_row = self._own[columns][ties], self._prompt_ids[columns][ties]
            above = np.arange(rows.start, rows.stop)[:, None] < own_row
            count[ties] += np.count_nonzero((tile[:, ties] == own) & above, axis=0)
        return count

    def _videos_before(self, tile: NDArray, rows: slice, columns: slice, flags: NDArray) -> NDArray:
        """T2V: for each prompt of the tile, the number of videos of the tile ranked before its best one."""
        bound = target = self._target[rows]
        target_column = self._target_column[rows]
        inside = None  # all
        if tile.shape[1] < len(self._own):
            bound = np.where(target_column >= columns.stop, self._target_or_tie[rows], target)
            inside = np.flatnonzero((target_column >= columns.start) & (target_column < columns.stop))
        np.greater(tile, bound[:, None], out=flags[:, : tile.shape[1]])
        count = _true_per_row(flags)
        if inside is None:
            ties = _with_ties(tile.T, target, int(count.sum()))
        else:
            ties = inside[_with_ties(tile[inside].T, target[inside], int(count[inside].sum()))]
        if ties.size:  # those with columns of this tile left of the target
            left = np.arange(columns.start, columns.stop) < target_column[ties, None]
            count[ties] += np.count_nonzero((tile[ties] == target[ties, None]) & left, axis=1)
        return count

    def ranks(self) -> Ranks:
        """The ranks, after every tile has been added."""
        queries = np.flatnonzero(self._relevant)
        t2v = self._t2v[queries]
        if self._first is None:
            hits = {k: (t2v <= k).astype(np.int64) for k in self._ks}
        else:
            right = self._prompt_ids[self._first.numbers[queries]] == queries[:, None]
            hits = {k: np.count_nonzero(right[:, :k], axis=1).astype(np.int64) for k in self._ks}
        return Ranks(self._v2t, queries, t2v, self._relevant[queries].astype(np.int64), hits)


def _with_ties(scores: NDArray, own: NDArray, n_higher: int) -> NDArray[np.int64]:
    """The columns in which a score besides the own one equals it. n_higher: number of higher scores."""
    at_least = scores >= own
    if np.count_nonzero(at_least) == n_higher + len(own):  # each own score, and no ties
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(np.count_nonzero(scores == own, axis=0) > 1)


def _true_per_row(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of set flags in each row of a multiple of 8 columns, summed as 8 bytes at a time."""
    if flags.size < 1 << 13:
        return flags.sum(axis=1)
    words = flags.view(np.uint64)
    at_once = range(0, words.shape[1], 255)  # no byte of the sum of 255 words overflows
    sums = np.add.reduceat(words, at_once, axis=1) if len(at_once) > 1 else words.sum(axis=1, keepdims=True)
    return sums.view(np.uint8).sum(axis=1, dtype=np.int64)


def rank_matrix(similarity: NDArray, prompt_ids: NDArray[np.int64], ks: Sequence[int]) -> Ranks:
    """Ranks of a floating-point matrix [n_prompts, n_videos]."""
    n_prompts, n_videos = similarity.shape
    counter = RankCounter(similarity[prompt_ids, np.arange(n_videos)], prompt_ids, n_prompts, ks)
    columns = min(n_videos, MATRIX_TILE)
    rows = min(255, max(1, MATRIX_TILE // columns))

    def count(row: int) -> None:
        for column in range(0, n_videos, columns):
            counter.add(similarity[row : row + rows, column : column + columns], row, column)

    bands = range(0, n_prompts, rows)
    if similarity.size < THREADS_FROM:
        for row in bands:
            count(row)
    else:
        with ThreadPoolExecutor(min(len(bands), cores())) as threads:
            list(threads.map(count, bands))
    return counter.ranks()

"""Ranks by counting instead of sorting, one tile of the similarity matrix at a time.

The rank of a candidate is one plus the number of candidates before it: those with a higher score, and those
with the same score and a lower index (the order of a stable sort of the negated scores). Counting needs
neither sorting nor the whole matrix, so it also works for matrices that do not fit in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmpt.utils.errors import UserError
from mmpt.utils.top_k import TopK

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
    """The ranks of several rankings as one; rows: the clips of each, among all clips."""
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
        self._prompt_ids = prompt_ids
        self._own = own_scores
        # x >= s equals x > (the next smaller number), so one comparison works on both sides of a target
        self._own_or_tie = _just_below(own_scores)
        self._v2t = np.ones(len(prompt_ids), dtype=np.int64)
        self._t2v = np.ones(n_prompts, dtype=np.int64)
        self._relevant = np.bincount(prompt_ids, minlength=n_prompts)
        # the best relevant video of each prompt
        self._target_column = np.full(n_prompts, -1, dtype=np.int64)
        self._first: TopK | None = None
        if self._relevant.max() == 1:
            self._target_column[prompt_ids] = np.arange(len(prompt_ids))
        else:
            order = np.lexsort((-own_scores, prompt_ids))
            first = (np.cumsum(self._relevant) - self._relevant)[self._relevant > 0]
            self._target_column[prompt_ids[order[first]]] = order[first]
            self._first = TopK(n_prompts, min(max(ks), len(prompt_ids)), own_scores.dtype)
        self._target = own_scores[self._target_column]
        self._target_or_tie = self._own_or_tie[self._target_column]

    def add(self, tile: NDArray, row: int, column: int) -> None:
        """Count the tile that starts at matrix element (row, column). Raises UserError on NaN or inf."""
        assert tile.shape[0] <= 255, "the column counts of a tile are held in uint8"
        if not _all_finite(tile):
            raise UserError("the similarities contain NaN or infinite values; check the embeddings.")
        rows, columns = (slice(s, s + n) for s, n in zip((row, column), tile.shape))
        flags = np.zeros((tile.shape[0], -(-tile.shape[1] // 8) * 8), dtype=np.bool_)  # whole words
        self._count_prompts_before(tile, row, columns, flags)
        self._count_videos_before(tile, rows, columns, flags)
        if self._first is not None:
            self._first.add(tile, column, rows)

    def _count_prompts_before(self, tile: NDArray, row: int, columns: slice, flags: NDArray[np.bool_]) -> None:
        """V2T: for each video of the tile, the prompts of the tile ranked before its own."""
        own = self._own[columns]
        own_row = self._prompt_ids[columns] - row
        bound = np.where(own_row >= len(tile), self._own_or_tie[columns], own)
        count = _true_per_column(np.greater(tile, bound, out=flags[:, : len(own)])).astype(np.int64)
        inside = np.flatnonzero((own_row > 0) & (own_row < len(tile)))
        if inside.size:  # ties with rows of this tile above the clip's own row
            some = tile if inside.size == len(own) else tile[:, inside]
            equal = _true_per_column(some >= own[inside]) - count[inside]  # itself, and its ties
            inside = inside[equal > 1]
            above = np.arange(len(tile))[:, None] < own_row[inside]
            count[inside] += np.count_nonzero((tile[:, inside] == own[inside]) & above, axis=0)
        self._v2t[columns] += count

    def _count_videos_before(self, tile: NDArray, rows: slice, columns: slice, flags: NDArray[np.bool_]) -> None:
        """T2V: for each prompt of the tile, the videos of the tile ranked before its best relevant one."""
        target_column, target = self._target_column[rows], self._target[rows]
        bound = np.where(target_column >= columns.stop, self._target_or_tie[rows], target)
        some = flags[:, : tile.shape[1]]
        np.greater(tile, bound[:, None], out=some)
        count = _true_per_row(flags)
        inside = np.flatnonzero((target_column > columns.start) & (target_column < columns.stop))
        if inside.size:  # ties with columns of this tile left of the target
            if inside.size == len(tile):
                np.greater_equal(tile, target[:, None], out=some)
                equal = _true_per_row(flags) - count
            else:
                equal = np.count_nonzero(tile[inside] >= target[inside, None], axis=1) - count[inside]
            inside = inside[equal > 1]
            left = np.arange(columns.start, columns.start + tile.shape[1]) < target_column[inside, None]
            count[inside] += np.count_nonzero((tile[inside] == target[inside, None]) & left, axis=1)
        self._t2v[rows] += count

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


def _just_below(scores: NDArray) -> NDArray:
    return np.nextafter(scores, np.array(-np.inf, dtype=scores.dtype))


def _all_finite(tile: NDArray) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        total = tile.sum()  # fast, but may overflow
    return bool(np.isfinite(total) or np.isfinite(tile).all())


def _true_per_column(flags: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Number of set flags in each column of at most 255 rows."""
    return np.add.reduce(flags.view(np.uint8), axis=0, dtype=np.uint8)


def _true_per_row(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of set flags in each row of a multiple of 8 columns, summed as 8 bytes at a time."""
    words = flags.view(np.uint64)
    at_once = range(0, words.shape[1], 255)  # no byte of the sum of 255 words overflows
    sums = np.add.reduceat(words, at_once, axis=1) if len(at_once) > 1 else words.sum(axis=1, keepdims=True)
    return sums.view(np.uint8).sum(axis=1, dtype=np.int64)


def rank_matrix(similarity: NDArray, prompt_ids: NDArray[np.int64], ks: Sequence[int]) -> Ranks:
    """Ranks of a floating-point matrix [n_prompts, n_videos]."""
    n_prompts, n_videos = similarity.shape
    own = similarity[prompt_ids, np.arange(n_videos)]
    counter = RankCounter(own, prompt_ids, n_prompts, ks)
    for row in range(0, n_prompts, TILE_ROWS):
        for column in range(0, n_videos, TILE_COLUMNS):
            tile = similarity[row : row + TILE_ROWS, column : column + TILE_COLUMNS]
            counter.add(tile, row, column)
    return counter.ranks()

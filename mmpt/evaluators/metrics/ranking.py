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

TILE_ROWS = 240  # at most 255: a tile's column counts are held in uint8
TILE_COLUMNS = 2040  # a multiple of 8 and at most 2040: see _true_per_row


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
        self._depth = max(self._ks)
        self._prompt_ids = prompt_ids
        self._own = own_scores
        # x >= s equals x > (the next smaller number), so one comparison works on both sides of a target
        self._own_or_tie = _just_below(own_scores)
        self._v2t = np.ones(len(prompt_ids), dtype=np.int64)
        self._relevant = np.bincount(prompt_ids, minlength=n_prompts)
        self._set_targets(own_scores, prompt_ids, n_prompts)

    def _set_targets(self, own: NDArray, prompt_ids: NDArray[np.int64], n_prompts: int) -> None:
        """Store the relevant videos of each prompt, best first, at most the largest k."""
        index = np.arange(len(prompt_ids))
        order = np.lexsort((index, -own, prompt_ids))
        starts = np.cumsum(self._relevant) - self._relevant
        slot = index - starts[prompt_ids[order]]
        kept = slot < self._depth
        rows, slots, columns = prompt_ids[order][kept], slot[kept], order[kept]
        n_slots = min(self._depth, int(self._relevant.max()))
        self._target_column = np.full((n_slots, n_prompts), -1, dtype=np.int64)
        self._target_column[slots, rows] = columns
        self._target = np.zeros((n_slots, n_prompts), dtype=own.dtype)
        self._target[slots, rows] = own[columns]
        self._target_or_tie = _just_below(self._target)
        self._t2v = np.ones((n_slots, n_prompts), dtype=np.int64)

    def add(self, tile: NDArray, row: int, column: int) -> None:
        """Count the tile that starts at matrix element (row, column). Raises UserError on NaN or inf."""
        assert tile.shape[0] <= 255, "the column counts of a tile are held in uint8"
        with np.errstate(over="ignore", invalid="ignore"):
            finite = np.isfinite(tile.sum())  # fast, but may overflow
        if not finite and not np.isfinite(tile).all():
            raise UserError("the similarities contain NaN or infinite values; check the embeddings.")
        self._count_prompts_before(tile, row, column)
        for slot in range(len(self._target)):
            self._count_videos_before(tile, row, column, slot)

    def _count_prompts_before(self, tile: NDArray, row: int, column: int) -> None:
        """V2T: for each video of the tile, the prompts of the tile ranked before its own."""
        columns = slice(column, column + tile.shape[1])
        own_row = self._prompt_ids[columns] - row
        bound = np.where(own_row >= tile.shape[0], self._own_or_tie[columns], self._own[columns])
        before = np.greater(tile, bound)
        count = before.view(np.uint8).sum(axis=0, dtype=np.uint8).astype(np.int64)
        inside = np.flatnonzero((own_row > 0) & (own_row < tile.shape[0]))
        if inside.size:  # ties with rows of this tile above the clip's own row
            above = np.arange(tile.shape[0])[:, None] < own_row[inside]
            count[inside] += ((tile[:, inside] == self._own[columns][inside]) & above).sum(axis=0)
        self._v2t[columns] += count

    def _count_videos_before(self, tile: NDArray, row: int, column: int, slot: int) -> None:
        """T2V: for each prompt of the tile, the videos of the tile ranked before its slot-th relevant one."""
        end = column + tile.shape[1]
        target_column = self._target_column[slot, row : row + tile.shape[0]]
        wanted = target_column >= 0
        if slot:  # only the first relevant video needs its exact rank; for others, whether it is <= depth
            wanted &= self._t2v[slot, row : row + tile.shape[0]] <= self._depth
        rows = np.flatnonzero(wanted)
        if not rows.size:
            return
        part = tile if rows.size == len(tile) else tile[rows]
        target_column = target_column[rows]
        target = self._target[slot, row + rows]
        bound = np.where(target_column >= end, self._target_or_tie[slot, row + rows], target)
        count = _true_per_row(np.greater(part, bound[:, None]))
        inside = np.flatnonzero((target_column > column) & (target_column < end))
        if inside.size:  # ties with columns of this tile left of the target
            left = np.arange(column, end) < target_column[inside, None]
            ties = (part[inside] == target[inside, None]) & left
            count[inside] += np.count_nonzero(ties, axis=1)
        self._t2v[slot, row + rows] += count

    def ranks(self) -> Ranks:
        """The ranks, after every tile has been added."""
        queries = np.flatnonzero(self._relevant)
        ranks = np.where(self._target_column >= 0, self._t2v, self._depth + 1)[:, queries]
        hits = {k: np.count_nonzero(ranks <= k, axis=0).astype(np.int64) for k in self._ks}
        return Ranks(
            self._v2t, queries, self._t2v[0, queries], self._relevant[queries].astype(np.int64), hits
        )


def _just_below(scores: NDArray) -> NDArray:
    return np.nextafter(scores, np.array(-np.inf, dtype=scores.dtype))


def _true_per_row(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of set flags in each row, summed as 8 bytes at a time while no byte can overflow."""
    rows, columns = flags.shape
    if columns % 8 or columns > 8 * 255:
        return np.count_nonzero(flags, axis=1)
    by_byte = flags.view(np.uint64).sum(axis=1).view(np.uint8)
    return by_byte.reshape(rows, 8).sum(axis=1, dtype=np.int64)


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

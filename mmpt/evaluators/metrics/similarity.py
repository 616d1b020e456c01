"""Similarity of text and video embeddings: the whole matrix, or ranks computed block by block.

A score must not depend on the block it is computed in, or rounding would break ties and ranks would change
with the block size. So products are summed in float64, rounded to a fixed grid (2^-40 of the product of the
two norms, far coarser than rounding errors), then converted to float32. Equal vectors tie exactly, and
orthogonal vectors score 0.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmpt.evaluators.metrics.ranking import (
    KS,
    TILE_COLUMNS,
    TILE_ROWS,
    RankCounter,
    Ranks,
    check_ks,
    check_prompt_ids,
)
from mmpt.utils.arrays import on_grid, unit_rows
from mmpt.utils.errors import UserError

Kind = Literal["cosine", "dot"]


class _Side(NamedTuple):
    """Vectors of norm 1 (cosine) or at most 1 (dot), float64 [n, H]; for dot also their exponents [n]."""

    vectors: NDArray[np.float64]
    exponents: NDArray[np.int32] | None

    def part(self, which: slice | NDArray[np.int64]) -> "_Side":
        return _Side(self.vectors[which], None if self.exponents is None else self.exponents[which])


def similarity(text: ArrayLike, video: ArrayLike, kind: str = "cosine") -> NDArray[np.float32]:
    """Similarity matrix of texts and videos, float32 [n_texts, n_videos].

    text: [n_texts, H], video: [n_videos, H] embeddings. kind: "cosine" (a zero vector scores 0 with
    everything) or "dot" (as in MMPT). Raises UserError on shapes that do not fit, on an unknown kind, and
    on NaN or infinite embeddings.
    """
    texts, videos = _check(text, video, kind)
    scores = np.empty((len(texts), len(videos)), dtype=np.float32)
    rows = _prepare(texts, kind)
    for column in range(0, len(videos), TILE_COLUMNS):
        part = slice(column, column + TILE_COLUMNS)
        block = _prepare(videos[part], kind)
        for row in range(0, len(texts), TILE_ROWS):
            scores[row : row + TILE_ROWS, part] = _tile(rows.part(slice(row, row + TILE_ROWS)), block)
    return scores


def rank_embeddings(
    text: ArrayLike,
    video: ArrayLike,
    prompt_ids_of_videos: ArrayLike,
    kind: str = "cosine",
    ks: Sequence[int] = KS,
    chunk: int = TILE_COLUMNS,
) -> Ranks:
    """Ranks of `similarity(text, video, kind)`, without holding the matrix in memory.

    text: [n_prompts, H], one row for each distinct prompt. video: [n_videos, H], an array or a memory map,
    read twice, `chunk` rows at a time. prompt_ids_of_videos: integers [n_videos]. Needs memory for the texts
    in float64, a few blocks of chunk x 240 scores, and a few values per video. Raises UserError as
    `similarity` does.
    """
    texts, videos = _check(text, video, kind)
    ids = check_prompt_ids(prompt_ids_of_videos, len(texts), len(videos))
    if chunk < 1:
        raise UserError(f"chunk must be at least 1 video, got {chunk}.")
    tiles = ScoreTiles(texts, videos, ids, kind)
    columns = [slice(start, start + chunk) for start in range(0, len(videos), chunk)]
    counter = RankCounter(tiles.own(columns), ids, len(texts), check_ks(ks))
    for tile, row, column in tiles.blocks(columns):
        counter.add(tile, row, column)
    return counter.ranks()


class ScoreTiles:
    """The similarity matrix of texts and videos, tile by tile; reads the videos twice.

    Takes the arguments of rank_embeddings, checked: ids is int64 [n_videos]. The pieces of columns that `own`
    and `blocks` take must be the same.
    """

    def __init__(self, text: ArrayLike, video: ArrayLike, ids: NDArray[np.int64], kind: str):
        texts, self._videos = _check(text, video, kind)
        self._ids, self._kind = ids, kind
        self._rows, self._n_texts = _prepare(texts, kind), len(texts)
        self._own = np.empty(len(self._videos), dtype=np.float32)

    def own(self, columns: Sequence[slice]) -> NDArray[np.float32]:
        """The score of each video with its own prompt [n_videos], bit for bit as in the tiles."""
        for part in columns:
            block = _prepare(self._videos[part], self._kind)
            self._own[part] = _pairs(self._rows.part(self._ids[part]), block)
        return self._own

    def blocks(self, columns: Sequence[slice]) -> Iterator[tuple[NDArray[np.float32], int, int]]:
        """Tiles, and the row and column at which they start; after `own`."""
        for part in columns:
            block = _prepare(self._videos[part], self._kind)
            ids = self._ids[part]
            for row in range(0, self._n_texts, TILE_ROWS):
                tile = _tile(self._rows.part(slice(row, row + TILE_ROWS)), block)
                # in about one of 10^8 cases two summation orders round to different grid points; a clip must
                # not rank before itself
                inside = np.flatnonzero((ids >= row) & (ids < row + len(tile)))
                tile[ids[inside] - row, inside] = self._own[part][inside]
                yield tile, row, part.start


def nearest_prompts(text: ArrayLike, video: ArrayLike, kind: str = "cosine") -> NDArray[np.int64]:
    """Index of the most similar text of each video, int64 [n_videos]; the first of ties."""
    texts, videos = _check(text, video, kind)
    nearest = np.empty(len(videos), dtype=np.int64)
    for column in range(0, len(videos), TILE_ROWS):
        part = slice(column, column + TILE_ROWS)
        nearest[part] = similarity(texts, videos[part], kind).argmax(axis=0)
    return nearest


def _check(text: ArrayLike, video: ArrayLike, kind: str) -> tuple[NDArray, NDArray]:
    if kind not in get_args(Kind):
        raise UserError(f"unknown similarity {kind!r}: expected one of {', '.join(get_args(Kind))}.")
    texts, videos = np.asarray(text), np.asarray(video)
    if texts.ndim != 2 or videos.ndim != 2 or texts.shape[1] != videos.shape[1]:
        raise UserError(
            "expected text embeddings [n_texts, H] and video embeddings [n_videos, H] of one dimension H, "
            f"got shapes {texts.shape} and {videos.shape}."
        )
    return texts, videos


def _prepare(vectors: NDArray, kind: str) -> _Side:
    wide = np.array(vectors, dtype=np.float64, order="C")
    if not np.isfinite(wide).all():
        raise UserError("the embeddings contain NaN or infinite values: check the model and its input.")
    if kind == "cosine":
        return _Side(unit_rows(wide), None)
    exponents = np.frexp(np.linalg.norm(wide, axis=1))[1]
    return _Side(np.ldexp(wide, -exponents[:, None]), exponents)


def _tile(rows: _Side, block: _Side) -> NDArray[np.float32]:
    """Scores [rows, block] of all pairs."""
    scores = on_grid(rows.vectors @ block.vectors.T)
    if rows.exponents is not None and block.exponents is not None:
        np.ldexp(scores, rows.exponents[:, None] + block.exponents, out=scores)
    return _float32(scores)


def _pairs(rows: _Side, block: _Side) -> NDArray[np.float32]:
    """Scores [n] of each row with the vector of the same index in the block."""
    scores = on_grid(np.einsum("nh,nh->n", rows.vectors, block.vectors))
    if rows.exponents is not None and block.exponents is not None:
        scores = np.ldexp(scores, rows.exponents + block.exponents)
    return _float32(scores)


def _float32(scores: NDArray[np.float64]) -> NDArray[np.float32]:
    """The scores as float32. Raises UserError if it cannot hold them, which would make them equal."""
    try:
        with np.errstate(over="raise"):
            return scores.astype(np.float32)
    except FloatingPointError:
        raise UserError(
            "dot products of the embeddings are above 3.4e38, the largest float32: compare with cosine."
        ) from None

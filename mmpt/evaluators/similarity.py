"""Similarities of text and video embeddings, whole, or ranked block by block without holding the matrix."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmpt.evaluators.ranking import TILE_COLUMNS, TILE_ROWS, RankCounter, Ranks, check_ks, check_prompt_ids
from mmpt.utils.errors import UserError

Kind = Literal["cosine", "dot"]


def check_kind(kind: str) -> None:
    """Raises UserError unless `kind` is a similarity we know."""
    if kind not in get_args(Kind):
        raise UserError(f"there is no similarity called {kind!r}. Known: {', '.join(get_args(Kind))}.")


def similarity(text: ArrayLike, video: ArrayLike, kind: str = "cosine") -> NDArray[np.float32]:
    """Scores of every text with every video, float32 [n_texts, n_videos].

    text: [n_texts, H], video: [n_videos, H] embeddings. kind: "cosine" (a zero vector scores 0 with
    everything) or "dot" (the ancestor's). Products are summed in float64 and rounded to float32 once, so that
    a score does not depend on the block or place it is computed in, and equal vectors tie exactly. Raises
    UserError on shapes that do not fit, on an unknown kind, and on NaN or infinite embeddings.
    """
    texts, videos = _check(text, video, kind)
    scores = np.empty((len(texts), len(videos)), dtype=np.float32)
    prepared = _prepare(texts, kind)
    for column in range(0, len(videos), TILE_COLUMNS):
        block = _prepare(videos[column : column + TILE_COLUMNS], kind)
        np.matmul(prepared, block.T, out=scores[:, column : column + TILE_COLUMNS], casting="same_kind")
    return scores


def rank_embeddings(
    text: ArrayLike,
    video: ArrayLike,
    prompt_ids_of_videos: ArrayLike,
    kind: str = "cosine",
    ks: Sequence[int] = (1, 5, 10),
    chunk: int = TILE_COLUMNS,
) -> Ranks:
    """The places that `similarity(text, video, kind)` gives, in memory that does not grow with their product.

    text: [n_prompts, H], one row for each distinct prompt. video: [n_videos, H], an array or a memory map; it
    is read once, `chunk` rows at a time. prompt_ids_of_videos: integers [n_videos]. Beside the inputs it
    holds the texts in float64, one block of chunk x 240 scores and a few numbers a video. Raises UserError as
    `similarity` does.
    """
    texts, videos = _check(text, video, kind)
    ids = check_prompt_ids(prompt_ids_of_videos, len(texts), len(videos))
    if chunk < 1:
        raise UserError(f"chunk must be at least 1 video, got {chunk}.")
    prepared = _prepare(texts, kind)
    own = np.empty(len(videos), dtype=np.float32)
    for column in range(0, len(videos), chunk):
        part = slice(column, column + chunk)
        own[part] = np.einsum("nh,nh->n", prepared[ids[part]], _prepare(videos[part], kind))
    counter = RankCounter(own, ids, len(texts), check_ks(ks))
    for column in range(0, len(videos), chunk):
        part = slice(column, column + chunk)
        block = np.ascontiguousarray(_prepare(videos[part], kind).T)
        for row in range(0, len(texts), TILE_ROWS):
            tile = (prepared[row : row + TILE_ROWS] @ block).astype(np.float32)
            # A sum in another order may round to a neighbouring float32: the own scores are taken from one
            # place.
            inside = np.flatnonzero((ids[part] >= row) & (ids[part] < row + len(tile)))
            tile[ids[part][inside] - row, inside] = own[part][inside]
            counter.add(tile, row, column)
    return counter.ranks()


def _check(text: ArrayLike, video: ArrayLike, kind: str) -> tuple[NDArray, NDArray]:
    check_kind(kind)
    texts, videos = np.asarray(text), np.asarray(video)
    if texts.ndim != 2 or videos.ndim != 2 or texts.shape[1] != videos.shape[1]:
        raise UserError(
            "expected text embeddings [n_texts, H] and video embeddings [n_videos, H] of one width H, got "
            f"shapes {texts.shape} and {videos.shape}."
        )
    return texts, videos


def _prepare(vectors: NDArray, kind: str) -> NDArray[np.float64]:
    """float64, contiguous, of unit length for cosine."""
    wide = np.ascontiguousarray(vectors, dtype=np.float64)
    if not np.isfinite(wide).all():
        raise UserError("the embeddings hold NaN or infinite values: the model or its input is broken.")
    if kind == "dot":
        return wide
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(length == 0, 1, length)


def nearest_prompts(text: ArrayLike, video: ArrayLike, kind: str = "cosine") -> NDArray[np.int64]:
    """The most similar text of each video, int64 [n_videos]; of equal ones the first. Memory as
    rank_embeddings.
    """
    texts, videos = _check(text, video, kind)
    nearest = np.empty(len(videos), dtype=np.int64)
    for column in range(0, len(videos), TILE_ROWS):
        part = slice(column, column + TILE_ROWS)
        nearest[part] = similarity(texts, videos[part], kind).argmax(axis=0)
    return nearest

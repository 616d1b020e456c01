"""Exact top-k of dot products, block by block of an array or memory map of any length."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmpt.search.approximate import faiss_module, has_faiss

BLOCK = 1 << 16
"""Rows per block."""


class Hits(NamedTuple):
    """The best hits of each query, best first; equal scores are sorted by row.

    Of rows tied at rank k, NumPy keeps the first and faiss any.
    """

    scores: NDArray[np.float32]
    """[queries, k]"""
    rows: NDArray[np.int64]
    """[queries, k]; -1 (and score -inf) where there are fewer."""


def top_k(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], k: int, use_faiss: bool | None = None
) -> Hits:
    """The k rows of `vectors` [N, D] with the largest dot product, for each of `queries` [Q, D].

    Needs memory for a block of scores and Q x 2k hits. use_faiss: None uses faiss if it is installed, else
    NumPy; they differ by rounding.
    """
    k = min(k, len(vectors))
    with_faiss = has_faiss() if use_faiss is None else use_faiss
    scores = np.empty((len(queries), 0), dtype=np.float32)
    rows = np.empty((len(queries), 0), dtype=np.int64)
    rows_per_block = max(k, BLOCK * 64 // max(64, len(queries)))  # scores of 16 MiB, or more for large k
    for start in range(0, len(vectors), rows_per_block):
        block = np.ascontiguousarray(vectors[start : start + rows_per_block], dtype=np.float32)
        found = (_faiss_block if with_faiss else _numpy_block)(queries, block, min(k, len(block)))
        scores = np.concatenate([scores, found.scores], axis=1)
        rows = np.concatenate([rows, found.rows + start], axis=1)
        scores, rows = best(scores, rows, k)
    return Hits(scores, rows)


def best(scores: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> Hits:
    """The k best of hits in any order [Q, n], best first."""
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return Hits(np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1))


def _numpy_block(queries: NDArray[np.float32], block: NDArray[np.float32], k: int) -> Hits:
    scores = queries @ block.T
    if k == len(block):
        rows = np.broadcast_to(np.arange(k), scores.shape)
        return Hits(scores, rows)
    rows = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    worst = np.take_along_axis(scores, rows, 1).min(axis=1)
    for query in np.flatnonzero((scores >= worst[:, None]).sum(axis=1) > k):  # ties at rank k
        above = np.flatnonzero(scores[query] > worst[query])
        level = np.flatnonzero(scores[query] == worst[query])
        rows[query] = np.concatenate([above, level[: k - len(above)]])
    return Hits(np.take_along_axis(scores, rows, 1), rows)


def _faiss_block(queries: NDArray[np.float32], block: NDArray[np.float32], k: int) -> Hits:
    faiss = faiss_module()
    scores, rows = faiss.knn(queries, block, k, faiss.METRIC_INNER_PRODUCT)
    return Hits(scores, rows)

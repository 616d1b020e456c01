"""Exact top-k of dot products, block by block of an array or memory map of any length."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmpt.utils.top_k import TopK

BLOCK = 1 << 14
"""Rows per block."""
_QUERIES = 256


class Hits(NamedTuple):
    """The best hits of each query, best first; of equal scores, the lower row first."""

    scores: NDArray[np.float32]
    """[queries, k]"""
    rows: NDArray[np.int64]
    """[queries, k]; -1 (and score -inf) where there are fewer."""


def top_k(queries: NDArray[np.float32], vectors: NDArray[np.float32], k: int) -> Hits:
    """The k rows of `vectors` [N, D] with the largest dot product, for each of `queries` [Q, D].

    Needs memory for a block of vectors, 256 queries' scores of it, and Q x k hits.
    """
    best = TopK(len(queries), min(k, len(vectors)))
    for start in range(0, len(vectors), BLOCK):
        block = np.asarray(vectors[start : start + BLOCK], dtype=np.float32, order="C")
        for first in range(0, len(queries), _QUERIES):
            some = slice(first, first + _QUERIES)
            best.add(queries[some] @ block.T, start, some)
    return Hits(best.scores, best.numbers)


def best(scores: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> Hits:
    """The k best of hits in any order [Q, n], best first; of equal scores, the lower row first."""
    query = np.arange(len(scores))[:, None]
    kept = min(k + 1, scores.shape[1])  # one more, to see whether it equals the last hit
    chosen = np.argpartition(scores, -kept, axis=1)[:, -kept:]
    some = scores[query, chosen]
    descending = np.argsort(-some, axis=1)
    ordered = some[query, descending]
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        order = np.lexsort((rows, -scores), axis=1)[:, :k]
    else:
        order = chosen[query, descending[:, :k]]
    return Hits(scores[query, order], rows[query, order])

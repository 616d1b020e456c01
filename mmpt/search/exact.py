"""Exact top-k of dot products, block by block of an array or memory map of any length.

A product of matrices in float32 rounds a score differently from block to block, and with the number of
queries. So it only selects candidates, with a few more than k. Their scores are summed in float64, one by
one. Where rounding may have kept another row from being a candidate, candidates are selected in float64.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmpt.utils.arrays import on_grid
from mmpt.utils.top_k import TopK

BLOCK = 1 << 14
"""Rows per block."""
_QUERIES = 256
_MORE = 8
_PAIRS = 1 << 13


class Hits(NamedTuple):
    """The best hits of each query, best first; of equal scores, the lower row first."""

    scores: NDArray[np.float32]
    """[queries, k]"""
    rows: NDArray[np.int64]
    """[queries, k]; -1 (and score -inf) where there are fewer."""


def top_k(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], k: int, longest: float | None = None
) -> Hits:
    """The k rows of `vectors` [N, D] with the largest dot product, for each of `queries` [Q, D].

    A score depends on its two vectors only, so equal vectors have equal scores. longest: the largest norm of
    `vectors`; None: it is computed. Needs memory for a block of vectors, 256 queries' scores of it, and Q x k
    hits.
    """
    k, count, width = min(k, len(vectors)), len(vectors), vectors.shape[1]
    first = TopK(len(queries), min(k + _MORE, count))
    for start, block in _blocks(vectors):
        for some in _parts(len(queries), _QUERIES):
            first.add(queries[some] @ block.T, start, some)
    hits = _best_of(queries, vectors, first.numbers, k)
    if not k or first.numbers.shape[1] == count:
        return hits
    if longest is None:
        longest = largest_norm(vectors)
    # a row outside is a hit only if the float32 product is that wrong: twice the largest error of a sum of D
    # products, in any order (Higham 2002, section 3.1)
    reach = np.finfo(np.float32).eps * longest * np.linalg.norm(queries, axis=1).astype(np.float64)
    doubtful = np.flatnonzero(first.scores[:, -1] >= hits.scores[:, -1] - width * reach)
    for some in _parts(len(doubtful), _QUERIES):
        which = doubtful[some]
        hits.scores[which], hits.rows[which] = _by_float64(queries[which], vectors, k, longest)
    return hits


def _by_float64(queries: NDArray[np.float32], vectors: NDArray[np.float32], k: int, longest: float) -> Hits:
    """As top_k, by products in float64. Rounded to a grid, those of equal vectors are equal."""
    wide = queries.astype(np.float64)
    found = TopK(len(queries), min(k + _MORE, len(vectors)))
    exponents = np.frexp(longest * np.linalg.norm(wide, axis=1, keepdims=True))[1]
    scaled: NDArray[np.float64] = np.ldexp(wide, -exponents)
    for start, block in _blocks(vectors):
        found.add(on_grid(scaled @ block.T.astype(np.float64)).astype(np.float32), start)
    return _best_of(queries, vectors, found.numbers, k)


def _best_of(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], rows: NDArray[np.int64], k: int
) -> Hits:
    """The k best of candidate rows [Q, n]."""
    query = np.repeat(np.arange(len(rows)), rows.shape[1])
    return best(dot_products(queries, vectors, query, rows.ravel()).reshape(rows.shape), rows, k)


def dot_products(
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    query: NDArray[np.int64],
    row: NDArray[np.int64],
) -> NDArray[np.float32]:
    """The dot product [n] of each pair of a query and a row, summed in float64."""
    scores = np.empty(len(query), dtype=np.float32)
    for some in _parts(len(query), _PAIRS):
        one, other = queries[query[some]].astype(np.float64), vectors[row[some]].astype(np.float64)
        scores[some] = np.einsum("nd,nd->n", one, other)
    return scores


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


def largest_norm(vectors: NDArray[np.float32]) -> float:
    """The norm of the longest of `vectors` [N, D]."""
    return max(float(np.linalg.norm(block, axis=1).max()) for _, block in _blocks(vectors))


def _blocks(vectors: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    for start in range(0, len(vectors), BLOCK):
        yield start, np.asarray(vectors[start : start + BLOCK], dtype=np.float32, order="C")


def _parts(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, start + size)

"""Metrics of queries with one right candidate each, whatever the order of the candidates.

A candidate that ties with others has several ranks, from `first` to `first + tied - 1`. A metric is the mean
over these ranks, its expected value if ties were broken at random. So the results do not depend on the order
of a table, and equal texts, whose scores are equal, have no advantage by their position.

    R@k       share of queries whose right candidate is among the first k
    MRR       mean of 1 / rank
    DCG       mean of 1 / log2(1 + rank), the discounted cumulative gain of the one right candidate
    MedianR   median over queries of the middle rank (the mean of the middle two if their number is even)
    MeanR     mean rank

Without ties these are `class_rank_metrics` of the ranks (mmpt/evaluators/metrics/ranks.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmpt.evaluators.metrics.bootstrap import Intervals, medians, percentiles, resampling_weights
from mmpt.evaluators.metrics.ranking import KS
from mmpt.utils.errors import UserError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TiedRanks:
    """The ranks that the right candidate of each query shares with candidates of the same score.

    first: int64 [N], the best of these ranks, from 1. tied: int64 [N], their number.
    """

    first: NDArray[np.int64]
    tied: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)

    @property
    def middle(self) -> Floats:
        """The mean rank of each query [N]."""
        return self.first + (self.tied - 1) / 2

    def mean(self, gain: Callable[[Floats], Floats]) -> Floats:
        """The mean of gain(rank) over the ranks of each query [N]."""
        values = gain(self.first.astype(np.float64))
        if len(ties := np.flatnonzero(self.tied > 1)):
            last = self.first[ties] + self.tied[ties] - 1
            upto = np.concatenate([[0.0], np.cumsum(gain(np.arange(1.0, last.max() + 1)))])
            values[ties] = (upto[last] - upto[self.first[ties] - 1]) / self.tied[ties]
        return values

    def within(self, k: int) -> Floats:
        """The share of the ranks of each query that are at most k [N]."""
        return self.mean(_within(k))


def join_tied_ranks(parts: Sequence[TiedRanks]) -> TiedRanks:
    """The queries of several rankings, one after another."""
    return TiedRanks(np.concatenate([p.first for p in parts]), np.concatenate([p.tied for p in parts]))


def rank_scores(scores: ArrayLike, right: ArrayLike) -> TiedRanks:
    """Ranks of candidate `right` [N] among the candidates of each query; scores: [N, C].

    Raises UserError on NaN, infinite scores, and on shapes and numbers that do not fit.
    """
    values, own = np.asarray(scores), np.asarray(right)
    if values.ndim != 2 or own.shape != values.shape[:1] or not np.issubdtype(own.dtype, np.integer):
        raise UserError(
            f"expected scores [N, C] and candidate numbers [N], got {values.shape} and {own.shape}."
        )
    if not np.isfinite(values).all():
        raise UserError("the similarities contain NaN or infinite values; check the embeddings.")
    if len(own) and (own.min() < 0 or own.max() >= values.shape[1]):
        raise UserError(
            f"candidate numbers must be from 0 to {values.shape[1] - 1}, got {own.min()} to {own.max()}."
        )
    score = values[np.arange(len(own)), own][:, None]
    return TiedRanks(
        1 + np.count_nonzero(values > score, axis=1),
        np.count_nonzero(values == score, axis=1).astype(np.int64),
    )


def tied_rank_metrics(ranks: TiedRanks, ks: Sequence[int] = KS) -> dict[str, float]:
    """The metrics above."""
    found = {name: float(values.mean()) for name, values in _values(ranks, ks).items()}
    return found | {"MedianR": float(np.median(ranks.middle))}


def tied_rank_intervals(
    ranks: TiedRanks,
    clusters: ArrayLike,
    ks: Sequence[int] = KS,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Intervals:
    """Percentile bootstrap intervals of `tied_rank_metrics`; whole clusters of queries are drawn.

    clusters: integers [N], such as the text or the sign of each query, because the queries of one text depend
    on each other. Candidates are not resampled. The same seed gives the same intervals.
    """
    _, cluster = np.unique(np.asarray(clusters), return_inverse=True)
    n_clusters = int(cluster.max()) + 1
    sizes = np.bincount(cluster)
    sums = {name: np.bincount(cluster, v) for name, v in _values(ranks, ks).items()}
    found: dict[str, list[NDArray]] = {name: [] for name in (*sums, "MedianR")}
    for weights in resampling_weights(n_clusters, resamples, seed, width=len(ranks)):
        count = weights @ sizes
        for name, of_cluster in sums.items():
            found[name].append(weights @ of_cluster / count)
        found["MedianR"].append(medians(ranks.middle, weights, cluster))
    return percentiles(found, level)


def tied_rank_chance(candidates: ArrayLike, ks: Sequence[int] = KS) -> dict[str, float]:
    """Expected metrics of random scores; candidates: their number C, for all queries or for each [N].

    The rank is uniform from 1 to C: R@k is min(k, C) / C, MeanR (C + 1) / 2, MRR and DCG the means of their
    gains. MedianR is the median of the distribution of ranks of all queries together.
    """
    sizes, queries = np.unique(np.atleast_1d(np.asarray(candidates)), return_counts=True)
    share = queries / queries.sum()
    ranks = np.arange(1.0, sizes.max() + 1)
    expected = {
        name: float(share @ (np.cumsum(gain(ranks))[sizes - 1] / sizes)) for name, gain in _gains(ks).items()
    }
    upto = share @ (np.minimum(ranks, sizes[:, None]) / sizes[:, None])
    low, high = (ranks[np.argmax(reached)] for reached in (upto >= 0.5 - 1e-9, upto > 0.5 + 1e-9))
    return expected | {"MedianR": float(low + high) / 2}


def _gains(ks: Sequence[int]) -> dict[str, Callable[[Floats], Floats]]:
    return {f"R@{k}": _within(k) for k in ks} | {
        "MRR": lambda ranks: 1 / ranks,
        "DCG": lambda ranks: 1 / np.log2(1 + ranks),
        "MeanR": lambda ranks: ranks,
    }


def _within(k: int) -> Callable[[Floats], Floats]:
    return lambda ranks: (ranks <= k).astype(np.float64)


def _values(ranks: TiedRanks, ks: Sequence[int]) -> dict[str, Floats]:
    if not len(ranks):
        raise UserError("there are no queries to rank.")
    return {name: ranks.mean(gain) for name, gain in _gains(ks).items()}

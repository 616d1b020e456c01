"""Classification metrics of the rank of each clip's true class.

Ranks start at 1. Ties go to the class with the lower index. A clip whose class is not among the candidates is
always wrong: its rank is one after the last candidate.

    R@k       share of clips whose class is among the first k
    MRR       mean reciprocal rank
    DCG       mean of 1 / log2(1 + rank), the discounted cumulative gain of the one relevant class
    MedianR   median rank (the mean of the middle two if their number is even); MeanR: mean rank
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmpt.evaluators.metrics.bootstrap import medians, percentiles, resampling_weights
from mmpt.evaluators.metrics.ranking import KS
from mmpt.utils.errors import UserError

ABSENT = -1
"""The class number of a clip whose class is not among the candidates."""


def class_ranks(scores: ArrayLike, truth: ArrayLike) -> NDArray[np.int64]:
    """Rank of the true class of each clip, int64 [N].

    scores: [N, C]; classes with -inf rank last. truth: class numbers [N], or ABSENT. Raises UserError on NaN
    and on shapes that do not fit.
    """
    values, own = np.asarray(scores), np.asarray(truth)
    if values.ndim != 2 or own.shape != values.shape[:1] or not np.issubdtype(own.dtype, np.integer):
        raise UserError(f"expected scores [N, C] and class numbers [N], got {values.shape} and {own.shape}.")
    if np.isnan(values).any():
        raise UserError("the scores contain NaN; check the embeddings.")
    if len(own) and (own.min() < ABSENT or own.max() >= values.shape[1]):
        raise UserError(f"class numbers must be from 0 to {values.shape[1] - 1}, or {ABSENT} for none.")
    score = values[np.arange(len(own)), np.maximum(own, 0)][:, None]
    ranks = 1 + np.count_nonzero(values > score, axis=1)
    equal = values == score
    if np.count_nonzero(equal) > len(own):  # each own score, and ties
        tied = np.flatnonzero(np.count_nonzero(equal, axis=1) > 1)
        before = np.arange(values.shape[1]) < own[tied, None]
        ranks[tied] += np.count_nonzero(equal[tied] & before, axis=1)
    return np.where(own == ABSENT, values.shape[1] + 1, ranks)


def class_rank_metrics(ranks: ArrayLike, n_candidates: int | None = None) -> dict[str, float]:
    """The metrics above for k in KS. ranks: [N], or [draws, N]; metrics are averaged over the draws.

    n_candidates: number of classes that were ranked; a higher rank is never a hit, even for a larger k.
    Required if clips may be of absent classes.
    """
    given = np.atleast_2d(ranks)
    metrics = {name: float(column.mean()) for name, column in _values(given, n_candidates).items()}
    return metrics | {"MedianR": float(np.median(given, axis=1).mean())}


def class_rank_intervals(
    ranks: ArrayLike,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    n_candidates: int | None = None,
) -> dict[str, list[float]]:
    """Percentile bootstrap intervals, over clips, of `class_rank_metrics`.

    See mmpt.evaluators.metrics.bootstrap. Draws are not resampled. The same seed gives the same intervals.
    """
    given = np.atleast_2d(ranks)
    count = given.shape[1]
    values = _values(given, n_candidates)
    clips = np.arange(count)
    found: dict[str, list[NDArray]] = {name: [] for name in (*values, "MedianR")}
    for weights in resampling_weights(count, resamples, seed, width=given.size):
        for name, column in values.items():
            found[name].append(weights @ column / count)
        found["MedianR"].append(np.mean([medians(draw, weights, clips) for draw in given], axis=0))
    return percentiles(found, level)


def chance_metrics(n_candidates: int, coverage: float = 1.0, relevant: ArrayLike = 1) -> dict[str, float]:
    """Expected metrics of random scores.

    coverage: share of the queries whose class is among the candidates. relevant: number of relevant
    candidates, for all queries or for each; the rank is that of the first relevant one. MedianR is the median
    of the distribution of ranks.
    """
    counts, queries = np.unique(relevant, return_counts=True)
    ranks = np.arange(1, n_candidates + 2)  # the last: the class is absent
    left = n_candidates + 1 - ranks[:-1, None]  # candidates from each rank on
    later = np.cumprod(np.clip(1 - counts / left, 0, 1), axis=0) @ (queries / queries.sum())
    upto = np.append(coverage * (1 - later), 1)
    share = np.diff(upto, prepend=0)
    expected = {f"R@{k}": float(share[: min(k, n_candidates)].sum()) for k in KS}
    expected["MRR"] = float(share @ (1 / ranks))
    expected["DCG"] = float(share @ (1 / np.log2(1 + ranks)))
    expected["MeanR"] = float(share @ ranks)
    low, high = (ranks[np.argmax(reached)] for reached in (upto >= 0.5 - 1e-9, upto > 0.5 + 1e-9))
    return expected | {"MedianR": float(low + high) / 2}


def _values(ranks: NDArray, n_candidates: int | None) -> dict[str, NDArray[np.float64]]:
    """Each clip's value [N] of the metrics that are means, averaged over draws."""
    last = np.inf if n_candidates is None else n_candidates
    values = {f"R@{k}": (ranks <= min(k, last)).mean(axis=0) for k in KS}
    values["MRR"] = (1 / ranks).mean(axis=0)
    values["DCG"] = (1 / np.log2(1 + ranks)).mean(axis=0)
    return values | {"MeanR": ranks.mean(axis=0)}

"""Metrics of places: where the right class stands in the ranking of each clip.

Places count from 1. Of classes with one score the one with the lower index comes first. A clip whose class is
not among the candidates can never be right: its place is one behind the last.

    R@k       share of clips whose class is among the first k
    MRR       mean of 1 / place
    DCG       mean of 1 / log2(1 + place), the discounted cumulative gain of the one right class
    MedianR   median place (the mean of the middle two if their number is even); MeanR: their mean
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmpt.evaluators.bootstrap import resampling_weights
from mmpt.utils.errors import UserError

KS = (1, 5, 10)
ABSENT = -1
"""The class number of a clip whose class is not among the candidates."""


def places_of(scores: ArrayLike, truth: ArrayLike) -> NDArray[np.int64]:
    """The place of each clip's class, int64 [N].

    scores: [N, C], a class with -inf stands last. truth: class numbers [N], or ABSENT. Raises UserError on
    NaN
    and shapes that do not fit.
    """
    values, own = np.asarray(scores), np.asarray(truth)
    if values.ndim != 2 or own.shape != values.shape[:1] or not np.issubdtype(own.dtype, np.integer):
        raise UserError(f"expected scores [N, C] and class numbers [N], got {values.shape} and {own.shape}.")
    if np.isnan(values).any():
        raise UserError("the scores hold NaN; check the embeddings they come from.")
    if len(own) and (own.min() < ABSENT or own.max() >= values.shape[1]):
        raise UserError(f"class numbers must be from 0 to {values.shape[1] - 1}, or {ABSENT} for none.")
    score = values[np.arange(len(own)), np.maximum(own, 0)][:, None]
    index = np.arange(values.shape[1])
    before = (values > score) | ((values == score) & (index < own[:, None]))
    return np.where(own == ABSENT, values.shape[1] + 1, 1 + np.count_nonzero(before, axis=1))


def place_metrics(
    places: ArrayLike, ks: Sequence[int] = KS, n_candidates: int | None = None
) -> dict[str, float]:
    """The metrics above. places: [N], or [draws, N] for several draws, over which they are averaged.

    n_candidates: how many classes were ranked; a place behind them is no hit, however large k is. Needed
    where clips may be of absent classes.
    """
    given = np.asarray(places)
    values = _values(given.reshape(-1, given.shape[-1]), ks, n_candidates)
    metrics = {name: float(column.mean()) for name, column in values.items()}
    return metrics | {"MedianR": float(np.median(given))}


def place_intervals(
    places: ArrayLike,
    ks: Sequence[int] = KS,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    n_candidates: int | None = None,
) -> dict[str, list[float]]:
    """Percentile bootstrap intervals over clips of what `place_metrics` gives (see
    mmpt.evaluators.bootstrap).

    Draws are not resampled. The same seed gives the same intervals.
    """
    given = np.asarray(places).reshape(-1, np.asarray(places).shape[-1])
    draws, count = given.shape
    values = _values(given, ks, n_candidates)
    order = np.argsort(given.ravel(), kind="stable")
    found: dict[str, list[NDArray]] = {name: [] for name in (*values, "MedianR")}
    for weights in resampling_weights(count, resamples, seed, width=draws * count):
        for name, column in values.items():
            found[name].append(weights @ column / count)
        upto = weights[:, order % count].cumsum(axis=1)
        total = draws * count
        low, high = (
            given.ravel()[order[(upto > middle).argmax(axis=1)]] for middle in ((total - 1) // 2, total // 2)
        )
        found["MedianR"].append((low + high) / 2)
    bounds = [(1 - level) / 2, (1 + level) / 2]
    return {
        name: [float(bound) for bound in np.quantile(np.concatenate(parts), bounds)]
        for name, parts in found.items()
    }


def chance_metrics(
    n_candidates: int, coverage: float = 1.0, ks: Sequence[int] = KS, relevant: ArrayLike = 1
) -> dict[str, float]:
    """What scores drawn at random give on average, where `coverage` of the queries have their class among
    the candidates.

    relevant: how many of the candidates are right, a number or one for each query; the place is that of the
    first of them. MedianR is the median of all the places that can come.
    """
    counts, queries = np.unique(relevant, return_counts=True)
    places = np.arange(1, n_candidates + 2)  # the last one: the class is missing
    left = n_candidates + 1 - places[:-1, None]  # candidates from each place on
    later = np.cumprod(np.clip(1 - counts / left, 0, 1), axis=0) @ (queries / queries.sum())
    upto = np.append(coverage * (1 - later), 1)
    share = np.diff(upto, prepend=0)
    expected = {f"R@{k}": float(share[: min(k, n_candidates)].sum()) for k in ks}
    expected["MRR"] = float(share @ (1 / places))
    expected["DCG"] = float(share @ (1 / np.log2(1 + places)))
    expected["MeanR"] = float(share @ places)
    low, high = (places[np.argmax(reached)] for reached in (upto >= 0.5 - 1e-9, upto > 0.5 + 1e-9))
    return expected | {"MedianR": float(low + high) / 2}


def _values(places: NDArray, ks: Sequence[int], n_candidates: int | None) -> dict[str, NDArray[np.float64]]:
    """Each clip's share in the metrics that are means, [N], averaged over draws."""
    last = np.inf if n_candidates is None else n_candidates
    values = {f"R@{k}": (places <= min(k, last)).mean(axis=0) for k in ks}
    values["MRR"] = (1 / places).mean(axis=0)
    values["DCG"] = (1 / np.log2(1 + places)).mean(axis=0)
    return values | {"MeanR": places.mean(axis=0)}

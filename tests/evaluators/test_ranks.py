"""Metrics of class ranks, against a loop and by hand."""

import math

import numpy as np
import pytest

from mmpt.evaluators.metrics.ranks import (
    ABSENT,
    chance_metrics,
    class_rank_intervals,
    class_rank_metrics,
    class_ranks,
)
from mmpt.utils.errors import UserError


def test_class_ranks_of_an_absent_class() -> None:
    """With few classes, the rank of an absent class may be below k, but is no hit."""
    scores = np.random.default_rng(0).normal(size=(20, 4))
    truth = np.array([ABSENT] * 15 + [0] * 5)
    places = class_ranks(scores, truth)
    metrics = class_rank_metrics(places, n_candidates=4)
    assert metrics["R@5"] == metrics["R@10"] == 0.25
    assert class_rank_metrics(places[:15], n_candidates=4)["R@10"] == chance_metrics(4, 0.0)["R@10"] == 0
    assert max(class_rank_intervals(places[:15], resamples=20, n_candidates=4)["R@10"]) == 0


def test_class_ranks_equal_sorting():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (200, 7)).astype(float)  # many ties
    truth = rng.integers(-1, 7, 200)
    expected = []
    for row, own in zip(scores, truth):
        order = sorted(range(7), key=lambda c: (-row[c], c))
        expected.append(8 if own == -1 else order.index(own) + 1)
    assert class_ranks(scores, truth).tolist() == expected


def test_class_rank_metrics_by_hand():
    metrics = class_rank_metrics(np.array([1, 2, 4, 11]))
    assert metrics["R@1"] == 0.25 and metrics["R@5"] == 0.75 and metrics["R@10"] == 0.75
    assert metrics["MRR"] == pytest.approx((1 + 1 / 2 + 1 / 4 + 1 / 11) / 4)
    assert metrics["DCG"] == pytest.approx(sum(1 / math.log2(1 + p) for p in (1, 2, 4, 11)) / 4)
    assert metrics["MedianR"] == 3 and metrics["MeanR"] == 4.5
    draws = np.array([[1, 2, 4, 11], [1, 1, 1, 1]])
    assert class_rank_metrics(draws)["R@1"] == (0.25 + 1) / 2
    assert class_rank_metrics(draws)["MedianR"] == (3 + 1) / 2


def test_chance_metrics_equal_random_scores():
    rng = np.random.default_rng(1)
    truth = np.where(rng.random(40_000) < 0.8, rng.integers(0, 12, 40_000), -1)
    metrics = class_rank_metrics(class_ranks(rng.random((40_000, 12)), truth))
    coverage = float(np.mean(truth >= 0))
    for name, expected in chance_metrics(12, coverage).items():
        assert metrics[name] == pytest.approx(expected, rel=0.03), name


def test_chance_metrics_with_several_relevant():
    """Ranks of the first relevant candidate in random orders."""
    rng = np.random.default_rng(2)
    relevant = np.array([1, 3, 3, 10])
    orders = rng.random((4, 10_000, 10)).argsort(axis=2)
    first = np.stack([(order < count).argmax(axis=1) + 1 for order, count in zip(orders, relevant)])
    for name, expected in chance_metrics(10, relevant=relevant).items():
        assert class_rank_metrics(first.ravel())[name] == pytest.approx(expected, rel=0.03), name
    assert chance_metrics(26)["MedianR"] == 13.5 and chance_metrics(26, 0.4)["MedianR"] == 27


def test_class_rank_intervals():
    rng = np.random.default_rng(2)
    widths = {}
    for count in (50, 800):
        places = rng.integers(1, 21, count)
        metrics, intervals = class_rank_metrics(places), class_rank_intervals(places, resamples=400)
        assert set(metrics) == set(intervals)
        for name, (low, high) in intervals.items():
            assert low <= metrics[name] <= high, name
        widths[count] = intervals["MRR"][1] - intervals["MRR"][0]
    assert widths[800] < widths[50] / 2
    assert class_rank_intervals(places, resamples=50) == class_rank_intervals(places, resamples=50)
    drawn = np.stack([places, np.full_like(places, 7)])  # the second has the median 7 in each resample
    alone, both = (class_rank_intervals(ranks, resamples=50)["MedianR"] for ranks in (places, drawn))
    assert both == [(low + 7) / 2 for low in alone]
    repeated = np.stack([places, places])  # two equal draws give the metrics of one
    assert class_rank_intervals(repeated, resamples=50) == class_rank_intervals(places, resamples=50)


def test_class_ranks_errors():
    with pytest.raises(UserError, match="NaN"):
        class_ranks([[1.0, math.nan]], [0])
    with pytest.raises(UserError, match="from 0 to 1"):
        class_ranks([[1.0, 2.0]], [2])
    with pytest.raises(UserError, match="class numbers"):
        class_ranks([[1.0, 2.0]], [0, 1])


@pytest.mark.parametrize(("draws", "count"), [(1, 12), (1, 11), (3, 7), (2, 9)])
def test_class_rank_intervals_equal_a_plain_bootstrap(draws: int, count: int) -> None:
    """The same resamples of clips, one at a time; draws are not resampled."""
    places = np.random.default_rng(4).integers(1, 13, (draws, count))
    values = []
    for drawn in np.random.default_rng(7).integers(count, size=(300, count)):
        metrics = class_rank_metrics(places[:, drawn])
        values.append([metrics[name] for name in sorted(metrics)])
    for level in (0.8, 0.95):
        found = class_rank_intervals(places, resamples=300, level=level, seed=7)
        wanted = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0).T
        np.testing.assert_allclose([found[name] for name in sorted(found)], wanted, atol=1e-12)


def test_class_rank_intervals_defaults() -> None:
    places = np.random.default_rng(5).integers(1, 21, 60)
    wanted = class_rank_intervals(places, resamples=1000, level=0.95, seed=0)
    assert class_rank_intervals(places) == wanted
    assert class_rank_intervals(places, seed=1) != wanted

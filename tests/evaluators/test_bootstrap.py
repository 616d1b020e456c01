"""Bootstrap intervals: small cases by hand, seeds, and coverage."""

import numpy as np
import pytest

from mmpt.evaluators.metrics import bootstrap
from mmpt.evaluators.metrics.bootstrap import bootstrap_intervals, interval_of_mean
from mmpt.evaluators.metrics.ranking import Ranks, rank_matrix
from mmpt.evaluators.metrics.retrieval import metrics_from_ranks
from mmpt.utils.errors import UserError


def ranks_of(v2t: list[int]) -> Ranks:
    """Ranks with the given V2T places and one prompt that finds its only video first."""
    ones = np.ones(1, dtype=np.int64)
    return Ranks(np.array(v2t), ones - 1, ones, ones, {1: ones, 5: ones})


def random_ranks(seed: int = 0, prompts: int = 30, videos: int = 200) -> Ranks:
    random = np.random.default_rng(seed)
    return rank_matrix(
        random.standard_normal((prompts, videos)), random.integers(0, prompts, size=videos), (1, 5)
    )


def test_bootstrap_interval_of_every_metric() -> None:
    ranks = random_ranks()
    metrics, intervals = metrics_from_ranks(ranks), bootstrap_intervals(ranks)
    assert intervals.keys() == metrics.keys()
    for direction in metrics:
        assert intervals[direction].keys() == metrics[direction].keys()
        for name, (low, high) in intervals[direction].items():
            assert low <= metrics[direction][name] <= high, (direction, name)
            assert low < high or name == "MedianR", (direction, name)


@pytest.mark.parametrize(("prompts", "videos"), [(30, 200), (7, 61)])
def test_bootstrap_equals_a_plain_one(prompts: int, videos: int) -> None:
    """The same resamples, one at a time, with the metrics by their definitions."""
    ranks = random_ranks(1, prompts, videos)
    assert (len(ranks.queries), len(ranks.v2t)) == (prompts, videos)  # even and odd: two kinds of median
    n = len(ranks.v2t)
    random = np.random.default_rng(5)
    values = []
    for drawn in random.integers(n, size=(300, n)):
        places = ranks.v2t[drawn]
        values.append((np.mean(places <= 5), np.median(places), places.mean()))
    wanted = np.quantile(values, [0.05, 0.95], axis=0).T
    got = bootstrap_intervals(ranks, resamples=300, level=0.9, seed=5)["v2t"]
    np.testing.assert_allclose([got["R@5"], got["MedianR"], got["MeanR"]], wanted, atol=1e-12)
    random = np.random.default_rng(5)
    q = len(ranks.queries)
    values = []
    for drawn in random.integers(q, size=(300, q)):
        found = ranks.hits[5][drawn].sum()
        values.append((found / (5 * q), found / ranks.relevant[drawn].sum(), np.median(ranks.t2v[drawn])))
    wanted = np.quantile(values, [0.05, 0.95], axis=0).T
    got = bootstrap_intervals(ranks, resamples=300, level=0.9, seed=5)["t2v"]
    np.testing.assert_allclose([got["P@5"], got["R@5"], got["MedianR"]], wanted, atol=1e-12)


def test_bootstrap_of_equal_queries() -> None:
    intervals = bootstrap_intervals(ranks_of([2] * 9))
    assert intervals["v2t"] == {"R@1": [0, 0], "R@5": [1, 1], "MedianR": [2, 2], "MeanR": [2, 2]}
    assert intervals["t2v"]["P@1"] == [1, 1]


def test_bootstrap_of_one_clip_and_even_numbers() -> None:
    assert bootstrap_intervals(ranks_of([3]))["v2t"]["MedianR"] == [3, 3]
    low, high = bootstrap_intervals(ranks_of([1, 4]), level=0.6)["v2t"]["MedianR"]
    assert (low, high) == (1, 4)
    assert bootstrap_intervals(ranks_of([1, 4]), level=0.1)["v2t"]["MedianR"] == [2.5, 2.5]


def test_bootstrap_seed_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = random_ranks(2)
    wanted = bootstrap_intervals(ranks, seed=3)
    assert bootstrap_intervals(ranks, seed=3) == wanted
    assert bootstrap_intervals(ranks, seed=4) != wanted
    monkeypatch.setattr(bootstrap, "_WEIGHTS_AT_ONCE", 1000)
    for direction, intervals in bootstrap_intervals(ranks, seed=3).items():
        for name, interval in intervals.items():
            assert interval == pytest.approx(wanted[direction][name], abs=1e-12)


def test_bootstrap_coverage() -> None:
    """Many test sets of one simulated model, 3 clips for each of 26 prompts: 90 % intervals of V2T R@1 and
    T2V P@1 hold the mean over test sets in 80 to 98 % of them. (By clips, those of T2V P@1 do in far
    fewer.)"""
    random = np.random.default_rng(0)
    text = random.standard_normal((26, 8))
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    ids = np.repeat(np.arange(26), 3)
    values, intervals = [], []
    for _ in range(120):
        video = text[ids] + 0.4 * random.standard_normal((78, 8))
        ranks = rank_matrix(text @ (video / np.linalg.norm(video, axis=1, keepdims=True)).T, ids, (1,))
        metrics = metrics_from_ranks(ranks)
        found = bootstrap_intervals(ranks, resamples=200, level=0.9)
        values.append((metrics["v2t"]["R@1"], metrics["t2v"]["P@1"]))
        intervals.append((found["v2t"]["R@1"], found["t2v"]["P@1"]))
    truth = np.mean(values, axis=0)
    low, high = np.moveaxis(np.array(intervals), 2, 0)
    inside = np.mean((low <= truth) & (truth <= high), axis=0)
    assert np.all((inside > 0.8) & (inside < 0.98)), inside


@pytest.mark.parametrize("options", [{"resamples": 0}, {"level": 0.0}, {"level": 1.0}, {"level": 95}])
def test_bootstrap_option_errors(options: dict) -> None:
    with pytest.raises(UserError, match="level between 0 and 1"):
        bootstrap_intervals(ranks_of([1]), **options)


def test_interval_of_a_mean() -> None:
    low, high = interval_of_mean(np.arange(100) < 60)
    assert 0.48 < low < 0.53 and 0.67 < high < 0.72  # the binomial's: 0.6 -+ 1.96 * 0.049
    assert interval_of_mean(np.ones(10)) == (1.0, 1.0)
    one_clip = np.array([[1, 0, 1, 0], [0, 1, 0, 1]])  # right in one of two trainings, whatever the clip
    assert interval_of_mean(one_clip) == (0.5, 0.5)


def test_interval_of_a_mean_of_folds() -> None:
    """Each fold counts alike, however many clips it has, and what differs between folds is not drawn anew."""
    easy, hard, few = np.ones(30), np.zeros(30), np.array([0, 1])
    assert interval_of_mean(easy, hard) == (0.5, 0.5)
    assert interval_of_mean(easy, easy, hard) == pytest.approx((2 / 3, 2 / 3))
    assert interval_of_mean(easy, few) == (0.5, 1.0), "half of the mean hangs on two clips"
    many = np.arange(400) % 2
    low, high = interval_of_mean(many, np.stack([many, 1 - many]))
    assert 0.5 - low == pytest.approx(1.96 * 0.025 / 2, abs=0.004) and high - 0.5 == pytest.approx(
        0.5 - low, abs=0.004
    )


def test_bootstrap_defaults_and_a_single_resample() -> None:
    """Published intervals are those of the defaults."""
    ranks = random_ranks(3)
    assert bootstrap_intervals(ranks) == bootstrap_intervals(ranks, resamples=1000, level=0.95, seed=0)
    low, high = bootstrap_intervals(ranks, resamples=1)["v2t"]["MeanR"]
    assert low == high
    values = np.random.default_rng(0).standard_normal(40)
    assert interval_of_mean(values) == interval_of_mean(values, resamples=2000, seed=0)
    assert interval_of_mean(values) != interval_of_mean(values, seed=1)


def test_interval_of_a_mean_of_half_precision() -> None:
    """Averaged in float64: the mean of the two runs is no half-precision number."""
    runs = np.array([[1, 1], [1 + 2**-10, 1 + 2**-10]], dtype=np.float16)
    assert interval_of_mean(runs) == (1 + 2**-11, 1 + 2**-11)

"""Retrieval of sentences against CLIP4Clip's and CiCo's formulas, brute force, and other orders."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.evaluators.metrics import sentences
from mmpt.evaluators.metrics.ranks import chance_metrics, class_rank_metrics
from mmpt.evaluators.metrics.sentences import rank_pair_matrix, rank_pairs, sentence_metrics
from mmpt.evaluators.metrics.similarity import rank_embeddings, similarity
from mmpt.evaluators.metrics.tied_ranks import (
    TiedRanks,
    join_tied_ranks,
    rank_scores,
    tied_rank_chance,
    tied_rank_intervals,
    tied_rank_metrics,
)
from mmpt.utils.errors import UserError


def from_ranks(ranks, lower_median=False) -> dict[str, float]:
    """The five numbers that both codes print, as fractions."""
    ordered = np.sort(np.asarray(ranks, dtype=float))
    median = ordered[(len(ordered) - 1) // 2] if lower_median else np.median(ordered)
    found = {f"R@{k}": float(np.mean(ordered <= k)) for k in (1, 5, 10)}
    return found | {"MedianR": float(median), "MeanR": float(ordered.mean())}


def clip4clip(square: np.ndarray) -> dict[str, float]:
    """CLIP4Clip's compute_metrics restated: a row's ranks are all ranks of the diagonal's value."""
    ranks: list[int] = []
    for row, own in zip(square, np.diag(square)):
        ranks += [place for place, value in enumerate(sorted(row, reverse=True), start=1) if value == own]
    return from_ranks(ranks)


def cico(matrix: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, float]]:
    """CiCo's evaluation restated: [texts, clips]; the clips of a text are padded to one length by -inf."""
    groups = [np.flatnonzero(labels == text) for text in range(len(matrix))]
    best = np.array([[row[group].max() for group in groups] for row in matrix])
    ranks = [1 + int(np.sum(matrix[:, clip] > matrix[text, clip])) for clip, text in enumerate(labels)]
    return {"t2v": clip4clip(best), "v2t": from_ranks(ranks, lower_median=True)}


def agree(found: dict[str, float], expected: dict[str, float], skip: str = "") -> None:
    for name, value in expected.items():
        if name != skip:
            assert abs(found[name] - value) <= 1e-9, name


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_square_matrix_gives_the_numbers_of_clip4clip(n, seed):
    matrix = np.random.default_rng(seed).normal(size=(n, n))
    found = sentence_metrics(matrix)
    for one in (found["strict"], found["grouped"]):
        agree(one["t2v"], clip4clip(matrix))
        agree(one["v2t"], clip4clip(matrix.T))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_groups_of_equal_texts_give_the_numbers_of_cico(n_texts, more, seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.concatenate([np.arange(n_texts), rng.integers(0, n_texts, more)]))
    matrix = rng.normal(size=(n_texts, len(labels)))
    found, expected = sentence_metrics(matrix, labels)["grouped"], cico(matrix, labels)
    agree(found["t2v"], expected["t2v"])
    agree(found["v2t"], expected["v2t"], skip="MedianR")
    middle = rank_pair_matrix(matrix, labels).grouped["v2t"].middle
    assert (
        np.sort(middle)[(len(middle) - 1) // 2] == expected["v2t"]["MedianR"]
    )  # the lower of the middle two
    torch_ranks = torch.tensor(middle)
    assert float(torch_ranks.median()) == expected["v2t"]["MedianR"]


def brute_force(square: np.ndarray) -> dict[str, float]:
    """Each query's value is the mean over its tied ranks."""
    values: dict[str, list[float]] = {}
    middles = []
    for row, own in zip(square, np.diag(square)):
        ranks = [p for p, value in enumerate(sorted(row, reverse=True), start=1) if value == own]
        middles.append(np.mean(ranks))
        for k in (1, 5, 10):
            values.setdefault(f"R@{k}", []).append(np.mean([p <= k for p in ranks]))
        values.setdefault("MRR", []).append(np.mean([1 / p for p in ranks]))
        values.setdefault("DCG", []).append(np.mean([1 / np.log2(1 + p) for p in ranks]))
    found = {name: float(np.mean(of)) for name, of in values.items()}
    return found | {"MedianR": float(np.median(middles)), "MeanR": float(np.mean(middles))}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(0, 14), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_ties_and_duplicates_by_brute_force_in_any_order(n_texts, more, levels, seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.concatenate([np.arange(n_texts), rng.integers(0, n_texts, more)]))
    matrix = rng.integers(0, levels, (n_texts, len(labels))).astype(float)
    square = matrix[labels]
    found = sentence_metrics(matrix, labels)["strict"]
    agree(found["t2v"], brute_force(square))
    agree(found["v2t"], brute_force(square.T))
    order = rng.permutation(len(labels))
    again = sentence_metrics(matrix[:, order], labels[order])["strict"]
    for side in ("t2v", "v2t"):
        agree(again[side], found[side])


def test_tied_ranks_of_clip4clip_make_queries_with_duplicates_weigh_more():
    labels, matrix = np.array([0, 0, 1]), np.array([[2.0, 3.0, 0.0], [1.0, 1.0, -1.0]])
    square = matrix[labels]
    found = sentence_metrics(matrix, labels)["strict"]["v2t"]
    # clips 0 and 1: own text at ranks 1 and 2; clip 2: rank 3
    assert found["R@1"] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert clip4clip(square.T)["R@1"] == pytest.approx(2 / 5)  # five ranks counted for three clips


@pytest.mark.parametrize("kind", ["cosine", "dot"])
@pytest.mark.parametrize("duplicates", [False, True])
def test_blocks_equal_the_whole_matrix(monkeypatch, kind, duplicates):
    rng = np.random.default_rng(3)
    labels = rng.permutation(np.concatenate([np.arange(241), rng.integers(0, 241, 90 if duplicates else 0)]))
    text, video = rng.normal(size=(241, 5)), rng.normal(size=(len(labels), 5))
    video[::5] = text[labels[::5]]
    expected = rank_pair_matrix(similarity(text, video, kind), labels)  # in one block of columns
    # below the largest group of clips of one text, which is not split
    monkeypatch.setattr(sentences, "TILE_COLUMNS", 2 if duplicates else 7)
    found = rank_pairs(text, video, labels, kind)
    for name in ("strict", "grouped"):
        for side in ("t2v", "v2t"):
            one, other = getattr(found, name)[side], getattr(expected, name)[side]
            np.testing.assert_array_equal(one.first, other.first)
            np.testing.assert_array_equal(one.tied, other.tied)
    if not duplicates:  # a second implementation, for matrices without ties
        ranks = rank_embeddings(text, video, labels, kind)
        if kind == "cosine":  # the default
            found = rank_pairs(text, video, labels)
        np.testing.assert_array_equal(found.strict["v2t"].first, ranks.v2t)
        np.testing.assert_array_equal(found.grouped["t2v"].first, ranks.t2v)


def test_memory_does_not_hold_the_matrix():
    n = 6000
    rng = np.random.default_rng(0)
    text = rng.normal(size=(n, 2)).astype(np.float32)
    tracemalloc.start()
    rank_pairs(text, text, np.arange(n))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.4 * n * n * 4


def test_tied_ranks_without_ties_are_class_ranks_and_chance_is_that_of_ranks():
    ranks = np.array([1, 4, 11, 2, 7])
    untied = TiedRanks(ranks, np.ones_like(ranks))
    assert tied_rank_metrics(untied) == pytest.approx(class_rank_metrics(ranks), abs=1e-12)
    for n in (1, 2, 9, 10, 331):
        assert tied_rank_chance(n) == pytest.approx(chance_metrics(n), abs=1e-9)
    mixed = tied_rank_chance([1, 1, 3])
    assert mixed["R@1"] == pytest.approx((1 + 1 + 1 / 3) / 3) and mixed["MeanR"] == pytest.approx(4 / 3)
    assert mixed["MedianR"] == 1  # ranks 1, 1 and one of 1 to 3


def test_chance_is_what_random_scores_give_with_duplicates_too():
    rng = np.random.default_rng(1)
    labels = np.array([0, 0, 0, 1, 2, 2, 3, 4])
    made = [rank_pair_matrix(rng.normal(size=(5, 8)), labels) for _ in range(1500)]
    for of, sizes in (("strict", {"t2v": 8, "v2t": 8}), ("grouped", {"t2v": 5, "v2t": 5})):
        for side, n in sizes.items():
            found = tied_rank_metrics(join_tied_ranks([getattr(one, of)[side] for one in made]))
            for metric in ("R@1", "R@5", "MRR", "MeanR"):
                assert found[metric] == pytest.approx(tied_rank_chance(n)[metric], rel=0.04), (
                    of,
                    side,
                    metric,
                )


def test_intervals_draw_whole_clusters():
    rng = np.random.default_rng(0)
    first = rng.integers(1, 30, 120)
    ranks = TiedRanks(first, np.ones_like(first))
    alone = tied_rank_intervals(ranks, np.arange(120), resamples=400)
    twice = TiedRanks(np.tile(first, 2), np.ones(240, dtype=int))
    copies = tied_rank_intervals(twice, np.tile(np.arange(120), 2), resamples=400)
    for name, bounds in alone.items():  # a copy of each query, in the same cluster, adds no information
        assert copies[name] == pytest.approx(bounds, abs=1e-12), name
    metrics = tied_rank_metrics(ranks)
    assert all(low <= metrics[name] <= high for name, (low, high) in alone.items())
    # of two queries, at ranks 1 and 3, a quarter of the draws has a mean of 1, half 2, and a quarter 3
    two = TiedRanks(np.array([1, 3]), np.ones(2, dtype=int))
    for level, bounds in ((0.4, [2, 2]), (0.6, [1, 3])):
        found = tied_rank_intervals(two, [0, 1], level=level)
        assert found["MeanR"] == found["MedianR"] == bounds
    assert alone != tied_rank_intervals(ranks, np.arange(120))
    default = tied_rank_intervals(ranks, np.arange(120), resamples=1000, level=0.95, seed=0)
    assert tied_rank_intervals(ranks, np.arange(120)) == default
    assert tied_rank_intervals(ranks, np.zeros(120, dtype=int))["MRR"] == pytest.approx([metrics["MRR"]] * 2)


@pytest.mark.parametrize(
    "matrix, labels, message",
    [
        (np.full((2, 2), np.nan), None, "NaN"),
        (np.zeros((0, 0)), None, "nothing to rank"),
        (np.zeros((3, 2)), [0, 1], "text 2 has no clip"),
        (np.zeros((2, 3)), [0, 1], "one integer prompt id"),
        (np.zeros((2, 3)), [0, 1, 2], "must be rows"),
        (np.zeros(3), None, "2-D|similarity matrix"),
    ],
)
def test_bad_matrices_are_one_line(matrix, labels, message):
    with pytest.raises(UserError, match=message) as error:
        sentence_metrics(matrix, labels)
    assert "\n" not in str(error.value)


def test_rank_scores():
    ranks = rank_scores([[3.0, 1.0, 3.0], [0.0, 2.0, 1.0]], [2, 0])
    assert ranks.first.tolist() == [1, 3] and ranks.tied.tolist() == [2, 1]
    for scores, right in ([[np.nan, 1]], [0]), ([[1.0, 2.0]], [2]), ([1.0], [0]):
        with pytest.raises(UserError):
            rank_scores(scores, right)

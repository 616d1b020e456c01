"""Retrieval metrics against the reference, brute force and cases by hand."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mmpt.evaluators import rank_metrics, retrieval_metrics
from mmpt.evaluators.metrics import ranking as ranking_module
from mmpt.evaluators.metrics.ranking import Ranks, _true_per_row, join_ranks, rank_matrix
from mmpt.evaluators.metrics.retrieval import METRICS
from mmpt.utils.errors import UserError

CASES = ("case1", "case2", "case3_ties")


def load(folder: Path, case: str) -> tuple[np.ndarray, list[str], dict[str, dict[str, float]]]:
    similarity = np.load(folder / f"{case}.npz")["S"]
    texts = json.loads((folder / f"{case}_texts.json").read_text(encoding="utf-8"))
    expected = json.loads((folder / f"{case}_expected.json").read_text(encoding="utf-8"))
    renamed = {
        direction: {k if k[0] == "M" else f"{k[0]}@{k[1:]}": v for k, v in values.items()}
        for direction, values in expected.items()
    }
    return similarity, texts, renamed


def ranked(scores: Sequence[float]) -> list[int]:
    """Candidates best first, the lower index first among equals."""
    return sorted(range(len(scores)), key=lambda i: (-scores[i], i))


def from_places(places: list[int], ks: Sequence[int]) -> dict[str, float]:
    found = {f"R@{k}": sum(place <= k for place in places) / len(places) for k in ks}
    return found | {"MedianR": float(np.median(places)), "MeanR": sum(places) / len(places)}


def brute_force(
    similarity: np.ndarray, texts: list[str], merge: str, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, dict[str, float]]:
    """The definitions, one loop after another. merge: how V2T drops repeated texts from the ranked list of
    all
    rows: "adjacent", the reference's rule, or "all", ours."""
    first: dict[str, int] = {}
    for i, text in enumerate(texts):
        first.setdefault(text, i)
    places, right = [], dict.fromkeys(ks, 0)
    for text, row in first.items():
        order = ranked(similarity[row])
        hits = [texts[j] == text for j in order]
        places.append(hits.index(True) + 1)
        for k in ks:
            right[k] += sum(hits[:k])
    t2v = {f"P@{k}": right[k] / (k * len(first)) for k in ks} | {f"R@{k}": right[k] / len(texts) for k in ks}
    t2v |= {k: v for k, v in from_places(places, ks).items() if k[0] == "M"}
    places = []
    for j, text in enumerate(texts):
        listed = [texts[i] for i in ranked(similarity[:, j])]
        if merge == "adjacent":
            listed = [t for i, t in enumerate(listed) if i == 0 or listed[i - 1] != t]
        else:
            listed = list(dict.fromkeys(listed))
        places.append(listed.index(text) + 1)
    return {"t2v": t2v, "v2t": from_places(places, ks)}


def assert_equal(got: dict[str, dict[str, float]], wanted: dict[str, dict[str, float]]) -> None:
    assert got.keys() == wanted.keys()
    for direction in wanted:
        assert got[direction] == pytest.approx(wanted[direction], abs=1e-12), direction


@pytest.mark.parametrize("case", CASES)
def test_t2v_is_the_reference(data_dir: Path, case: str) -> None:
    similarity, texts, expected = load(data_dir / "metrics", case)
    assert retrieval_metrics(similarity, texts)["t2v"] == pytest.approx(expected["t2v"], abs=1e-12)


def test_v2t_is_the_reference_where_it_counts_no_text_twice(data_dir: Path) -> None:
    similarity, texts, expected = load(data_dir / "metrics", "case2")
    assert_equal(retrieval_metrics(similarity, texts), expected)


@pytest.mark.parametrize("case", CASES)
def test_v2t_and_the_reference_differ_by_its_double_counting_alone(data_dir: Path, case: str) -> None:
    """The reference's numbers come out of the adjacent-merge rule, ours out of merging every repeat. Whatever
    double counting cannot change is the same: who stands first."""
    similarity, texts, expected = load(data_dir / "metrics", case)
    ours = retrieval_metrics(similarity, texts)
    assert_equal(brute_force(similarity, texts, "adjacent"), expected)
    assert_equal(ours, brute_force(similarity, texts, "all"))
    assert ours["v2t"]["R@1"] == pytest.approx(expected["v2t"]["R@1"], abs=1e-12)
    if case != "case2":
        assert ours["v2t"]["R@5"] > expected["v2t"]["R@5"]
        assert ours["v2t"]["MeanR"] < expected["v2t"]["MeanR"]


@pytest.mark.parametrize("case", CASES)
def test_fixtures_are_those_of_the_shared_reference(
    shared_reference: Path, data_dir: Path, case: str
) -> None:
    for wanted, here in zip(load(shared_reference / "metrics", case), load(data_dir / "metrics", case)):
        np.testing.assert_equal(here, wanted)


# Three prompts; videos 0 and 1 are of prompt 0, video 2 of prompt 1, video 3 of prompt 2. Worked out by hand:
HAND = np.array(
    [
        [0.1, 0.3, 0.9, 0.2],  # T2V of prompt 0: videos 2, 1, 3, 0: first right one at place 2
        [0.5, 0.4, 0.8, 0.1],  # of prompt 1: video 2 first: place 1
        [0.6, 0.2, 0.7, 0.5],  # of prompt 2: videos 2, 0, 3, 1: place 3
    ]
)
# V2T: video 0 ranks prompts 2, 1, 0: place 3; video 1: 1, 0, 2: place 2; video 2: 0, 1, 2: place 2; video 3:
# 1
HAND_METRICS = {
    "t2v": {
        "P@1": 1 / 3,
        "P@2": 2 / 6,
        "P@3": 3 / 9,
        "R@1": 1 / 4,
        "R@2": 2 / 4,
        "R@3": 3 / 4,
        "MedianR": 2.0,
        "MeanR": 2.0,
    },
    "v2t": {"R@1": 1 / 4, "R@2": 3 / 4, "R@3": 1.0, "MedianR": 2.0, "MeanR": 2.0},
}


def test_by_hand() -> None:
    assert_equal(rank_metrics(HAND, [0, 0, 1, 2], ks=(1, 2, 3)), HAND_METRICS)


def test_by_hand_with_repeated_rows() -> None:
    square = HAND[[0, 0, 1, 2]]
    assert_equal(retrieval_metrics(square, ["a", "a", "b", "c"], ks=(1, 2, 3)), HAND_METRICS)


def test_a_place_off_by_one_would_show() -> None:
    """The right candidate at place k counts for k and not for k - 1, in both directions."""
    n = 12
    for place in range(1, n + 1):
        similarity = np.zeros((n, n))
        for i in range(n):
            similarity[i, (i + np.arange(place - 1) + 1) % n] = (
                2.0  # place - 1 better ones in each row and column
            )
            similarity[i, i] = 1.0
        metrics = retrieval_metrics(similarity, [str(i) for i in range(n)])
        for direction in ("t2v", "v2t"):
            assert metrics[direction]["MedianR"] == metrics[direction]["MeanR"] == place
            for k in (1, 5, 10):
                assert metrics[direction][f"R@{k}"] == float(place <= k)
        for k in (1, 5, 10):
            assert metrics["t2v"][f"P@{k}"] == float(place <= k) / k


def test_ties_go_to_the_lower_index() -> None:
    metrics = rank_metrics(np.zeros((3, 4)), [0, 1, 2, 2])
    assert metrics["v2t"]["MeanR"] == (1 + 2 + 3 + 3) / 4
    assert metrics["t2v"]["MeanR"] == (1 + 2 + 3) / 3
    assert metrics["t2v"]["P@1"] == 1 / 3


def test_zeros_of_either_sign_are_equal() -> None:
    similarity = np.array([[0.0, -0.0], [-0.0, 0.0]], dtype=np.float32)
    assert rank_metrics(similarity, [0, 1])["v2t"] == rank_metrics(np.abs(similarity), [0, 1])["v2t"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32])
def test_any_texts_any_ties_against_brute_force(monkeypatch: pytest.MonkeyPatch, dtype: type) -> None:
    """Random examples over every tile size: few and many ties, equal and unequal rows of one text."""
    random = np.random.default_rng(0)
    for trial in range(120):
        n = int(random.integers(1, 25))
        texts = [str(t) for t in random.integers(0, random.integers(1, n + 1), size=n)]
        levels = int(random.choice([1, 2, 4, 1000]))
        similarity = random.integers(-levels, levels + 1, size=(n, n)).astype(dtype)
        if trial % 2:
            similarity = similarity[[texts.index(text) for text in texts]]
        monkeypatch.setattr(ranking_module, "MATRIX_TILE", int(random.integers(1, 60)))
        monkeypatch.setattr(ranking_module, "THREADS_FROM", int(random.choice([0, 1 << 20])))
        ks = sorted({1, int(random.integers(1, 30)), 5})
        assert_equal(retrieval_metrics(similarity, texts, ks), brute_force(similarity, texts, "all", ks))


def test_rows_of_one_text_that_tie_with_others_go_by_the_row_that_is_best() -> None:
    """Text a is best through its last row, which stands below the equally good row of b."""
    similarity = np.array([[0, 0, 0], [1, 0, 0], [1, 0, 0]], dtype=np.float32)
    metrics = retrieval_metrics(similarity, ["a", "b", "a"])
    assert_equal(metrics, brute_force(similarity, ["a", "b", "a"], "all"))
    assert metrics["v2t"]["MeanR"] == (2 + 2 + 1) / 3


def test_order_of_examples_does_not_matter_without_ties() -> None:
    random = np.random.default_rng(1)
    texts = [str(t) for t in random.integers(0, 12, size=60)]
    rows = random.standard_normal((12, 60))
    similarity = rows[[int(t) for t in texts]]
    wanted = retrieval_metrics(similarity, texts)
    for _ in range(5):
        order = random.permutation(60)
        assert_equal(retrieval_metrics(similarity[np.ix_(order, order)], [texts[i] for i in order]), wanted)


def test_any_growing_function_of_the_scores_gives_the_same() -> None:
    random = np.random.default_rng(2)
    similarity, ids = random.standard_normal((7, 40)), random.integers(0, 7, size=40)
    wanted = rank_metrics(similarity, ids)
    assert_equal(rank_metrics(np.exp(similarity) * 100 - 3, ids), wanted)
    assert rank_metrics(-similarity, ids) != wanted


def test_prompts_without_videos_are_candidates_and_not_queries() -> None:
    extra = np.vstack([HAND, np.full((1, 4), 10.0)])
    metrics = rank_metrics(extra, [0, 0, 1, 2], ks=(1, 2, 3))
    assert metrics["t2v"] == HAND_METRICS["t2v"]
    assert metrics["v2t"]["MeanR"] == HAND_METRICS["v2t"]["MeanR"] + 1


def test_k_beyond_the_candidates() -> None:
    metrics = rank_metrics(np.array([[0.5, 0.7], [0.9, 0.1]]), [0, 1], ks=(5,))
    assert metrics["v2t"]["R@5"] == 1 and metrics["t2v"]["R@5"] == 1
    assert metrics["t2v"]["P@5"] == 1 / 5  # still five places, of which one is right


def test_more_prompts_than_one_tile_can_count() -> None:
    """Column counts of a tile are bytes: 255 prompts before the own one are counted, and 256 in two tiles."""
    scores = np.arange(600.0)[:, None] * [1, -1]
    ids = np.array([0, 599])
    assert rank_matrix(scores, ids, (1,)).v2t.tolist() == [600, 600]
    assert rank_matrix(scores[:256], ids % 256, (1,)).v2t.tolist() == [256, 88]


@pytest.mark.parametrize("words", [1, 128, 255, 256, 510, 700])
def test_flags_of_a_row_are_counted(words: int) -> None:
    """All set, where a byte that sums too many words overflows, and at random."""
    for rows in (1, 9):
        flags = np.random.default_rng(words).random((rows, 8 * words)) < 0.5
        flags[0] = True
        assert _true_per_row(flags).tolist() == [sum(row) for row in flags.tolist()]


def test_rankings_are_joined() -> None:
    """Of clips 0 and 2, and of clips 1 and 3; the queries of the second follow those of the first."""
    first = Ranks(*(np.array(v) for v in ([1, 2], [0, 1], [3, 1], [1, 1])), {1: np.array([0, 1])})
    second = Ranks(*(np.array(v) for v in ([7, 8], [4], [5], [2])), {1: np.array([6])})
    joined = join_ranks([first, second, first], [np.array(rows) for rows in ([0, 2], [3, 1], [4, 5])])
    assert joined.v2t.tolist() == [1, 8, 2, 7, 1, 2] and joined.v2t.dtype == np.int64
    assert joined.queries.tolist() == [0, 1, 2, 3, 4]
    assert joined.t2v.tolist() == [3, 1, 5, 3, 1]
    assert joined.relevant.tolist() == [1, 1, 2, 1, 1]
    assert {k: hits.tolist() for k, hits in joined.hits.items()} == {1: [0, 1, 6, 0, 1]}


def test_hits_beyond_the_depth_that_is_counted() -> None:
    """A prompt with more right videos than the largest k: only those that can be among the first k are
    counted.
    """
    random = np.random.default_rng(3)
    similarity, ids = random.standard_normal((2, 50)), random.integers(0, 2, size=50)
    ranks = rank_matrix(similarity, ids, (1, 3))
    for query in (0, 1):
        order = ranked(similarity[query])
        assert ranks.hits[3][query] == sum(ids[j] == query for j in order[:3])
        assert ranks.relevant[query] == np.count_nonzero(ids == query)


@pytest.mark.parametrize(
    ("similarity", "ids", "message"),
    [
        (np.zeros((2, 2)), [0], "one integer prompt id for each of the 2 videos"),
        (np.zeros((2, 2)), [0, 2], "rows of the similarity matrix"),
        (np.zeros((2, 2)), [0, -1], "rows of the similarity matrix"),
        (np.zeros((2, 2)), [0.0, 1.0], "integer"),
        (np.zeros((0, 0)), [], "nothing to rank"),
        (np.zeros(3), [0, 1, 2], "similarity matrix"),
        (np.array([["a"]]), [0], "similarity matrix"),
        (np.array([[0.0, np.nan], [0.0, 1.0]]), [0, 1], "NaN"),
        (np.array([[0.0, -np.inf], [0.0, 1.0]]), [0, 1], "NaN"),
    ],
)
def test_input_that_cannot_be_ranked(similarity: np.ndarray, ids: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rank_metrics(similarity, ids)


def test_input_that_is_not_square_or_broken() -> None:
    with pytest.raises(UserError, match="square"):
        retrieval_metrics(np.zeros((2, 3)), ["a", "b"])
    broken = np.array([[0.0, 1.0], [np.nan, 1.0]])
    with pytest.raises(UserError, match="NaN"):
        retrieval_metrics(broken, ["a", "a"])
    with pytest.raises(UserError, match="cut-offs"):
        retrieval_metrics(np.zeros((1, 1)), ["a"], ks=(0,))


def test_sums_that_overflow_are_not_taken_for_broken_scores() -> None:
    similarity = np.array([[3e38, 2e38], [2e38, 3e38]], dtype=np.float32)
    assert rank_metrics(similarity, [0, 1])["v2t"]["R@1"] == 1


def test_metrics_are_found_by_the_names_in_yaml() -> None:
    names = ("RetrievalMetric", "RWTHFSMetric", "RWTHFST2VMetric", "RWTHFSV2TMetric")
    assert all(METRICS.get(name) is retrieval_metrics for name in names)


@pytest.mark.parametrize("n_texts", [35, 5000])
def test_five_thousand_examples_take_less_than_two_seconds(n_texts: int) -> None:
    n = 5000
    random = np.random.default_rng(0)
    rows = random.standard_normal((n_texts, n), dtype=np.float32)
    texts = [str(i % n_texts) for i in range(n)]
    similarity = rows[np.arange(n) % n_texts]
    start = time.process_time()  # not of the clock: other tests may be running
    metrics = retrieval_metrics(similarity, texts)
    assert time.process_time() - start < 2
    assert metrics["v2t"]["MedianR"] == pytest.approx(n_texts / 2, rel=0.1)


def test_similarities_of_integers_are_compared_exactly() -> None:
    """2^24 and 2^24 + 1 are one number in float32."""
    matrix = np.array([[2**24, 0], [2**24 + 1, 1]], dtype=np.int64)
    assert rank_metrics(matrix, [1, 1], ks=(1,))["v2t"] == {"R@1": 1, "MedianR": 1, "MeanR": 1}

"""Recognition classifiers, against scikit-learn, and on shuffled labels."""

import tracemalloc

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from mmpt.evaluators.metrics.ranks import (
    chance_metrics,
    class_rank_intervals,
    class_rank_metrics,
    class_ranks,
)
from mmpt.evaluators.recognition import classifiers, protocols
from mmpt.evaluators.recognition import neighbours as knn
from mmpt.evaluators.recognition.classifiers import (
    PROBE_CS,
    Support,
    choose_c,
    judge,
    linear_probe,
    prototypes,
    unit,
)
from mmpt.evaluators.recognition.neighbours import nearest_neighbours, neighbours, votes
from mmpt.evaluators.recognition.outcome import Options, Split
from mmpt.evaluators.recognition.protocols import run_protocol
from mmpt.utils.arrays import on_grid
from mmpt.utils.errors import UserError

CLASSES, WIDTH = 12, 16


@pytest.fixture(scope="module")
def data():
    """Clusters that overlap: (train, labels, valid, labels, test, labels)."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, WIDTH))
    made = []
    for count in (150, 60, 300):
        labels = rng.integers(0, CLASSES, count)
        made += [(centres[labels] + rng.normal(scale=1.3, size=(count, WIDTH))).astype(np.float32), labels]
    return made


@pytest.mark.parametrize("k", [1, 5, 10])
def test_neighbours_vote_as_in_scikit_learn(data, k):
    train, labels, _, _, test, truth = data
    scores = nearest_neighbours(test, train, labels, CLASSES, k)
    theirs = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(train, labels)
    np.testing.assert_array_equal(votes(scores), np.round(theirs.predict_proba(test) * k))
    np.testing.assert_array_equal(scores.argmax(1), theirs.predict(test))
    tied = np.sort(votes(scores), axis=1)[:, -1] == np.sort(votes(scores), axis=1)[:, -2]
    assert tied.any() == (k > 1), "classes with as many votes are among them"
    assert np.mean(scores.argmax(1) == truth) > 0.4


def test_the_linear_probe_is_scikit_learns(data):
    train, labels, valid, valid_labels, test, _ = data
    c, accuracy = choose_c(train, labels, valid, valid_labels, CLASSES)
    by_hand = {
        c: LogisticRegression(C=c, max_iter=5000, tol=1e-6)
        .fit(normalize(train), labels)
        .score(normalize(valid), valid_labels)
        for c in PROBE_CS
    }
    assert accuracy == pytest.approx(by_hand) and c == max(by_hand, key=lambda c: (by_hand[c], -c))
    theirs = LogisticRegression(C=c, max_iter=5000, tol=1e-6).fit(normalize(train), labels)
    scores = linear_probe(test, train, labels, CLASSES, c)
    np.testing.assert_array_equal(scores.argmax(1), theirs.predict(normalize(test)))
    np.testing.assert_allclose(np.exp(scores), theirs.predict_proba(normalize(test)), atol=1e-3)


def test_prototypes_of_all_clips_are_centroids(data):
    train, labels, _, _, test, _ = data
    scores = prototypes(test, train, labels, CLASSES)
    centroids = NearestCentroid().fit(unit(train), labels).centroids_
    np.testing.assert_allclose(scores, unit(test) @ unit(centroids).T, atol=1e-12)


def test_prototypes_of_few_shots(data):
    train, labels, _, _, test, truth = data
    few = [prototypes(test, train, labels, CLASSES, 1, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(few[0], few[1])
    assert (few[0] != few[2]).any()
    whole = prototypes(test, train, labels, CLASSES, 10_000, np.random.default_rng(0))
    np.testing.assert_array_equal(whole, prototypes(test, train, labels, CLASSES))
    right = [np.mean(scores.argmax(1) == truth) for scores in (few[0], whole)]
    assert right[0] < right[1]


def scores_of(name, data):
    train, labels, valid, valid_labels, test, _ = data
    if name == "probe":
        return linear_probe(
            test, train, labels, CLASSES, choose_c(train, labels, valid, valid_labels, CLASSES)[0]
        )
    if name == "prototypes":
        return prototypes(test, train, labels, CLASSES, 5, np.random.default_rng(0))
    return nearest_neighbours(test, train, labels, CLASSES, int(name))


def test_classes_without_a_vote_are_ranked_by_their_nearest_clip(data):
    train, labels, _, _, test, _ = data
    nearest = nearest_neighbours(test, train, labels, CLASSES, 1)
    similar = unit(test) @ unit(train).T
    by_hand = np.stack([similar[:, labels == c].max(axis=1) for c in range(CLASSES)], axis=1)
    np.testing.assert_array_equal(np.argsort(-nearest, axis=1), np.argsort(-by_hand, axis=1))


def test_one_clip_of_each_class_is_no_cause_for_warnings(data, recwarn):
    train, labels, _, _, test, _ = data
    first = np.unique(labels, return_index=True)[1]
    linear_probe(test, train[first], labels[first], CLASSES, 1.0)
    assert not recwarn.list


@pytest.mark.parametrize("name", ["1", "5", "prototypes", "probe"])
def test_shuffled_labels_give_chance(data, name):
    rng = np.random.default_rng(3)
    shuffled = [rng.permutation(item) if item.ndim == 1 else item for item in data]
    places = class_ranks(scores_of(name, shuffled), shuffled[5])
    low, high = class_rank_intervals(places, level=0.998)["R@1"]
    assert low <= chance_metrics(CLASSES)["R@1"] <= high
    true = class_rank_metrics(class_ranks(scores_of(name, data), data[5]))["R@1"]
    assert true > high, "and the true labels do not"


@pytest.mark.parametrize("name", ["1", "5", "prototypes", "probe"])
def test_classes_that_the_support_lacks_come_last(data, name):
    train, labels, *rest = data
    lacking = [train[labels != 3], labels[labels != 3], *rest]
    scores = scores_of(name, lacking)
    assert np.isneginf(scores[:, 3]).all() and np.isfinite(np.delete(scores, 3, axis=1)).all()


def test_what_does_not_fit(data):
    train, labels, _, _, test, _ = data
    with pytest.raises(UserError, match=r"k=151; the support has 150"):
        nearest_neighbours(test, train, labels, CLASSES, 151)
    with pytest.raises(UserError, match="from 0 to 2"):
        prototypes(test, train, labels, 3)
    with pytest.raises(UserError, match="finite"):
        prototypes(test * np.nan, train, labels, CLASSES)
    with pytest.raises(UserError, match="at least two classes"):
        linear_probe(test, train[labels == 0], labels[labels == 0], CLASSES, 1.0)


def test_ties_do_not_hang_on_the_clips_that_are_judged_together():
    """The same clips stand in the support under three classes: the first clip counts, or the first class."""
    rng = np.random.default_rng(0)
    clips = rng.normal(size=(40, 33))
    support = np.concatenate([clips * scale for scale in (0.7, 3.1, 1.0)])
    labels = np.repeat([2, 0, 1], len(clips))
    queries = rng.normal(size=(61, 33))
    for scores, first in ((nearest_neighbours, 2), (prototypes, 0)):
        whole = scores(queries, support, labels, 3)
        alone = np.concatenate([scores(query[None], support, labels, 3) for query in queries])
        np.testing.assert_array_equal(whole, alone)
        assert (whole.argmax(axis=1) == first).all()


def test_few_shot_draws_differ_from_each_other(data, monkeypatch):
    """Ten equal draws would give the mean of one, and no spread."""
    train, labels, _, _, test, truth = data
    drawn = []
    original = protocols.judge

    def keep(scorers, *given):
        drawn.extend(scorer(unit(test), None).tobytes() for scorer in scorers)
        return original(scorers, *given)

    monkeypatch.setattr(protocols, "judge", keep)
    names = [str(i) for i in range(CLASSES)]
    support = Support(train, labels, CLASSES)
    protocols._prototypes(1, support, test, names, truth, Options(draws=5, resamples=0))
    assert len(drawn) == 5 and len(set(drawn)) == 5


def by_sorting(queries, support, labels, n_classes, k):
    """The definition of nearest_neighbours, a query at a time."""
    scores = np.full((len(queries), n_classes), -np.inf)
    similar = on_grid(unit(queries) @ unit(support).T)
    for row, line in zip(scores, similar):
        for label in np.unique(labels):
            row[label] = (line[labels == label].max() + 1) / 4
        chosen, given = np.unique(labels[np.argsort(-line, kind="stable")[:k]], return_counts=True)
        row[chosen] = given
    return scores


@pytest.mark.parametrize("seed", range(60))
def test_neighbours_by_brute_force(seed, monkeypatch):
    """Ties, clips that only float64 tells apart, odd sizes, classes without clips, k up to all clips."""
    rng = np.random.default_rng(seed)
    queries, clips = int(rng.choice([1, 2, 31])), int(rng.choice([1, 2, 7, 31, 150, 301]))
    n_classes = int(rng.integers(1, 12))
    levels, width = int(rng.choice([1, 2, 50])), int(rng.integers(1, 6))
    noise = rng.choice([0, 1e-9, 1e-6])
    q, s = (rng.integers(-levels, levels + 1, (n, width)).astype(np.float64) for n in (queries, clips))
    s += noise * rng.standard_normal(s.shape)
    labels = rng.integers(0, n_classes, clips)
    k = int(rng.integers(1, 1 + rng.choice([min(5, clips), clips])))
    wanted = by_sorting(q, s, labels, n_classes, k)
    for name, most in (("_TILE", 301), ("_GROUP", 6), ("_GROUPS", 9)):
        monkeypatch.setattr(knn, name, int(rng.integers(1, most)))
    monkeypatch.setattr(classifiers, "BLOCK", int(rng.integers(1, 40)))
    np.testing.assert_array_equal(nearest_neighbours(q, s, labels, n_classes, k), wanted)
    for truth in (rng.integers(-1, n_classes, queries), rng.integers(-1, n_classes, queries)):
        judged = judge([neighbours(Support(s, labels, n_classes), k)], q, truth)
        np.testing.assert_array_equal(judged.ranks[0], class_ranks(wanted, truth))
        np.testing.assert_array_equal(judged.predicted, wanted.argmax(axis=1))


@pytest.mark.parametrize("seed", range(10))
def test_class_ranks_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, int(rng.choice([2, 4, 1000])), (int(rng.choice([0, 1, 53])), 17)).astype(float)
    scores[:, rng.integers(17)] = -np.inf
    truth = rng.integers(-1, 17, len(scores))
    wanted = [
        18 if own < 0 else 1 + np.argsort(-line, kind="stable").tolist().index(own)
        for line, own in zip(scores, truth)
    ]
    assert class_ranks(scores, truth).tolist() == wanted


@pytest.mark.parametrize("name", ["v2v", "knn", "prototypes", "zero_shot"])
def test_protocols_in_bounded_memory(name):
    """20,000 clips x 500 classes: one matrix of scores would be 40 MB (zero_shot) or 80 MB."""
    rng = np.random.default_rng(0)
    names = [f"class {n}" for n in range(500)]
    labels = rng.integers(0, 500, 20_000)
    clips = Split("test", rng.standard_normal((20_000, 4), dtype=np.float32), [], [], [])
    clips.ids, clips.classes, clips.signers = [""] * 20_000, [names[n] for n in labels], [""] * 20_000
    support = Split("train", clips.vectors[:500], clips.ids[:500], names, clips.signers[:500])
    prompts = (names, support.vectors, labels)
    tracemalloc.start()
    with threadpool_limits(1, user_api="blas"):  # each thread judges a block
        run_protocol(name, clips, support, None, prompts, Options(resamples=20, draws=3))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6, peak

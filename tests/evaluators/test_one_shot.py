"""One-shot search of signs, against brute force, and the protocol through the command."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.config.schema import EvalConfig
from mmpt.evaluators.metrics import one_shot
from mmpt.evaluators.metrics.one_shot import OTHER, SAME, Draw, choose_trials, rank_trials
from mmpt.evaluators.metrics.tied_ranks import tied_rank_metrics
from mmpt.evaluators.protocols import PROTOCOLS
from mmpt.evaluators.protocols.one_shot import one_shot_results, trained_on
from mmpt.utils.errors import UserError


def names(numbers: Sequence[int], letter: str) -> list[str]:
    return [f"{letter}{number}" for number in numbers]


@st.composite
def corpora(draw):
    n = draw(st.integers(2, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    signs, languages = names(rng.integers(0, 6, n), "s"), names(rng.integers(0, 3, n), "l")
    # few values, so that scores tie
    return signs, languages, rng.integers(-1, 2, (n, 2)).astype(float), names(rng.integers(0, 3, n), "p")


@settings(max_examples=80, deadline=None)
@given(corpora(), st.sampled_from(["auto", SAME, OTHER]), st.booleans(), st.integers(0, 5))
def test_every_query_is_ranked_in_a_gallery_of_one_clip_a_sign(corpus, queries, other_signer, seed):
    signs, languages, vectors, signers = corpus
    how = Draw(queries, 3, other_signer, seed)
    try:
        trials = choose_trials(signs, languages, how, signers)
    except UserError as error:
        assert "one-shot" in str(error) and "\n" not in str(error)
        return
    found = rank_trials(vectors, trials, "dot")
    values: list[float] = []
    nearest: list[int] = []
    for trial in trials.trials:
        of = trials.languages[trial.language]
        gallery = [signs[row] for row in trial.gallery]
        own = {sign for sign, language in zip(signs, languages) if language == of}
        assert sorted(gallery) == sorted(own) and all(languages[row] == of for row in trial.gallery)
        expected = [
            row
            for row, sign in enumerate(signs)
            if row not in trial.gallery
            and sign in own
            and (languages[row] == of) == (trials.queries == SAME)
            and not (other_signer and signers[trial.gallery[gallery.index(sign)]] == signers[row])
        ]
        assert trial.rows.tolist() == expected
        for row in trial.rows:
            scores = [float(vectors[row] @ vectors[other]) for other in trial.gallery]
            nearest.append(int(trial.gallery[scores.index(max(scores))]))
            right = scores[gallery.index(signs[row])]
            tied = [n for n, score in enumerate(sorted(scores, reverse=True), start=1) if score == right]
            values.append(float(np.mean([1 / n for n in tied])))
    assert tied_rank_metrics(found.ranks)["MRR"] == pytest.approx(np.mean(values))
    assert len(found.clip) == len(values) == len(found.sign)
    assert found.nearest.tolist() == nearest


def test_the_seed_draws_the_galleries():
    signs, languages = names(np.arange(40) % 4, "s"), ["l"] * 40
    drawn = [
        [trial.gallery.tolist() for trial in choose_trials(signs, languages, Draw(draws=5, seed=seed)).trials]
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({str(gallery) for gallery in drawn[0]}) > 1


def test_signs_of_two_languages_are_clusters_of_their_own():
    signs, languages = ["a", "b", "c"] * 4, ["x"] * 6 + ["y"] * 6
    same = rank_trials(np.eye(12), choose_trials(signs, languages, Draw(draws=1)))
    other = rank_trials(np.eye(12), choose_trials(signs, languages, Draw(OTHER, draws=1)))
    assert len(set(same.sign)) == 6 and len(set(other.sign)) == 3
    assert set(same.candidates) == set(other.candidates) == {3}


def test_queries_in_blocks_equal_all_at_once(monkeypatch):
    vectors = np.random.default_rng(0).integers(-1, 2, (40, 2)).astype(float)
    trials = choose_trials(names(np.arange(40) % 4, "s"), ["l"] * 40, Draw(draws=2))
    whole = rank_trials(vectors, trials)
    monkeypatch.setattr(one_shot, "_BLOCK", 5)
    parts = rank_trials(vectors, trials)
    for one, other in ((parts.ranks.first, whole.ranks.first), (parts.ranks.tied, whole.ranks.tied)):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(parts.nearest, whole.nearest)
    assert len(parts.ranks) == len(parts.clip) == 2 * 36


@pytest.mark.parametrize(
    "signs, languages, how, signers, message",
    [
        ("aab", "xyx", Draw(SAME), (), "no sign has two clips in one sign language"),
        ("abc", "xyz", Draw(), (), "no sign has the same name in two of 3"),
        ("aa", "xx", Draw(other_signer=True), ("p", "p"), "all 10 queries are by the signer"),
        ("aa", "xx", Draw(other_signer=True), ("p", ""), "signer of 1 of 2 clips is not known"),
        ("aa", "xx", Draw(other_signer=True), (), "signer of 2 of 2 clips is not known"),
        ("", "", Draw(), (), "got 0 signs"),
        ("aa", "x", Draw(), (), "got 2 signs and 1 languages"),
        ("aa", "xx", Draw("some"), (), "one of auto"),
        ("aa", "xx", Draw(draws=0), (), "at least one draw"),
    ],
)
def test_corpora_without_queries_are_one_line(signs, languages, how, signers, message):
    with pytest.raises(UserError, match=message) as error:
        choose_trials(signs, languages, how, signers)
    assert "\n" not in str(error.value)


def test_embeddings_must_fit():
    trials = choose_trials("aa", "xx")
    for vectors in (np.ones((3, 2)), np.ones(2), np.full((2, 2), np.nan)):
        with pytest.raises(UserError):
            rank_trials(vectors, trials)


def test_results_name_what_was_left_out_and_languages_of_training():
    trials = choose_trials("aabb", "xxyz", Draw(draws=2))
    results = one_shot_results(rank_trials(np.eye(4), trials), resamples=0)
    assert results["one_shot"]["without_query"] == ["y", "z"] and results["intervals"] == {}
    assert any("y, z" in line for line in results["notes"])
    assert results["galleries"]["x"]["pairs"] == 2 and results["chance"]["v2v R@1"] == 1
    assert "has clips of y" in trained_on(["x", "y"], ["y"])
    assert "not checked" in trained_on(["x"], ["", "y"])
    assert trained_on(["x"], ["y"]) == ""


def test_the_choices_of_the_config_are_the_registered_protocols():
    field = EvalConfig.__dataclass_fields__["protocol"]
    assert sorted(field.metadata["choices"]) == PROTOCOLS.names()

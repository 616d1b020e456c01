"""Retrieval of spelled words by their letters."""

import numpy as np
import pytest

from mmpt.experiments import spelled_words as words
from mmpt.utils.arrays import unit_rows
from mmpt.utils.errors import UserError

LETTERS = "ABCDE"


@pytest.fixture(scope="module")
def corpus():
    rng = np.random.default_rng(0)
    letters = unit_rows(rng.normal(size=(5, 8)))
    texts = ["ABC", "CAB", "EEA", "DAB", "BAEDE"]
    near = [[letters[LETTERS.index(c)] for c in text for _ in range(2)] for text in texts]
    windows = [unit_rows(np.array(own) + 0.2 * rng.normal(size=(len(own), 8))) for own in near]
    recordings = [words.Embedded(own.mean(axis=0), own @ letters.T) for own in windows]
    return texts, letters, windows, recordings, words.letter_counts(texts, LETTERS)


def test_methods_are_those_of_the_formulas(corpus):
    texts, letters, windows, recordings, counts = corpus
    found = {
        "mean": words.by_mean(recordings, counts, letters),
        "max": words.by_max(recordings, counts),
        "shares": words.by_shares(recordings, counts, 0.1),
    }
    for t, text in enumerate(texts):
        rows = [letters[LETTERS.index(c)] for c in text]
        for r, own in enumerate(windows):
            expected = {
                "mean": _cosine(np.mean(rows, axis=0), own.mean(axis=0)),
                "max": np.mean([max(float(row @ w) for w in own) for row in rows]),
                "shares": _cosine(
                    [text.count(c) for c in LETTERS],
                    np.mean([np.exp(letters @ w / 0.1) / np.exp(letters @ w / 0.1).sum() for w in own], 0),
                ),
            }
            for name, value in expected.items():
                np.testing.assert_allclose(found[name][t, r], value, atol=1e-9)
    assert counts.sum(axis=1).tolist() == [3, 3, 3, 3, 5]  # not changed in place


def _cosine(one, other) -> float:
    return float(np.dot(one, other) / np.linalg.norm(one) / np.linalg.norm(other))


def test_table_of_two_models_with_anagrams_and_chance(corpus):
    perfect = words.same_letters(corpus[-1])
    lines = words.table({"exact": [perfect], "two": [perfect, -perfect]}).splitlines()
    # ABC and CAB are level in both directions: 3 of 5 are first, 2 are first or second
    assert lines[2].startswith("| exact | T2V | 0.800 (")
    assert lines[4].startswith("| two | T2V | 0.400 (") and "| 1.000 (1.000-1.000) |" in lines[4]
    assert lines[-1] == "| chance |  | 0.200 | 1.000 | 1.000 | 3 |"


def test_temperature_is_the_best_of_validation(corpus, monkeypatch):
    recordings, counts = corpus[3:]
    tried = []
    monkeypatch.setattr(words, "TEMPERATURES", (1.0, 0.03, 0.07))

    def by_shares(own, wanted, temperature):
        tried.append(temperature)
        return words.same_letters(wanted) * (1 if temperature == 0.03 else -1)

    monkeypatch.setattr(words, "by_shares", by_shares)
    assert words.choose_temperature(recordings, counts) == 0.03 and tried == [1.0, 0.03, 0.07]


def test_other_letters_are_refused():
    with pytest.raises(UserError, match="'F', 'ä'"):
        words.letter_counts(["ABäF"], LETTERS)

"""Spotting of letters: what is chosen on validation recordings, and the results on others."""

import dataclasses

import numpy as np
import pytest

from mmpt.experiments import letter_spotting as spotting
from mmpt.experiments.letter_windows import LETTERS, Clips, LetterRecording
from mmpt.spotting import WindowGrid

LENGTHS = (0.8, 1.2, 1.6)


def recording(seed: int, language: str, letters: str = "ABCDEFGHIJ") -> LetterRecording:
    """Letters of 1.2 s with rests of 0.8 s, at 25 frames per second."""
    times = np.array([(20 + 50 * place, 50 + 50 * place) for place in range(len(letters))])
    order = np.random.default_rng(seed).permutation([LETTERS.index(letter) for letter in letters])
    spans = WindowGrid(LENGTHS, 0.2).spans(int(times[-1, 1]) + 20, 25)
    nothing = Clips(np.zeros((0, 1)), [])
    return LetterRecording("id", "", language, 25.0, spans, nothing, order, times, nothing)


def scores(one: LetterRecording, noise: float = 0.0, best: float = 1.2) -> np.ndarray:
    """The IoU of each window with a letter, highest for windows of `best` seconds."""
    first = np.maximum(one.spans[:, None, 0], one.times[:, 0])
    common = np.maximum(np.minimum(one.spans[:, None, 1], one.times[:, 1]) - first, 0)
    union = np.ptp(one.spans, axis=1)[:, None] + np.ptp(one.times, axis=1) - common
    found = np.zeros((len(one.spans), len(LETTERS)))
    found[:, one.letters] = common / union
    random = np.random.default_rng(1).random(found.shape)
    others = one.of_length([length for length in LENGTHS if length != best])
    found[others] = random[others] / 2
    return found + noise * random


@pytest.fixture(scope="module")
def valid() -> list[LetterRecording]:
    return [recording(1, "asq"), recording(2, "bzs")]


def test_the_better_scores_and_windows_are_chosen_on_validation_recordings(valid):
    good, bad = [scores(one) for one in valid], [scores(one, noise=3.0) for one in valid]
    choice = spotting.choose(valid, {"bad": bad, "good": good})
    assert choice.ranking[0] == choice.deciding[0] == "good"
    assert 1.2 in choice.ranking[1].lengths and 1.2 in choice.deciding[1].lengths
    assert "good, windows of 1.2" in str(choice)
    test = [recording(3, "gsg"), recording(4, "ase")]
    result = spotting.evaluate(test, {"good": [scores(one) for one in test]}, choice, resamples=50)
    np.testing.assert_allclose(result.values, 1.0)
    assert result.samples.shape == (len(spotting.COLUMNS), 50) and result.chance.max() < 0.2


def test_thresholds_are_tested_on_another_language(valid):
    """In one language a letter scores high by mistake: a threshold for it does not help the other."""
    wrong = [scores(one) for one in valid]
    found = [spotting.detections(valid, wrong, spotting.Setting((1.2,), False))[number] for number in (0, 1)]
    same = spotting._held_out_f1(found, ["asq", "bzs"], True)
    moved = [found[0], dataclasses.replace(found[1], scores=found[1].scores - np.float32(0.9))]
    assert same > 0.9 > spotting._held_out_f1(moved, ["asq", "bzs"], False)
    limits, *_ = spotting.choose_thresholds(found[:1], len(LETTERS), spotting.TUNED_BY, True)
    alone = spotting._metric(moved[1:], "F1", limits)
    other, *_ = spotting.choose_thresholds(moved[1:], len(LETTERS), spotting.TUNED_BY, True)
    expected = (alone + spotting._metric(moved[:1], "F1", other)) / 2
    assert spotting._held_out_f1(moved, ["asq", "bzs"], True) == pytest.approx(expected)


def test_table_has_the_difference_with_its_own_interval(valid):
    samples = np.tile(np.linspace(0, 1, 101), (len(spotting.COLUMNS), 1))
    columns = np.ones(len(spotting.COLUMNS))
    one = spotting.Result(0.6 * columns, samples, 0.1 * columns)
    other = spotting.Result(0.4 * columns, samples - 0.2, 0.1 * columns)
    lines = spotting.table({"model": spotting.Result.mean([one, one]), "SVM": other}).splitlines()
    assert lines[2].startswith("| model | 0.600 (0.025 to 0.975) |")
    assert lines[4].startswith("| difference | +0.200 (+0.200 to +0.200) |")
    assert lines[5].startswith("| chance | 0.100 |")

"""Spotting of letters by scores of windows, with settings that are chosen on validation recordings."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mmpt.evaluators.metrics.bootstrap import resampling_weights
from mmpt.evaluators.reports.tables import markdown_table
from mmpt.experiments.letter_windows import LETTERS, LetterRecording
from mmpt.spotting.metrics import (
    Annotated,
    Criterion,
    Segments,
    choose_thresholds,
    metric_samples,
)
from mmpt.spotting.peaks import PeakFinder, Peaks

Floats = NDArray[np.float64]
LENGTHS = ((0.8,), (1.2,), (1.6,), (0.8, 1.2, 1.6))
_DRAWS = 20
TUNED_BY = Criterion("iou", 0.5)
COLUMNS = (
    (Criterion("iou", 0.3), "mAP"),
    (Criterion("iou", 0.5), "mAP"),
    (Criterion("iou", 0.5), "F1"),
    (Criterion("seconds", 1.0), "recall"),
    (Criterion("seconds", 1.0), "precision"),
)


@dataclass(frozen=True)
class Setting:
    """Lengths of the windows in seconds, and whether only windows of the same letter exclude each other."""

    lengths: tuple[float, ...]
    one_at_a_time: bool

    @classmethod
    def all(cls) -> Iterator["Setting"]:
        """The settings to choose from."""
        return (cls(*both) for both in itertools.product(LENGTHS, (False, True)))

    def __str__(self) -> str:
        lengths = "+".join(f"{length:g}" for length in self.lengths)
        return f"{lengths} s{', one letter at a time' if self.one_at_a_time else ''}"


def detections(
    recordings: Sequence[LetterRecording], scores: Sequence[Floats], setting: Setting
) -> list[Annotated]:
    """The windows that are left after suppression, and the reference. scores: [windows, letters] of each."""
    found = []
    for recording, own in zip(recordings, scores, strict=True):
        rows = recording.of_length(setting.lengths)
        finder = PeakFinder(one_at_a_time=setting.one_at_a_time)
        first = finder.add(recording.spans[rows], own[rows].astype(np.float32))
        peaks = Peaks.joined([first, finder.finish()])
        reference = Segments(recording.times / recording.fps, recording.letters.astype(np.intp))
        there = Segments(peaks.spans / recording.fps, peaks.texts)
        found.append(Annotated(there, peaks.scores, reference, float(recording.spans.max() / recording.fps)))
    return found


@dataclass(frozen=True)
class Choice:
    """What was chosen on validation recordings.

    ranking, deciding: the name of the scores and the setting, chosen for mAP and for F1. limits: the
    thresholds of the letters.
    """

    ranking: tuple[str, Setting]
    deciding: tuple[str, Setting]
    limits: NDArray[np.float32]

    def __str__(self) -> str:
        parts = []
        for what, (name, setting) in (("mAP", self.ranking), ("F1", self.deciding)):
            parts.append(f"{what}: {f'{name}, ' if name else ''}windows of {setting}")
        several = len(set(self.limits.tolist())) > 1
        limit = "a threshold for each letter" if several else f"threshold {self.limits[0]:.3f}"
        return f"{'; '.join(parts)}, {limit}"


def choose(recordings: Sequence[LetterRecording], candidates: Mapping[str, Sequence[Floats]]) -> Choice:
    """The best of some scores, by name, of all settings, and of one threshold or one for each letter.

    For mAP by mAP, for the rest by F1 (IoU 0.5). F1 is the mean over the sign languages, with the thresholds
    of the other ones: it does not reward many thresholds.
    """
    best = {"mAP": -1.0, "F1": -1.0}
    ranking = deciding = ("", next(Setting.all()))
    limits = np.zeros(len(LETTERS), np.float32)
    for (name, scores), setting in itertools.product(candidates.items(), Setting.all()):
        found = detections(recordings, scores, setting)
        precision = _metric(found, "mAP", limits)
        if precision > best["mAP"]:
            best["mAP"], ranking = precision, (name, setting)
        for per_letter in (False, True):
            f1 = _held_out_f1(found, [recording.language for recording in recordings], per_letter)
            if f1 > best["F1"]:
                best["F1"], deciding = f1, (name, setting)
                limits = choose_thresholds(found, len(LETTERS), TUNED_BY, per_letter)[0]
    return Choice(ranking, deciding, limits)


def _held_out_f1(found: Sequence[Annotated], languages: Sequence[str], per_letter: bool) -> float:
    """F1 of the recordings of each language with thresholds of the others, mean over the languages."""
    values = []
    for held_out in sorted(set(languages)):
        own = [one for one, language in zip(found, languages) if language == held_out]
        others = [one for one, language in zip(found, languages) if language != held_out] or own
        limits, *_ = choose_thresholds(others, len(LETTERS), TUNED_BY, per_letter)
        values.append(_metric(own, "F1", limits))
    return float(np.mean(values))


def _metric(found: Sequence[Annotated], name: str, limits: NDArray[np.float32]) -> float:
    return float(metric_samples(found, TUNED_BY, limits, np.ones((1, len(found)), np.int64))[name][0])


@dataclass(frozen=True)
class Result:
    """A scorer on test recordings: each metric of COLUMNS, of samples of them, and by chance."""

    values: Floats
    samples: Floats
    chance: Floats

    @classmethod
    def mean(cls, results: Sequence["Result"]) -> "Result":
        """The mean over models; the samples are those of the same recordings."""
        parts = ([getattr(one, name) for one in results] for name in ("values", "samples", "chance"))
        return cls(*(np.mean(part, axis=0) for part in parts))


def evaluate(
    recordings: Sequence[LetterRecording],
    candidates: Mapping[str, Sequence[Floats]],
    choice: Choice,
    resamples: int = 1000,
) -> Result:
    """The metrics of COLUMNS on test recordings; whole recordings are resampled.

    chance: the letters of the detections are exchanged at random, mean of 20 draws.
    """
    one = np.ones((1, len(recordings)), np.int64)
    weights = np.concatenate([one, *resampling_weights(len(recordings), resamples, 0)])
    values, chance = [], []
    for criterion, name in COLUMNS:
        scores, setting = choice.ranking if name == "mAP" else choice.deciding
        found = detections(recordings, candidates[scores], setting)
        values.append(metric_samples(found, criterion, choice.limits, weights)[name])
        rng = np.random.default_rng(0)
        orders = [rng.permutation(len(LETTERS)) for _ in range(_DRAWS)]
        drawn = [
            metric_samples(*_exchanged(found, choice.limits, order, criterion), one)[name] for order in orders
        ]
        chance.append(np.mean(drawn))
    samples = np.stack(values)
    return Result(samples[:, 0], samples[:, 1:], np.array(chance))


def _exchanged(
    found: Sequence[Annotated], limits: NDArray[np.float32], order: NDArray[np.intp], criterion: Criterion
) -> tuple[list[Annotated], Criterion, NDArray[np.float32]]:
    """The detections with other letters, and the thresholds that belong to them."""
    moved = np.empty_like(limits)
    moved[order] = limits
    others = [
        dataclasses.replace(one, found=Segments(one.found.spans, order[one.found.texts])) for one in found
    ]
    return others, criterion, moved


def table(results: Mapping[str, Result]) -> str:
    """The results in Markdown, the difference between the first two, and the chance of the first.

    In brackets: 95 % intervals (bootstrap over recordings).
    """
    rows = [[name, *map(_cell, result.values, result.samples)] for name, result in results.items()]
    first, *others = results.values()
    for other in others[:1]:
        change = map(partial(_cell, sign="+"), first.values - other.values, first.samples - other.samples)
        rows.append(["difference", *change])
    rows.append(["chance", *(f"{value:.3f}" for value in first.chance)])
    return markdown_table(["", *(f"{name}, {criterion}" for criterion, name in COLUMNS)], rows)


def _cell(value: float, samples: Floats, sign: str = "") -> str:
    low, high = np.nanquantile(samples, [0.025, 0.975])
    return f"{value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"

"""Metrics of spotting against a reference, and thresholds chosen by them.

A detection is a hit if it matches a segment of the reference of the same text: in order of score, each takes
the best segment that no better one of its recording took. mAP is that of temporal action detection
(ActivityNet): the mean over the texts of the reference of the interpolated average precision. A hit within a
second counts detections whose centre is at most that far from a segment's centre, as in sign spotting
(BSL-1K).

Caba Heilbron et al. (2015), ActivityNet, CVPR. Albanie et al. (2020), BSL-1K, ECCV.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from mmpt.evaluators.metrics.bootstrap import resampling_weights


class Segments(NamedTuple):
    """Parts of a recording: start and end in seconds float [N, 2], number of the text intp [N]."""

    spans: NDArray[np.float64]
    texts: NDArray[np.intp]


@dataclass(frozen=True)
class Annotated:
    """Detections in a recording of `seconds`, with their scores float32 [N], and the reference."""

    found: Segments
    scores: NDArray[np.float32]
    reference: Segments
    seconds: float


@dataclass(frozen=True)
class Criterion:
    """When a detection matches a segment: IoU of at least `value`, or centres at most `value` s apart."""

    kind: str
    value: float

    def __str__(self) -> str:
        return f"IoU {self.value:g}" if self.kind == "iou" else f"within {self.value:g} s"

    def measure(self, spans: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
        """[N, M], larger is closer: intersection over union, or the distance of the centres, negative."""
        if self.kind == "seconds":
            return -np.abs(spans.mean(axis=1)[:, None] - others.mean(axis=1))
        first, last = (
            np.maximum(spans[:, None, 0], others[:, 0]),
            np.minimum(spans[:, None, 1], others[:, 1]),
        )
        common = np.maximum(last - first, 0)
        return common / (np.ptp(spans, axis=1)[:, None] + np.ptp(others, axis=1) - common)

    @property
    def least(self) -> float:
        """The measure of the least close pair that matches."""
        return (self.value if self.kind == "iou" else -self.value) - 1e-9


CRITERIA = (Criterion("iou", 0.1), Criterion("iou", 0.3), Criterion("iou", 0.5), Criterion("seconds", 1.0))


def hits(recording: Annotated, criterion: Criterion) -> NDArray[np.bool_]:
    """Which detections match a segment of the reference, bool [N]; each segment is matched once."""
    ranked, hit = _Ranked([recording]), np.zeros(len(recording.scores), bool)
    for text in np.unique(recording.reference.texts):
        rows = ranked.of(text)
        [hit[ranked.order[rows]]] = ranked.hits(rows, text, [criterion])
    return hit


class _Ranked:
    """The detections of some recordings: those of each text together, in order of score.

    order, scores, number: of each detection the row, the score, and the number of its recording.
    """

    def __init__(self, recordings: Sequence[Annotated], only: NDArray[np.intp] | None = None):
        """only: the texts whose detections are wanted."""
        self.references = [recording.reference for recording in recordings]
        self.seconds = np.array([recording.seconds for recording in recordings])
        texts, scores, self.spans = (
            np.concatenate(part)
            for part in zip(*((r.found.texts, r.scores, r.found.spans) for r in recordings))
        )
        number = np.repeat(np.arange(len(recordings)), [len(r.scores) for r in recordings])
        rows = np.arange(len(texts)) if only is None else np.flatnonzero(np.isin(texts, only))
        self.order = rows[np.lexsort((-scores[rows], texts[rows]))]  # it is stable
        self._texts = texts[self.order]
        self.scores, self.number, self.spans = scores[self.order], number[self.order], self.spans[self.order]

    def of(self, text: int) -> slice:
        """Where the detections of a text are."""
        first, last = np.searchsorted(self._texts, [text, text + 1])
        return slice(int(first), int(last))

    def moved(self, random: np.random.Generator) -> Self:
        """The same with each detection anywhere in its recording."""
        length = np.ptp(self.spans, axis=1)
        start = random.random(len(length)) * np.maximum(self.seconds[self.number] - length, 0)
        other = copy.copy(self)
        other.spans = np.stack([start, start + length], axis=1)
        return other

    def hits(self, rows: slice, text: int, criteria: Sequence[Criterion]) -> list[NDArray[np.bool_]]:
        """For each criterion, which detections of `rows` match a segment of `text`."""
        found = [np.zeros(rows.stop - rows.start, bool) for _ in criteria]
        for number, reference in enumerate(self.references):
            segments = reference.spans[reference.texts == text]
            own = np.flatnonzero(self.number[rows] == number)
            if not len(segments) or not len(own):
                continue
            measures: dict[str, NDArray[np.float64]] = {}
            for hit, criterion in zip(found, criteria):
                if criterion.kind not in measures:
                    measures[criterion.kind] = criterion.measure(self.spans[rows][own], segments)
                hit[own] = _matched(measures[criterion.kind], criterion.least)
        return found


def _matched(measure: NDArray[np.float64], least: float) -> NDArray[np.bool_]:
    """Which detections, in order of score, match a segment: the closest that is not taken. [N, M] -> [N]."""
    hit, taken = np.zeros(len(measure), bool), np.zeros(measure.shape[1], bool)
    for row in np.flatnonzero((measure >= least).any(axis=1)):
        near = np.where(taken, -np.inf, measure[row])
        best = int(near.argmax())
        if near[best] >= least:
            hit[row] = taken[best] = True
    return hit


class _Counts(NamedTuple):
    """What the metrics of any weights of the recordings are computed from.

    curves: for each text of the reference, the recording of each hit [H], the detections and the hits of each
    recording down to its score [R, H], and the segments of each recording [R]. totals: hits, detections and
    segments of each recording with the threshold [R, 3].
    """

    curves: list[tuple[NDArray, NDArray, NDArray, NDArray]]
    totals: NDArray[np.int64]


def _above(recordings: Sequence[Annotated], thresholds: NDArray) -> NDArray[np.int64]:
    """The number of detections of each recording that reach the threshold of their text."""
    return np.array([np.count_nonzero(r.scores >= thresholds[r.found.texts]) for r in recordings], np.int64)


def _counts(
    ranked: _Ranked,
    criteria: Sequence[Criterion],
    thresholds: NDArray,
    above: NDArray[np.int64],
    instead: NDArray[np.intp] | None = None,
) -> list[_Counts]:
    """The counts of each criterion. above: see _above. instead: the text whose detections a text gets [n]."""
    recordings = range(len(ranked.references))
    texts = np.concatenate([reference.texts for reference in ranked.references])
    found = [_Counts([], np.zeros((len(recordings), 3), np.int64)) for _ in criteria]
    for counts in found:
        counts.totals[:, 1] = above
        counts.totals[:, 2] = [len(reference.texts) for reference in ranked.references]
    for text in np.unique(texts):
        source = text if instead is None else instead[text]
        rows = ranked.of(source)
        scores, number = ranked.scores[rows], ranked.number[rows]
        places = [np.flatnonzero(number == recording) for recording in recordings]
        segments = np.array([np.count_nonzero(one.texts == text) for one in ranked.references])
        for counts, hit in zip(found, ranked.hits(rows, text, criteria)):
            at = np.flatnonzero(hit)
            # detections down to the score of each hit; of equal scores, all
            down_to = np.searchsorted(-scores, -scores[at], side="right")
            all_, right = (
                np.array([np.searchsorted(some, down_to) for some in parts])
                for parts in (places, [at[number[at] == recording] for recording in recordings])
            )
            counts.curves.append((number[at], all_, right, segments))
            passed = at[scores[at] >= thresholds[source]]
            counts.totals[:, 0] += np.bincount(number[passed], minlength=len(recordings))
    return found


def _metrics(counts: _Counts, weights: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """mAP, F1, precision and recall of weights int64 [B, R] of the recordings, each [B]."""
    total, count = np.zeros(len(weights)), np.zeros(len(weights))
    for recording, detections, right, segments in counts.curves:
        there = weights @ segments
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.nan_to_num((weights @ right) / (weights @ detections))
            best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
            total += np.where(there, (best * weights[:, recording]).sum(axis=1) / there, 0)
            count += there > 0
    right, found, there = (weights @ counts.totals).T.astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "mAP": total / count,
            "F1": np.nan_to_num(2 * right / (found + there)),
            "precision": np.nan_to_num(right / found),
            "recall": right / there,
        }


def chance_texts(references: Sequence[Segments], count: int, seed: int = 0) -> NDArray[np.intp]:
    """The texts, of `count`, whose detections are exchanged for chance: all, or 100 if there are more.

    Those of the references are among them, however many they are; the others are drawn.
    """
    there = np.unique(np.concatenate([reference.texts for reference in references]))
    others = np.setdiff1d(np.arange(count), there)
    drawn = np.random.default_rng(seed).permutation(others)[: max(CHANCE_TEXTS - len(there), 0)]
    return np.sort(np.concatenate([there, drawn]))


def spotting_metrics(
    recordings: Sequence[Annotated],
    thresholds: NDArray,
    resamples: int = 1000,
    seed: int = 0,
    exchanged: NDArray[np.intp] | None = None,
) -> dict[str, Any]:
    """For each criterion mAP, F1, precision and recall: value, 95 % interval and chance.

    thresholds: of each text, float [n], for F1, precision and recall, which count all texts together. Only
    the texts `exchanged` (default: `chance_texts` of the references) need detections below their threshold.
    The interval is a bootstrap over recordings, None for a single one. chance: the mean of 20 runs in which
    the texts `exchanged` get each other's detections (`shuffled texts`), and of 20 in which the detections
    keep their length, text and score, but lie anywhere in the recording (`random spans`).
    """
    random = np.random.default_rng(seed)
    if exchanged is None:
        exchanged = chance_texts([recording.reference for recording in recordings], len(thresholds), seed)
    ranked, above = _Ranked(recordings, exchanged), _above(recordings, thresholds)
    ones = np.ones((1, len(recordings)), np.int64)
    weights = np.concatenate([ones, *resampling_weights(len(recordings), resamples, seed)])
    of = (CRITERIA, thresholds, above)
    values = [_metrics(counts, weights) for counts in _counts(ranked, *of)]
    chance: dict[str, list[list[dict[str, NDArray]]]] = {"shuffled texts": [], "random spans": []}
    for _ in range(_CHANCE_RUNS):
        instead = np.arange(len(thresholds))
        instead[random.permutation(exchanged)] = exchanged
        chance["shuffled texts"].append([_metrics(one, ones) for one in _counts(ranked, *of, instead)])
    for _ in range(_CHANCE_RUNS):
        chance["random spans"].append([_metrics(one, ones) for one in _counts(ranked.moved(random), *of)])
    return {
        str(criterion): {
            name: {
                "value": float(value[0]),
                "interval": np.nanquantile(value[1:], [0.025, 0.975]).tolist()
                if len(recordings) > 1
                else None,
                "chance": {
                    kind: float(np.mean([run[number][name] for run in runs])) for kind, runs in chance.items()
                },
            }
            for name, value in values[number].items()
        }
        for number, criterion in enumerate(CRITERIA)
    }


_CHANCE_RUNS = 20
CHANCE_TEXTS = 100
"""Texts that are exchanged for chance; bounds the detections that are kept."""


def best_threshold(scores: NDArray[np.float32], hit: NDArray[np.bool_], segments: int) -> tuple[float, float]:
    """The threshold with the highest F1, and that F1, of detections [N] and `segments` to find.

    It lies in the middle between the scores of the last detection above it and the first below; of equal F1
    the higher is chosen. (inf, 0) if no threshold finds any.
    """
    order = np.argsort(-scores, kind="stable")
    ordered, right = scores[order], np.cumsum(hit[order])
    last = np.flatnonzero(np.diff(ordered, append=-np.inf))  # of equal scores
    f1 = 2 * right[last] / (last + 1 + segments)
    if not len(f1) or not f1.max() > 0:
        return float("inf"), 0.0
    best = int(f1.argmax())
    above = ordered[last[best]]
    below = ordered[last[best] + 1] if last[best] + 1 < len(ordered) else above
    middle = np.float32((float(above) + float(below)) / 2)
    return float(middle if middle > below else above), float(f1[best])


def choose_thresholds(
    recordings: Sequence[Annotated], count: int, criterion: Criterion, per_text: bool = False
) -> tuple[NDArray[np.float32], float, float, list[int]]:
    """The thresholds of `count` texts with the highest F1, that of all texts, F1, and texts without segments.

    per_text: a threshold for each text; texts that are in no reference get the one of all texts.
    """
    texts = np.concatenate([r.found.texts for r in recordings])
    scores = np.concatenate([r.scores for r in recordings])
    hit = np.concatenate([hits(r, criterion) for r in recordings])
    there = np.bincount(np.concatenate([r.reference.texts for r in recordings]), minlength=count)
    common, f1 = best_threshold(scores, hit, int(there.sum()))
    limits = np.full(count, common, np.float32)
    if per_text:
        for text in np.flatnonzero(there):
            rows = texts == text
            limits[text] = best_threshold(scores[rows], hit[rows], int(there[text]))[0]
        above = scores >= limits[texts]
        f1 = float(2 * np.count_nonzero(hit & above) / (np.count_nonzero(above) + there.sum()))
    return limits, common, f1, np.flatnonzero(there == 0).tolist()


def metric_samples(
    recordings: Sequence[Annotated], criterion: Criterion, thresholds: NDArray, weights: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """mAP, F1, precision and recall, each [B], of recordings taken as often as weights [B, R] say."""
    [counts] = _counts(_Ranked(recordings), [criterion], thresholds, _above(recordings, thresholds))
    return _metrics(counts, weights)

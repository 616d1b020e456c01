"""Metrics of spotting against a reference, and thresholds chosen by them.

A detection is a hit if it matches a segment of the reference of the same text: in order of score, each takes
the best segment that no better one of its recording took. mAP is that of temporal action detection
(ActivityNet): the mean over the texts of the reference of the interpolated average precision. A hit within a
second counts detections whose centre is at most that far from a segment's centre, as in sign spotting
(BSL-1K).

Caba Heilbron et al. (2015), ActivityNet, CVPR. Albanie et al. (2020), BSL-1K, ECCV.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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

    def closeness(self, spans: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
        """[N, M], larger is closer; -inf where they do not match."""
        if self.kind == "iou":
            first, last = (
                np.maximum(spans[:, None, 0], others[:, 0]),
                np.minimum(spans[:, None, 1], others[:, 1]),
            )
            common = np.maximum(last - first, 0)
            union = np.ptp(spans, axis=1)[:, None] + np.ptp(others, axis=1) - common
            close = common / union
            return np.where(close >= self.value - 1e-9, close, -np.inf)
        distance = np.abs(spans.mean(axis=1)[:, None] - others.mean(axis=1))
        return np.where(distance <= self.value + 1e-9, -distance, -np.inf)


CRITERIA = (Criterion("iou", 0.1), Criterion("iou", 0.3), Criterion("iou", 0.5), Criterion("seconds", 1.0))


def hits(recording: Annotated, criterion: Criterion) -> NDArray[np.bool_]:
    """Which detections match a segment of the reference, bool [N]; each segment is matched once."""
    found, reference = recording.found, recording.reference
    hit = np.zeros(len(found.texts), bool)
    order = np.lexsort((-recording.scores, found.texts))  # it is stable
    ordered = found.texts[order]
    for text in np.unique(reference.texts):
        rows = order[_range(ordered, text)]
        close = criterion.closeness(found.spans[rows], reference.spans[reference.texts == text])
        taken = np.zeros(close.shape[1], bool)
        matching = np.flatnonzero((close > -np.inf).any(axis=1))
        for row, near in zip(rows[matching], close[matching]):
            near = np.where(taken, -np.inf, near)
            best = int(near.argmax())
            if near[best] > -np.inf:
                hit[row] = taken[best] = True
    return hit


def _range(ordered: NDArray[np.intp], value: int) -> slice:
    """Where `value` is in an ordered array."""
    first, last = np.searchsorted(ordered, [value, value + 1])
    return slice(int(first), int(last))


class _Counts(NamedTuple):
    """What the metrics of any weights of the recordings are computed from.

    curves: for each text of the reference, the recording of each hit [H], the detections and the hits of each
    recording down to its score [R, H], and the segments of each recording [R]. totals: hits, detections and
    segments of each recording with the threshold [R, 3].
    """

    curves: list[tuple[NDArray, NDArray, NDArray, NDArray]]
    totals: NDArray[np.int64]


def _counts(recordings: Sequence[Annotated], criterion: Criterion, thresholds: NDArray) -> _Counts:
    flags = [hits(recording, criterion) for recording in recordings]
    passed = [r.scores >= thresholds[r.found.texts] for r in recordings]
    totals = [
        (np.count_nonzero(hit & above), np.count_nonzero(above), len(recording.reference.texts))
        for recording, hit, above in zip(recordings, flags, passed)
    ]
    texts, scores, hit = (
        np.concatenate(part)
        for part in ([r.found.texts for r in recordings], [r.scores for r in recordings], flags)
    )
    number = np.repeat(np.arange(len(recordings)), [len(flag) for flag in flags])
    curves = []
    ordered = np.lexsort((-scores, texts))
    of_ordered = texts[ordered]
    for text in np.unique(np.concatenate([r.reference.texts for r in recordings])):
        order = ordered[_range(of_ordered, text)]
        of_hits = order[hit[order]]
        # detections down to the score of each hit; of equal scores, all
        down_to = np.searchsorted(-scores[order], -scores[of_hits], side="right")
        is_of = number[order] == np.arange(len(recordings))[:, None]
        ends = np.maximum(down_to - 1, 0)
        all_, right = (np.cumsum(part, axis=1)[:, ends] for part in (is_of, is_of & hit[order]))
        segments = np.array([np.count_nonzero(r.reference.texts == text) for r in recordings])
        curves.append((number[of_hits], all_, right, segments))
    return _Counts(curves, np.array(totals, np.int64).reshape(-1, 3))


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


def spotting_metrics(
    recordings: Sequence[Annotated], thresholds: NDArray, resamples: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """For each criterion mAP, F1, precision and recall: value, 95 % interval and chance.

    thresholds: of each text, float [n], for F1, precision and recall, which count all texts together. The
    interval is a bootstrap over recordings, None for a single one. chance: the mean of 20 runs in which the
    texts of the detections are permuted (`shuffled texts`), and of 20 in which the detections keep their
    length, text and score, but lie anywhere in the recording (`random spans`).
    """
    random = np.random.default_rng(seed)
    ones = np.ones((1, len(recordings)), np.int64)
    weights = [ones, *resampling_weights(len(recordings), resamples, seed)]
    drawn = {
        "shuffled texts": [_shuffled(recordings, thresholds, random) for _ in range(_CHANCE_RUNS)],
        "random spans": [(_moved(recordings, random), thresholds) for _ in range(_CHANCE_RUNS)],
    }
    report: dict[str, Any] = {}
    for criterion in CRITERIA:
        values = _metrics(_counts(recordings, criterion, thresholds), np.concatenate(weights))
        chance = {
            name: [_metrics(_counts(some, criterion, limits), ones) for some, limits in runs]
            for name, runs in drawn.items()
        }
        report[str(criterion)] = {
            name: {
                "value": float(value[0]),
                "interval": np.nanquantile(value[1:], [0.025, 0.975]).tolist()
                if len(recordings) > 1
                else None,
                "chance": {
                    kind: float(np.mean([run[name] for run in runs])) for kind, runs in chance.items()
                },
            }
            for name, value in values.items()
        }
    return report


_CHANCE_RUNS = 20


def _shuffled(
    recordings: Sequence[Annotated], thresholds: NDArray, random: np.random.Generator
) -> tuple[list[Annotated], NDArray]:
    """The recordings with the texts of all detections permuted, and the thresholds that belong to them."""
    order = random.permutation(len(thresholds))
    limits = np.empty_like(thresholds)
    limits[order] = thresholds
    return [
        Annotated(Segments(r.found.spans, order[r.found.texts]), r.scores, r.reference, r.seconds)
        for r in recordings
    ], limits


def _moved(recordings: Sequence[Annotated], random: np.random.Generator) -> list[Annotated]:
    """The recordings with each detection anywhere."""
    found = []
    for recording in recordings:
        spans, texts = recording.found
        length = np.ptp(spans, axis=1)
        start = random.random(len(spans)) * np.maximum(recording.seconds - length, 0)
        moved = Segments(np.stack([start, start + length], axis=1), texts)
        found.append(Annotated(moved, recording.scores, recording.reference, recording.seconds))
    return found


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
    return _metrics(_counts(recordings, criterion, thresholds), weights)

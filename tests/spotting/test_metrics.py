"""Metrics of spotting, against formulas written out one detection at a time."""

import numpy as np
import pytest

from mmpt.spotting.metrics import (
    CRITERIA,
    Annotated,
    Criterion,
    Segments,
    best_threshold,
    chance_texts,
    choose_thresholds,
    hits,
    spotting_metrics,
)


@pytest.fixture
def few_chances(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of other numbers: chance takes most of the time."""
    monkeypatch.setattr("mmpt.spotting.metrics._CHANCE_RUNS", 1)


def segments(rng, count: int, texts: int) -> Segments:
    start = rng.integers(0, 40, count) / 2
    return Segments(
        np.stack([start, start + rng.integers(1, 6, count) / 2], axis=1), rng.integers(0, texts, count)
    )


def made_up(seed: int, recordings: int = 4, texts: int = 5) -> list[Annotated]:
    rng = np.random.default_rng(seed)
    return [
        Annotated(
            segments(rng, n := int(rng.integers(0, 60)), texts),
            (rng.integers(0, 25, n) / 25).astype(np.float32),  # with ties
            segments(rng, int(rng.integers(1, 15)), texts - 1),
            25.0,
        )
        for _ in range(recordings)
    ]


def matches(a, b, criterion: Criterion) -> float:
    if criterion.kind == "seconds":
        distance = abs(sum(a) - sum(b)) / 2
        return -distance if distance <= criterion.value + 1e-9 else -np.inf
    common = max(0, min(a[1], b[1]) - max(a[0], b[0]))
    iou = common / (a[1] - a[0] + b[1] - b[0] - common)
    return iou if iou >= criterion.value - 1e-9 else -np.inf


def hits_one_by_one(recording: Annotated, criterion: Criterion) -> list[bool]:
    taken, hit = set(), [False] * len(recording.scores)
    for row in sorted(range(len(hit)), key=lambda row: (-recording.scores[row], row)):
        scored = [
            (matches(recording.found.spans[row], span, criterion), -number)
            for number, (span, text) in enumerate(zip(*recording.reference))
            if text == recording.found.texts[row] and number not in taken
        ]
        if scored and max(scored)[0] > -np.inf:
            taken.add(-max(scored)[1])
            hit[row] = True
    return hit


def map_one_by_one(recordings: list[Annotated], criterion: Criterion) -> float:
    """ActivityNet's: precision and recall after each score, precision made monotone, area below."""
    of_texts = []
    for text in {int(text) for r in recordings for text in r.reference.texts}:
        there = sum(int((r.reference.texts == text).sum()) for r in recordings)
        rows = [
            (score, hit)
            for r in recordings
            for score, hit, other in zip(r.scores, hits_one_by_one(r, criterion), r.found.texts)
            if other == text
        ]
        recall, precision = [0.0], [0.0]
        for limit in sorted({score for score, _ in rows}, reverse=True):
            above = [hit for score, hit in rows if score >= limit]
            recall.append(sum(above) / there)
            precision.append(sum(above) / len(above))
        area = sum((recall[i] - recall[i - 1]) * max(precision[i:]) for i in range(1, len(recall)))
        of_texts.append(area)
    return float(np.mean(of_texts))


@pytest.mark.parametrize("seed", range(4))
def test_hits_map_and_f1_by_brute_force(seed, few_chances):
    recordings = made_up(seed)
    thresholds = np.random.default_rng(seed).random(5).astype(np.float32)
    reports = spotting_metrics(recordings, thresholds, resamples=2)
    assert list(reports) == [str(criterion) for criterion in CRITERIA]
    for criterion, report in zip(CRITERIA, reports.values()):
        flags = [hits_one_by_one(r, criterion) for r in recordings]
        assert [hits(r, criterion).tolist() for r in recordings] == flags
        assert report["mAP"]["value"] == pytest.approx(map_one_by_one(recordings, criterion), abs=1e-12)
        right = wrong = 0
        for recording, flag in zip(recordings, flags):
            for hit, score, text in zip(flag, recording.scores, recording.found.texts):
                if score >= thresholds[text]:
                    right, wrong = right + hit, wrong + (not hit)
        there = sum(len(r.reference.texts) for r in recordings)
        assert report["F1"]["value"] == pytest.approx(2 * right / (right + wrong + there))
        assert report["precision"]["value"] == pytest.approx(right / max(right + wrong, 1))
        assert report["recall"]["value"] == pytest.approx(right / there)


def test_intervals_are_those_of_recordings_drawn_again(monkeypatch):
    recordings, criterion = made_up(3, recordings=5), CRITERIA[1]
    report = spotting_metrics(recordings, np.zeros(5, np.float32), resamples=40, seed=7)[str(criterion)]
    rng = np.random.default_rng(7)
    draws = rng.integers(5, size=(40, 5))
    values = [map_one_by_one([recordings[i] for i in draw], criterion) for draw in draws]
    assert report["mAP"]["interval"] == pytest.approx(np.quantile(values, [0.025, 0.975]))
    one = spotting_metrics(recordings[:1], np.zeros(5, np.float32))[str(criterion)]
    assert one["mAP"]["interval"] is None


def test_chance_is_far_below_perfect_spotting():
    rng = np.random.default_rng(0)
    recordings = []
    for _ in range(6):
        start = np.arange(30) * 2.0
        reference = Segments(np.stack([start, start + 1], 1), rng.permutation(30) % 10)
        recordings.append(Annotated(reference, np.ones(30, np.float32), reference, 60.0))
    report = spotting_metrics(recordings, np.zeros(10, np.float32), resamples=20)
    for of_criterion in report.values():
        for metric in of_criterion.values():
            assert metric["value"] == 1 and metric["interval"] == [1, 1]
            assert max(metric["chance"].values()) < 0.3


def test_chance_exchanges_the_texts_of_the_reference_and_others_up_to_a_hundred(monkeypatch):
    recordings = made_up(1, texts=9)
    references = [recording.reference for recording in recordings]
    there = np.unique(np.concatenate([reference.texts for reference in references]))
    assert (
        chance_texts(references, 9).tolist() == list(range(9)) and len(chance_texts(references, 500)) == 100
    )
    assert np.isin(there, chance_texts(references, 500)).all()
    monkeypatch.setattr("mmpt.spotting.metrics.CHANCE_TEXTS", 3)
    kept, limits = chance_texts(references, 9), np.full(9, 0.5, np.float32)
    assert kept.tolist() == there.tolist() and len(there) < 9
    fewer = []
    for recording in recordings:  # the other texts have no detections below their threshold
        rows = np.isin(recording.found.texts, kept) | (recording.scores >= 0.5)
        found = Segments(*(part[rows] for part in recording.found))
        fewer.append(Annotated(found, recording.scores[rows], recording.reference, recording.seconds))
    assert sum(len(r.scores) for r in fewer) < sum(len(r.scores) for r in recordings)
    assert spotting_metrics(fewer, limits, 5) == spotting_metrics(recordings, limits, 5)


@pytest.mark.parametrize("seed", range(6))
def test_threshold_of_the_highest_f1_by_brute_force(seed, few_chances):
    recordings, criterion = made_up(seed), CRITERIA[0]
    scores = np.concatenate([r.scores for r in recordings])
    hit = np.concatenate([hits(r, criterion) for r in recordings])
    there = sum(len(r.reference.texts) for r in recordings)

    def f1(limit: float) -> float:
        above = scores >= limit
        return 2 * (hit & above).sum() / (above.sum() + there)

    limit, best = best_threshold(scores, hit, there)
    tried = {value: f1(value) for value in scores.tolist()}
    assert best == pytest.approx(max(tried.values())) == pytest.approx(f1(limit))
    assert max(value for value, of in tried.items() if of == max(tried.values())) >= limit not in scores
    limits, threshold, common, missing = choose_thresholds(recordings, 5, criterion)
    assert (
        limits.tolist() == [np.float32(limit)] * 5 and threshold == limit and common == best and 4 in missing
    )
    limits, _, better, missing = choose_thresholds(recordings, 5, criterion, per_text=True)
    assert limits[4] == np.float32(limit)
    report = spotting_metrics(recordings, limits, resamples=1)[str(criterion)]
    assert report["F1"]["value"] == pytest.approx(better)


def test_thresholds_of_neighbouring_and_no_scores():
    up = np.nextafter(np.float32(0.5), np.float32(1))
    limit, f1 = best_threshold(np.array([0.5, up], np.float32), np.array([False, True]), 1)
    assert np.float32(limit) == up and f1 == 1
    nothing = np.zeros(0, np.float32), np.zeros(0, bool)
    assert best_threshold(*nothing, 3) == (np.inf, 0)
    assert best_threshold(np.ones(2, np.float32), np.zeros(2, bool), 3) == (np.inf, 0)

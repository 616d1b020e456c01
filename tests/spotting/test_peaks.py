"""Suppression in blocks keeps what greedy suppression keeps."""

import numpy as np
import pytest

from mmpt.spotting import WindowGrid
from mmpt.spotting.peaks import PeakFinder, Peaks
from mmpt.utils.errors import UserError


def iou(a, b) -> float:
    common = max(0, min(a[1], b[1]) - max(a[0], b[0]))
    return common / (a[1] - a[0] + b[1] - b[0] - common)


def greedy(spans, scores, overlap, floor, together):
    """(start, end, text) of what is kept, one window after the other in order of score."""
    candidates = [
        (-score, row, text)
        for (row, text), score in np.ndenumerate(scores)
        if score >= np.broadcast_to(floor, scores.shape[1])[text]
    ]
    if together:  # ties between texts of a window: the first
        candidates.sort()
    kept: list[tuple[int, int]] = []
    for _, row, text in sorted(candidates, key=lambda c: (c[0], c[1], c[2])):
        rivals = [r for r, t in kept if together or t == text]
        if not any(iou(spans[row], spans[rival]) > overlap for rival in rivals):
            kept.append((row, text))
    return {(*spans[row].tolist(), text) for row, text in kept}


@pytest.mark.parametrize("seed", range(12))
def test_peaks_are_those_of_greedy_suppression(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.choice([0.2, 0.5, 1.0, 2.3], rng.integers(1, 4), replace=False)
    spans = WindowGrid(tuple(lengths), float(rng.choice([0.04, 0.2, 0.5]))).spans(rng.integers(1, 120), 25)
    scores = rng.integers(0, 12, (len(spans), rng.integers(1, 4))).astype(np.float32)  # with ties
    if seed % 3 == 0:  # a long chain: each window is suppressed by the next
        scores[:, 0] = np.arange(len(spans))
    scores[rng.random(scores.shape) < 0.1] = np.nan
    overlap, together = float(rng.choice([0, 0.2, 0.5])), bool(seed % 2)
    floor = -np.inf if seed % 4 else rng.integers(0, 6, scores.shape[1])
    finder, cuts = PeakFinder(overlap, floor, together), sorted(rng.integers(0, len(spans), seed % 5))
    parts = [finder.add(spans[rows], scores[rows]) for rows in np.split(np.arange(len(spans)), cuts)]
    peaks = Peaks.joined([*parts, finder.finish()])
    got = list(zip(*peaks.spans.T.tolist(), peaks.texts.tolist()))
    assert len(set(got)) == len(got) and got == sorted(got)
    assert set(got) == greedy(spans, scores, overlap, floor, together)
    row = {tuple(span): number for number, span in enumerate(spans.tolist())}
    assert [scores[row[a, b], text] for a, b, text in got] == peaks.scores.tolist()


def test_few_windows_are_held():
    rng = np.random.default_rng(0)
    spans = WindowGrid().spans(20_000, 25)
    finder, held, found = PeakFinder(), 0, 0
    for block in np.array_split(np.arange(len(spans)), 40):
        found += len(finder.add(spans[block], rng.random((len(block), 5), np.float32)).scores)
        held = max(held, len(finder._spans))
    assert found > 5000 and held < 150


def test_nothing_and_impossible_overlaps():
    assert len(PeakFinder().finish().scores) == 0
    empty = PeakFinder().add(np.zeros((0, 2), np.int64), np.zeros((0, 3), np.float32))
    assert len(empty.scores) == 0
    for overlap in (-0.1, 1, float("nan")):
        with pytest.raises(UserError, match="intersection over union"):
            PeakFinder(overlap)

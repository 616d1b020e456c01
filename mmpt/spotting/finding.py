"""A recording and targets -> peaks, and the course of the scores for a picture."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmpt.embedding.embedder import SignCLIP, check_list
from mmpt.spotting.peaks import PeakFinder, Peaks
from mmpt.spotting.scores import Targets, Unread, window_scores
from mmpt.spotting.thresholds import Thresholds
from mmpt.spotting.windows import Recording, Spans, WindowGrid

_POINTS = 1200
"""Points of a curve, at most."""


@dataclass(frozen=True)
class SpotOptions:
    """How recordings are searched.

    overlap, one_at_a_time: see PeakFinder. mirror: signed with the left hand. fps:
    of `.npy` features. Raises UserError for an impossible overlap.
    """

    grid: WindowGrid = field(default_factory=WindowGrid)
    overlap: float = 0.2
    one_at_a_time: bool = False
    mirror: bool = False
    fps: float | None = None

    def __post_init__(self) -> None:
        self.finder()

    def finder(self, floor: NDArray[np.float32] | float = -np.inf) -> PeakFinder:
        """A finder of the peaks with a score of at least `floor`."""
        return PeakFinder(self.overlap, floor, self.one_at_a_time)

    def recording(self, model: SignCLIP, path: str | os.PathLike[str]) -> Recording:
        """The recording of a file. Raises UserError."""
        return Recording(model, path, self.mirror, self.fps)


class Curve:
    """The course of the scores: the best of the windows whose centre is in each of some equal intervals.

    values: float32 [intervals, n], NaN where there is none. Its size does not grow with the recording.
    """

    def __init__(self, frames: int, texts: int):
        self.frames = frames
        self.values = np.full((min(_POINTS, frames), texts), np.nan, np.float32)

    def add(self, spans: Spans, scores: NDArray[np.float32]) -> None:
        """Add windows [N, 2] with their scores [N, n]."""
        at = spans.sum(axis=1) * len(self.values) // (2 * self.frames)
        order = np.argsort(at, kind="stable")
        points, firsts = np.unique(at[order], return_index=True)
        best = np.fmax.reduceat(scores[order], firsts, axis=0)
        self.values[points] = np.fmax(self.values[points], best)


class Found(NamedTuple):
    """Peaks in frames, the course of the scores, and the windows that have none.

    failed: why the recording could not be searched; then there is nothing else.
    """

    peaks: Peaks
    curve: NDArray[np.float32]
    unread: Unread
    failed: str = ""

    @classmethod
    def nothing(cls, failed: str) -> "Found":
        """Of a recording that could not be searched."""
        return cls(Peaks.joined([]), np.zeros((0, 0), np.float32), Unread(), failed)


def find_peaks(
    model: SignCLIP,
    recording: Recording,
    targets: Targets,
    options: SpotOptions,
    floor: NDArray[np.float32] | float = -np.inf,
    done: Callable[[int], None] = lambda count: None,
) -> Found:
    """Search a recording. Memory grows with the peaks, and else not with its length.

    floor: the least score of a peak; one for all texts or float [n]. done: called with the number of windows
    of each block. Raises UserError if the recording cannot be read.
    """
    finder = options.finder(floor)
    curve, unread = Curve(recording.count, len(targets.names)), Unread()
    parts: list[Peaks] = []
    for spans, scores in window_scores(model, recording, targets, options.grid, unread):
        parts.append(finder.add(spans, scores))
        curve.add(spans, scores)
        done(len(spans))
    return Found(Peaks.joined([*parts, finder.finish()]), curve.values, unread)


@dataclass(frozen=True, order=True)
class Detection:
    """A text from `start` to `end`, in seconds."""

    start: float
    end: float
    text: str
    score: float


def detections(peaks: Peaks, names: Sequence[str], fps: float) -> Iterator[Detection]:
    """Peaks in frames as detections in seconds."""
    for first in range(0, len(peaks.scores), _ROWS):
        part = peaks.of(slice(first, first + _ROWS))
        for (start, end), text, score in zip(
            (part.spans / fps).tolist(), part.texts.tolist(), part.scores.tolist()
        ):
            yield Detection(start, end, names[text], score)


_ROWS = 10_000


def spot(
    model: SignCLIP,
    recording: str | os.PathLike[str],
    texts: "Sequence[str] | Targets",
    threshold: "float | Thresholds" = 0.5,
    options: SpotOptions | None = None,
) -> list[Detection]:
    """Where in a long recording each of some texts (or examples) is signed, in order of time.

    Windows of several lengths are embedded, each as a clip of its own, and compared with the texts. A window
    is a detection if its score is at least the threshold and no better window of its text overlaps it.

    Examples:
        >>> model = mmpt.from_pretrained("runs/fslex/model")
        >>> mmpt.spot(model, "interview.pose", ["Fingerspell the letter A."], threshold=0.4)
        [Detection(start=12.4, end=13.4, text='Fingerspell the letter A.', score=0.61)]

    Args:
        model: of mmpt.from_pretrained.
        recording: a `.pose` file, or `.npy` features for a model of video features (with options.fps).
        texts: prompts, or targets_of_index(model, folder): an index of example clips.
        threshold: the least score; choose it on validation recordings (`signclip spot --choose-threshold`).
        options: lengths and step of the windows, overlap, left-handed signers.
    """
    options = options or SpotOptions()
    if not isinstance(texts, Targets):
        check_list(texts, "texts")
        texts = Targets.of_texts(model, texts)
    floor = threshold.of(texts.names) if isinstance(threshold, Thresholds) else threshold
    opened = options.recording(model, recording)
    peaks = find_peaks(model, opened, texts, options, floor).peaks
    return list(detections(peaks, texts.names, opened.fps))

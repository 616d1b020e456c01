"""VideoCLIP's overlapped pairs: a caption, and a part of the recording around a random time in it.

Xu et al. 2021, VideoCLIP, section 3.2, https://arxiv.org/abs/2109.14084.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mmpt.config.dataset_options import SpanSampling
from mmpt.processors.recordings import Recordings, Rngs
from mmpt.utils.errors import UserError


@dataclass(frozen=True)
class DrawnSpan:
    """A drawn pair.

    captions: indices of examples in the order of time. text: their prompts, joined by spaces; None for the
    clip's own alone. frames: of the recording.
    """

    captions: tuple[int, ...]
    text: str | None
    frames: slice


@dataclass(frozen=True)
class SpanLengths:
    """Shortest and longest part, in seconds or (`in_frames`) in frames."""

    shortest: float
    longest: float
    in_frames: bool = False

    @classmethod
    def of(cls, options: SpanSampling) -> "SpanLengths":
        """The option span_seconds or span_frames. Raises UserError."""
        seconds, frames = options.span_seconds, options.span_frames
        if (seconds is None) == (frames is None):
            raise UserError(
                "dataset.span_sampling needs the length of the parts: set either dataset.span_seconds or, "
                "for features, dataset.span_frames, to [min, max]."
            )
        name, given = ("span_seconds", seconds) if seconds is not None else ("span_frames", frames or [])
        if len(given) != 2 or given[0] > given[1]:
            raise UserError(f"dataset.{name}: got {list(given)}; expected [min, max] with min <= max.")
        return cls(float(given[0]), float(given[1]), frames is not None)

    def frames(self, fps: float | None) -> tuple[float, float]:
        """Both in frames. Raises UserError for seconds without a frame rate."""
        if self.in_frames:
            return self.shortest, self.longest
        if not fps:
            raise UserError(
                "dataset.span_seconds: features have no frame rate: set dataset.span_frames, in rows of the "
                "file, instead."
            )
        return self.shortest * fps, self.longest * fps


def check_spans(options: SpanSampling, templates: int) -> None:
    """Raises UserError for options that contradict. templates: prompts of a clip."""
    if options.span_sampling is None:
        changed = [name for name in vars(SpanSampling()) if getattr(options, name) not in (None, 1)]
        if changed:
            raise UserError(
                f"dataset.{changed[0]} has no effect without dataset.span_sampling: set that, or leave "
                "it out."
            )
        return
    SpanLengths.of(options)
    if options.span_texts > 1 and templates > 1:
        raise UserError(
            f"dataset.span_texts joins captions of one kind, but dataset.prompt_templates has {templates}: "
            "leave one of them out."
        )


class SpanSampler:
    """Draws a part of the recording for each clip.

    A clip's own part is where its text is said. The drawn text are the clip's caption and up to texts - 1
    neighbouring ones (of the same recording and signer, in the order of their starts), of a random number and
    at random sides. The centre of the part is uniform in the time of the text, its length uniform between the
    bounds; what lies outside the recording is cut off. The part always overlaps the text.

    fits: whether a joined text is short enough; neighbours are left out until it is.
    """

    def __init__(
        self,
        recordings: Recordings,
        lengths: SpanLengths,
        texts: int = 1,
        fits: Callable[[str], bool] = lambda text: True,
    ):
        self._recordings = recordings
        self._examples = recordings.examples
        self._texts, self._fits = texts, fits
        self._own: list[slice] = []
        self._counts: list[int] = []
        self._lengths: list[tuple[float, float]] = []
        groups: dict[tuple[str, str], list[int]] = defaultdict(list)
        for index, example in enumerate(self._examples):
            count, fps = recordings.extent(index)
            span = example.span
            self._own.append(slice(0, count) if span is None else span.frames(count, fps))
            self._counts.append(count)
            self._lengths.append(lengths.frames(fps))
            groups[str(example.path), example.signer].append(index)
        self._neighbours: list[list[int]] = [[]] * len(self._examples)
        self._place = [0] * len(self._examples)
        for captions in groups.values():
            captions.sort(key=lambda i: (self._own[i].start, self._own[i].stop))
            for place, index in enumerate(captions):
                self._neighbours[index], self._place[index] = captions, place

    @property
    def longest(self) -> int:
        """The most frames that a part may have."""
        return max(min(count, round(high)) for count, (_, high) in zip(self._counts, self._lengths))

    def draw(self, index: int, rng: np.random.Generator) -> DrawnSpan:
        """Draw for a clip."""
        captions = self._captions(index, rng)
        start = min(self._own[i].start for i in captions)
        stop = max(self._own[i].stop for i in captions)
        centre = rng.uniform(start, stop)
        half = rng.uniform(*self._lengths[index]) / 2
        inside = min(int(centre), stop - 1)
        first = max(0, min(round(centre - half), inside))
        last = min(self._counts[index], max(round(centre + half), inside + 1))
        text = self._joined(captions) if len(captions) > 1 else None
        return DrawnSpan(tuple(captions), text, slice(first, last))

    def features(self, indices: Sequence[int], drawn: Sequence[DrawnSpan], rngs: Rngs) -> list[np.ndarray]:
        """Features of the drawn parts, augmented by `rngs`."""
        return self._recordings.features_of_parts(indices, [each.frames for each in drawn], rngs)

    def _joined(self, captions: Sequence[int]) -> str:
        return " ".join(self._examples[i].text for i in captions)

    def _captions(self, index: int, rng: np.random.Generator) -> list[int]:
        """The clip's caption with neighbours, in the order of time."""
        if self._texts == 1:
            return [index]
        known, place = self._neighbours[index], self._place[index]
        count = min(int(rng.integers(1, self._texts + 1)), len(known))
        first = int(rng.integers(max(0, place - count + 1), min(place, len(known) - count) + 1))
        found = known[first : first + count]
        while len(found) > 1 and not self._fits(self._joined(found)):
            # the end that is farther from the clip's own caption
            at = found.index(index)
            found = found[1:] if at > len(found) - 1 - at else found[:-1]
        return found

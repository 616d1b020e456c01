"""The files of a recording: its detections as CSV and ELAN tiers, and a picture of the scores."""

import csv
import glob
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt.spotting.finding import Detection, Found, detections
from mmpt.spotting.metrics import Annotated, Segments
from mmpt.spotting.peaks import Peaks
from mmpt.spotting.picture import draw_scores
from mmpt.spotting.scores import Unread
from mmpt.spotting.windows import Recording
from mmpt.timed_text import Caption, write_elan
from mmpt.timed_text.elan import NOT_XML
from mmpt.utils.errors import UserError
from mmpt.utils.videos import is_video

log = logging.getLogger(__name__)

TIER = "spotting"
SUFFIXES = (".csv", ".eaf", ".png")
ELAN_MOST = 10_000
"""Detections in an ELAN file, at most."""
_NOTHING = Segments(np.zeros((0, 2)), np.zeros(0, np.intp))


@dataclass(frozen=True)
class Writer:
    """Writes the files of recordings to `folder`, whose content is later moved to `home`.

    limits: the least score of each of the texts `names`, float32 [n]. tier_per_text: one ELAN tier for each
    text.
    """

    folder: Path
    home: Path
    names: Sequence[str]
    limits: NDArray[np.float32]
    tier_per_text: bool

    def write(self, recording: Recording, found: Found, reference: Segments | None) -> dict[str, Any]:
        """Write the files of a recording; returns what was searched and found."""
        kept = found.peaks.of(found.peaks.scores >= self.limits[found.peaks.texts])
        base = self.folder / recording.path.stem
        with open(base.with_name(f"{base.name}.csv"), "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["start_ms", "end_ms", "text", "score"])
            for row in detections(kept, self.names, recording.fps):
                writer.writerow([*_milliseconds(row), row.text, f"{row.score:.4f}"])
        rows = list(detections(_best(kept, recording), self.names, recording.fps))
        _write_elan(base, recording.path, rows, self.tier_per_text, self.home)
        shown = annotated(recording, kept, _NOTHING if reference is None else reference)
        drawn = found.curve, self.names, self.limits, reference is not None
        draw_scores(base.with_name(f"{base.name}.png"), shown, *drawn)
        _warn_of_unread(recording, found.unread)
        seconds = recording.count / recording.fps
        about = {"recording": recording.path.name, "seconds": seconds, "windows": found.unread.windows}
        about |= {"blank": found.unread.blank, "unreadable": found.unread.bad}
        return about | {"detections": len(kept.scores), "in_elan": len(rows)}


def annotated(recording: Recording, peaks: Peaks, reference: Segments) -> Annotated:
    """Peaks in frames and the reference, in seconds."""
    found = Segments(peaks.spans / recording.fps, peaks.texts)
    return Annotated(found, peaks.scores, reference, recording.count / recording.fps)


def check_texts(names: Sequence[str]) -> None:
    """Raises UserError for a text that an ELAN file cannot hold, before the recordings are searched."""
    for name in names:
        if NOT_XML.search(name):
            raise UserError(
                f"the text {name!r} to search for holds a character that ELAN files cannot hold: remove it."
            )


def _best(kept: Peaks, recording: Recording) -> Peaks:
    """The peaks for ELAN: those with the highest scores, with a warning, if there are too many."""
    if len(kept.scores) <= ELAN_MOST:
        return kept
    log.warning(
        "%s.eaf has the %d detections with the highest scores of %d, because ELAN does not open as many; "
        "%s.csv has all: is the threshold too low?",
        *(recording.path.stem, ELAN_MOST, len(kept.scores), recording.path.stem),
    )
    return kept.of(np.sort(np.argsort(-kept.scores, kind="stable")[:ELAN_MOST]))


def _warn_of_unread(recording: Recording, unread: Unread) -> None:
    """Warn of windows without a score."""
    if unread.blank or unread.bad:
        first = f" (the first: {unread.first_error})" if unread.bad else ""
        log.warning(
            "%s: %d of %d windows have no score: %d show no hand that the model reads, %d cannot be read%s",
            *(recording.path, unread.blank + unread.bad, unread.windows, unread.blank, unread.bad, first),
        )


def _write_elan(
    base: Path, recording: Path, rows: Sequence[Detection], tier_per_text: bool, home: Path | None = None
) -> None:
    """The detections as ELAN tiers, linked to the video that has the recording's name, if there is one."""
    tiers: dict[str, list[Caption]] = {} if tier_per_text and rows else {TIER: []}
    for row in rows:
        tier = row.text if tier_per_text else TIER
        tiers.setdefault(tier, []).append(Caption(*_milliseconds(row), row.text, tier))
    videos = [
        path for path in sorted(recording.parent.glob(f"{glob.escape(recording.stem)}.*")) if is_video(path)
    ]
    write_elan(base.with_name(f"{base.name}.eaf"), tiers, videos[0] if len(videos) == 1 else None, home)


def _milliseconds(row: Detection) -> tuple[int, int]:
    """Start and end, at least 1 ms apart."""
    start = round(1000 * row.start)
    return start, max(round(1000 * row.end), start + 1)

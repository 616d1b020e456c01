"""A caption, its times, and what a reader changed or left out."""

import contextlib
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from mmpt.utils.errors import UserError
from mmpt.utils.text import nfc

log = logging.getLogger(__name__)

_CLOCK = re.compile(r"([-\u2212]?)(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,9}))?", re.ASCII)


LONGEST_MS = 10**12
"""A time at or after which no recording has a caption: 31 years."""


@dataclass(frozen=True, order=True)
class Caption:
    """A text from `start_ms` to `end_ms` (exclusive) of a recording, in whole milliseconds.

    tier: of ELAN, or the column `tier` of a CSV. signer: the participant of the tier, or the column `signer`.
    """

    start_ms: int
    end_ms: int
    text: str
    tier: str = ""
    signer: str = ""


class Findings:
    """What readers changed or left out: the count of each kind, and where it occurred first."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.first: dict[str, str] = {}

    def add(self, kind: str, where: str, count: int = 1) -> None:
        """Count a finding. where: the file and the line."""
        if count:
            self.counts[kind] = self.counts.get(kind, 0) + count
            self.first.setdefault(kind, where)

    def lines(self) -> list[str]:
        """One line for each kind, such as "empty captions, left out: 3 (first: a.srt, line 12)"."""
        return [f"{kind}: {count} (first: {self.first[kind]})" for kind, count in self.counts.items()]

    def warn(self) -> None:
        """Log the lines as warnings."""
        for line in self.lines():
            log.warning("%s", line)


@contextlib.contextmanager
def collected(findings: Findings | None) -> Iterator[Findings]:
    """The findings of a caller; without them, new ones, which are logged at the end."""
    found = Findings() if findings is None else findings
    yield found
    if findings is None:
        found.warn()


def parse_time(text: str) -> int | None:
    """Milliseconds of hh:mm:ss.mmm or mm:ss.mmm (or with a comma); None if it is no such time.

    The fraction is a decimal one (.5 is 500 ms). Minutes and seconds above 59 are no time.
    """
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        return None
    sign, hours, minutes, seconds, fraction = match.groups()
    if int(minutes) > 59 or int(seconds) > 59:
        return None
    whole = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    moment = whole * 1000 + round(float(f"0.{fraction or 0}") * 1000)
    return -moment if sign else moment


def tidy(
    cues: Iterable[tuple[str, Caption]], offset_ms: int = 0, findings: Findings | None = None
) -> list[Caption]:
    """Captions that can be cut from a recording, in order of time; what is changed or left out is counted.

    cues: (where it is in the file, caption). The offset is added to all times. Left out: captions without
    text, those that do not end after they start, those that end before the recording begins, and repetitions
    (same time, text and tier). A start before 0 becomes 0. Overlaps within a tier are kept and counted.
    findings: without it, they are logged as warnings. Raises UserError for a time of 31 years or more.
    """
    kept: dict[Caption, str] = {}
    with collected(findings) as found:
        for where, caption in cues:
            caption = replace(
                caption,
                start_ms=caption.start_ms + offset_ms,
                end_ms=caption.end_ms + offset_ms,
                text=" ".join(nfc(caption.text).split()),
            )
            if any(abs(moment) >= LONGEST_MS for moment in (caption.start_ms, caption.end_ms)):
                raise UserError(
                    f"{where}: {caption.start_ms / 1000:g} to {caption.end_ms / 1000:g} s: no recording is "
                    "that long: check the times, their unit and the offset."
                )
            if reason := _unusable(caption):
                found.add(f"{reason}, left out", where)
                continue
            if caption.start_ms < 0:
                found.add("captions that start before the recording, cut at 0", where)
                caption = replace(caption, start_ms=0)
            if caption in kept:
                found.add("repeated captions (same time and text), left out", where)
                continue
            kept[caption] = where
        ordered = sorted(kept)
        for caption in overlapping(ordered):
            found.add("captions that overlap an earlier one of their tier, kept", kept[caption])
    return ordered


def _unusable(caption: Caption) -> str:
    """Why a caption is left out, in the plural; "" if it is usable."""
    if not caption.text:
        return "captions without text"
    if caption.end_ms < caption.start_ms:
        return "captions that end before they start"
    if caption.end_ms == caption.start_ms:
        return "captions of no duration"
    if caption.end_ms <= 0:
        return "captions that end before the recording begins"
    return ""


def overlapping(captions: Iterable[Caption]) -> Iterator[Caption]:
    """The captions that start before an earlier one of their tier ends. captions: in order of time."""
    ends: dict[str, int] = {}
    for caption in captions:
        if caption.start_ms < ends.get(caption.tier, 0):
            yield caption
        ends[caption.tier] = max(caption.end_ms, ends.get(caption.tier, 0))

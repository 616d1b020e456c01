"""A part of a recording, in milliseconds or in frames."""

import logging
import os
from dataclasses import dataclass

from mmpt.utils.errors import UserError

log = logging.getLogger(__name__)

UNITS = ("ms", "frames")

_warned = {"end": False}


@dataclass(frozen=True)
class Span:
    """From `start` to `end`, exclusive (None: to the end of the recording), both in `unit`."""

    start: float
    end: float | None
    unit: str

    def frames(self, count: int, fps: float | None, path: str | os.PathLike[str] | None = None) -> slice:
        """The frames of a recording of `count` frames; at least one.

        Milliseconds are rounded to the nearest frame; an end after the recording's end is clipped, and with
        the `path` of the recording, the first such span of a process is a warning. fps: None for features,
        which have no frame rate. Raises UserError if the span starts after the recording's end, or if it is
        in milliseconds without a frame rate.
        """
        assert self.unit in UNITS and count > 0
        rate = 1.0
        if self.unit == "ms":
            if fps is None:
                raise UserError(
                    f"the part {self} is in milliseconds, but features have no frame rate: "
                    "give start_frame and end_frame, counted in rows of the file"
                )
            rate = fps / 1000
        first = round(self.start * rate)
        last = count if self.end is None else round(self.end * rate)
        if first >= count:
            raise UserError(f"the part {self} starts after the end of the file, which has {count} frames")
        if path is not None and not _warned["end"] and (end := self.cut_at(count, fps)) is not None:
            _warned["end"] = True
            log.warning(
                "%s: the part %s ends after the recording, which has %s %s: it is cut there; `signclip "
                "check TABLE` lists all such parts, further ones are not reported here",
                *(path, self, _exact(end), self.unit),
            )
        return slice(first, min(max(last, first + 1), count))

    def cut_at(self, count: int, fps: float | None) -> float | None:
        """The recording's end in `unit`, if the span ends more than a frame after it."""
        frame = 1.0 if self.unit == "frames" or not fps else 1000 / fps
        beyond = self.end is not None and self.end > (count + 1) * frame
        return round(count * frame) if beyond else None

    def __str__(self) -> str:
        end = "end" if self.end is None else _exact(self.end)
        return f"{_exact(self.start)}-{end} {self.unit}"


def _exact(number: float) -> str:
    """An exact decimal: it is part of the pose cache's key."""
    return str(int(number)) if number == int(number) else repr(float(number))

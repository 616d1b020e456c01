"""A part of a recording, in milliseconds or in frames."""

from dataclasses import dataclass

from mmpt.utils.errors import UserError

UNITS = ("ms", "frames")


@dataclass(frozen=True)
class Span:
    """From `start` to `end`, exclusive (None: to the end of the recording), both in `unit`."""

    start: float
    end: float | None
    unit: str

    def frames(self, count: int, fps: float | None) -> slice:
        """The frames of a recording of `count` frames; at least one.

        Milliseconds are rounded to the nearest frame; an end after the recording's end is clipped. fps: None
        for features, which have no frame rate. Raises UserError if the span starts after the recording's end,
        or if it is in milliseconds without a frame rate.
        """
        assert self.unit in UNITS and count > 0
        rate = 1.0
        if self.unit == "ms":
            if fps is None:
                raise UserError(
                    f"the part {self} of it is in milliseconds, but features have no frame rate: "
                    "give start_frame and end_frame, counted in rows of the file"
                )
            rate = fps / 1000
        first = round(self.start * rate)
        last = count if self.end is None else round(self.end * rate)
        if first >= count:
            raise UserError(f"the part {self} of it starts after its end (it has {count} frames)")
        return slice(first, min(max(last, first + 1), count))

    def __str__(self) -> str:
        end = "end" if self.end is None else _exact(self.end)
        return f"{_exact(self.start)}-{end} {self.unit}"


def _exact(number: float) -> str:
    """An exact decimal: it is part of the pose cache's key."""
    return str(int(number)) if number == int(number) else repr(float(number))

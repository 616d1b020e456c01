"""Decode video files frame by frame, with exact time stamps, through PyAV.

Handles variable and missing time stamps, rotation tags, odd sizes, cover pictures and truncated files. The
sample aspect ratio is ignored, as in the published pipelines.
"""

import logging
import os
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Self

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from mmpt.utils.errors import UserError
from mmpt.utils.files import check_regular

log = logging.getLogger(__name__)

FALLBACK_RATE = Fraction(25)
"""Frames per second of a stream that declares none."""
TRUSTED = Fraction(1, 50)
"""A declared rate that differs from the time stamps by a larger share, or by more than a frame at the end of
a recording of constant rate, is replaced by theirs."""
JUMP = Fraction(1)
"""A time stamp that goes back by at least this many seconds is a discontinuity; less is jitter."""
LEAP = Fraction(10)
"""A forward gap longer than this is a discontinuity too, in formats that allow them (MPEG streams)."""

Interpolation = Literal["bilinear", "bicubic", "area"]


@dataclass
class Decoded:
    """Statistics of a video, complete once all its frames have been read."""

    frames: int = 0
    seconds: Fraction = Fraction(0)
    errors: int = 0
    shortest_gap: Fraction | None = None
    longest_gap: Fraction = Fraction(0)
    gaps: Counter[Fraction] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    """Warnings, one sentence each."""

    @property
    def variable_rate(self) -> bool:
        """Whether the gaps between frames differ by more than the container's rounding."""
        return self.shortest_gap is not None and self.longest_gap > Fraction(
            5, 4
        ) * self.shortest_gap + Fraction(1, 500)


class Video:
    """An open video file.

    >>> with Video(path) as video:
    ...     for time, frame in video.frames():
    ...         picture = video.picture(frame, video.width, video.height)

    Attributes: `width` and `height` in pixels as displayed; `mirrored` and `rotation`, the display matrix (a
    frame is mirrored horizontally, then rotated counter-clockwise by 0, 90, 180 or 270 degrees); `rate` the
    mean frames per second, which is the declared one until the video has been read; `codec`, and `decoded`
    (Decoded). Raises UserError if the file cannot be opened or no frame can be decoded.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.decoded = Decoded()
        check_regular(path)  # a pipe would be waited for
        self._scaler = VideoReformatter()  # reuses its filters
        try:
            self._container = av.open(str(self.path))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise UserError(f"{self.path} cannot be opened as a video: {_reason(error)}.") from error
        try:
            self._stream = self._choose_stream()
            breaks: Any = av.format.Flags.ts_discont.value
            self._may_leap = bool(self._container.format.flags & breaks)
            context = self._stream.codec_context
            context.thread_count = 1
            self.codec = context.name
            rate = self._stream.average_rate or self._stream.guessed_rate or self._stream.base_rate
            self.rate = Fraction(rate) if rate and rate > 0 else FALLBACK_RATE
            self._declared = self._declared_frames()
            self._frames = self._decode()
            self._first = next(self._frames, None)
            if self._first is None:
                why = f" ({self.decoded.notes[-1]})" if self.decoded.notes else ""
                raise UserError(f"{self.path} has a video stream, but no frame of it could be decoded{why}.")
        except BaseException:
            self._container.close()
            raise
        # read from a frame: the decoder attaches the matrix there for every container
        self.mirrored, self.rotation, angle = _orientation(self._first)
        if abs(angle - self.rotation) > 1:
            self.decoded.notes.append(
                f"it is to be shown rotated by {angle:.0f} degrees; it was rotated by {self.rotation % 360}"
            )
        self.rotation %= 360
        turned = self.rotation % 180 == 90
        size = (self._first.width, self._first.height)
        self.width, self.height = size[::-1] if turned else size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._frames.close()
        self._container.close()

    def _choose_stream(self) -> Any:
        covers = av.stream.Disposition.attached_pic
        streams = [stream for stream in self._container.streams.video if not stream.disposition & covers]
        if not streams:
            kinds = " and ".join(sorted({stream.type for stream in self._container.streams})) or "nothing"
            raise UserError(f"{self.path} has no video stream, only {kinds}.")
        best = self._container.streams.best("video")
        chosen = best if best in streams else streams[0]
        if len(streams) > 1:
            self.decoded.notes.append(f"it has {len(streams)} video streams; number {chosen.index} was read")
        return chosen

    def _declared_frames(self) -> int:
        """The frames that should be shown: without those that an edit list cuts; 0 if unknown."""
        declared = self._stream.frames
        if "mp4" in self._container.format.name.split(","):  # the index of others may be partial
            shown = sum(not entry.is_discard for entry in self._stream.index_entries)
            declared = min(declared, shown) if shown else declared
        return declared

    def _decode(self) -> Generator[Any, None, None]:
        """Decode all frames. Packets that cannot be decoded are counted and skipped."""
        known, last_error = self.decoded, None
        try:
            for packet in self._container.demux(self._stream):
                try:
                    pictures = packet.decode()
                except av.error.FFmpegError as error:
                    known.errors, last_error = known.errors + 1, error
                    continue
                yield from pictures
        except av.error.FFmpegError as error:
            known.errors, last_error = known.errors + 1, error
        if last_error is not None:
            known.notes.append(
                f"{known.errors} packets cannot be decoded ({_reason(last_error)}); the other frames are kept"
            )

    def frames(self) -> Iterator[tuple[Fraction, Any]]:
        """Yield (seconds since the first frame, never decreasing; av.VideoFrame). Can be read once."""
        known, step = self.decoded, 1 / self.rate
        origin: Fraction | None = None
        last: Fraction | None = None
        sizes: set[tuple[int, int]] = set()
        frame, self._first = self._first, None
        assert frame is not None, "frames() can be read once"
        while frame is not None:
            stamp = None if frame.pts is None else frame.pts * Fraction(frame.time_base)
            if last is None:
                origin, time = stamp, Fraction(0)
            elif stamp is None or origin is None:
                time = last + step
                origin = origin if stamp is None else stamp - time
            else:
                time = stamp - origin
                if time <= last - JUMP or (self._may_leap and time > last + LEAP):
                    known.notes.append("the time stamps jump; the parts were read as one video")
                    time = last + step
                    origin = stamp - time
                gap = max(time - last, Fraction(0))
                time = last + gap
                known.longest_gap = max(known.longest_gap, gap)
                known.shortest_gap = gap if known.shortest_gap is None else min(known.shortest_gap, gap)
                known.gaps[gap] += 1
            known.frames += 1
            sizes.add((frame.width, frame.height))
            last = time
            length = (
                frame.duration * Fraction(frame.time_base) if frame.duration and frame.time_base else step
            )
            known.seconds = time + (length if length > 0 else step)
            yield time, frame
            frame = next(self._frames, None)
        assert last is not None
        self._correct_rate(last, has_stamps=origin is not None)
        if len(sizes) > 1:
            known.notes.append(
                f"its pictures have {len(sizes)} sizes; all were scaled to {self.width}x{self.height}"
            )
        if self._declared > known.frames + 1:
            known.notes.append(f"the file is truncated: {known.frames} of {self._declared} frames")

    def _correct_rate(self, last: Fraction, has_stamps: bool) -> None:
        """Replace a declared rate that the time stamps contradict. last: time of the last frame."""
        known = self.decoded
        if not has_stamps or not last or known.frames < 2:
            return
        measured = (known.frames - 1) / last
        # mean gap; mean with the last frame's duration
        rates = [measured, known.frames / known.seconds]
        off = min(abs(rate - self.rate) for rate in rates) * last  # frames, at the end of the recording
        if known.variable_rate:  # frames may be missing: the median gap counts, too
            usual = sorted(known.gaps.elements())[known.gaps.total() // 2]
            rates.append(1 / usual if usual else measured)
            off = Fraction(0)
        if off > 1 or all(abs(rate - self.rate) > TRUSTED * self.rate for rate in rates):
            known.notes.append(
                f"the file declares {float(self.rate):g} frames per second, its time stamps give "
                f"{float(measured):.3f}, which is used"
            )
            self.rate = measured.limit_denominator(1001)

    def sampled(self, fps: Fraction) -> Iterator[Any]:
        """Resample to `fps` as FFmpeg's `fps` filter does, which the published pipelines use.

        It rounds each frame's time to the nearest multiple of 1/fps (half up) and shows the last frame at
        that time until the next one. A clip of s seconds gives round(s * fps) frames, at least one. A frame
        may repeat (the same object).
        """
        index = 0
        shown: Any = None
        for time, frame in self.frames():
            for _ in range(index, slot := int(time * fps + Fraction(1, 2))):
                yield shown
            index, shown = slot, frame
        for _ in range(index, self.sampled_count(fps)):
            yield shown

    def sampled_count(self, fps: Fraction) -> int:
        """The number of frames that `sampled` yields. Read the video first."""
        return max(int(self.decoded.seconds * fps + Fraction(1, 2)), 1)

    def picture(
        self, frame: Any, width: int, height: int, interpolation: Interpolation = "bicubic"
    ) -> np.ndarray:
        """One frame as uint8 RGB [height, width, 3], rotated upright and scaled."""
        turned = self.rotation % 180 == 90
        scaled = self._scaler.reformat(
            frame,
            width=height if turned else width,
            height=width if turned else height,
            format="rgb24",
            interpolation=interpolation.upper(),
        )
        picture = scaled.to_ndarray()
        if self.mirrored:
            picture = np.ascontiguousarray(picture[:, ::-1])
        return np.ascontiguousarray(np.rot90(picture, self.rotation // 90)) if self.rotation else picture

    def facts(self) -> dict[str, Any]:
        """Properties of the video for the manifest. Read the video first."""
        return {
            "frames": self.decoded.frames,
            "seconds": round(float(self.decoded.seconds), 6),
            "fps": round(float(self.rate), 6),
            "width": self.width,
            "height": self.height,
            "rotation": self.rotation,
            "mirrored": self.mirrored,
            "codec": self.codec,
        }


def cached_pictures(
    video: Video, frames: Iterable[Any], width: int, height: int, how: Interpolation
) -> Iterator[np.ndarray]:
    """Convert frames to pictures (see Video.picture); a frame that repeats is converted once."""
    last: Any = None
    picture: np.ndarray | None = None
    for frame in frames:
        if picture is None or frame is not last:
            picture, last = video.picture(frame, width, height, how), frame
        yield picture


def _orientation(frame: Any) -> tuple[bool, int, float]:
    """(mirrored, rotation, exact angle) of a frame's display matrix (see Video), in degrees up to 360."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, 0, 0.0
    # x' = a x + c y, y' = b x + d y
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), dtype=np.int32).astype(float)
    mirrored = bool(a * d - b * c < 0)
    if mirrored:
        a, b = -a, -b
    angle = float(np.degrees(np.arctan2(c - b, a + d))) % 360
    return mirrored, round(angle / 90) * 90, angle


def _reason(error: BaseException) -> str:
    """FFmpeg's error message, without the error number and the file name."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__

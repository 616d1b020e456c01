"""What precedes the frames of a `.pose` file. Files are untrusted: everything is checked before use."""

import math
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pose_format.pose_header import PoseHeader
from pose_format.utils.reader import BufferReader

from mmpt.pose.clip import PoseLayout
from mmpt.pose.components import COMPONENT_POINTS, FACE, FULL_BODY, HOLISTIC
from mmpt.pose.estimators import ESTIMATORS, Estimator, estimator_named_like, points_of
from mmpt.utils.errors import UserError
from mmpt.utils.text import printable

MAX_HEADER_BYTES = 1 << 17
"""Larger headers are refused: that of MediaPipe Holistic has 15,000 bytes."""
_MOST_COMPONENTS = 64
_KNOWN_HEADERS = 8
BEFORE_NAMES = 10
"""Bytes of a file before the names of its points: version and image size."""

EXPECTED = (
    f"expected a MediaPipe Holistic pose of pose-format ({', '.join(FULL_BODY)}; x, y, z, confidence), or "
    f"one of {', '.join(each.title for each in ESTIMATORS.values())}"
)


@dataclass(frozen=True)
class Header:
    """A header that was parsed and checked.

    content: its bytes after the version and the image size, which differ between files of the same points.
    stored: the points in the file. axes: 2 or 3 coordinates of each. layout: the points of the clip; columns:
    where they are in `stored`, None if the two are the same.
    """

    content: bytes
    parsed: PoseHeader
    axes: int
    stored: PoseLayout
    layout: PoseLayout
    columns: np.ndarray | None

    @classmethod
    def of(cls, parsed: PoseHeader, content: bytes = b"") -> "Header":
        """Check a parsed header. Raises UserError."""
        estimator = _check_header(parsed)
        stored, axes = PoseLayout.of(points_of(parsed.components)), len(parsed.components[0].format) - 1
        if estimator is None:
            return cls(content, parsed, axes, stored, stored, None)
        columns, layout = estimator.mapping(stored)
        return cls(content, parsed, axes, stored, layout, columns)

    def mapped(self, values: np.ndarray, trust: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[T, stored, axes] and [T, stored] in the clip's layout and in 3-D; the same arrays if they are."""
        if self.columns is not None:
            values, trust = values[:, self.columns], trust[:, self.columns]
        if self.axes == 3:
            return values, trust
        return np.concatenate([values, np.zeros_like(values[..., :1])], axis=2), trust


class Body(NamedTuple):
    """What precedes the frames, and where they start: `start` bytes into the file."""

    version: float
    width: int
    height: int
    fps: float
    frames: int
    people: int
    start: int


_known: list[Header] = []  # those read last


def parse_header(content: bytes) -> Header:
    """The header of a file. Those read last are kept: the files of a corpus have the same points."""
    for known in _known:
        if content.startswith(known.content, BEFORE_NAMES):
            return known
    # millions of names or components would take minutes
    reader = BufferReader(content[:MAX_HEADER_BYTES])
    if (
        len(content) >= 12
        and (count := struct.unpack_from("<H", content, BEFORE_NAMES)[0]) > _MOST_COMPONENTS
    ):
        raise UserError(f"the header names {count} components; {EXPECTED}")
    try:
        parsed = PoseHeader.read(reader)
    except Exception as error:  # pose-format raises all kinds of exceptions on invalid bytes
        raise UserError(f"the header cannot be parsed ({reason_of(error)}); {EXPECTED}") from None
    header = Header.of(parsed, content[BEFORE_NAMES : reader.read_offset])
    _known.insert(0, header)
    del _known[_KNOWN_HEADERS:]
    return header


def check_size(content: bytes, header: Header, size: int | None = None) -> Body:
    """Refuse frames that the file is too short for, before memory is allocated for them.

    size: of the file, if `content` is only its beginning.
    """
    points = len(header.stored)
    # not from the parsed header, which pose-format caches and some of its functions modify
    stored, width, height = struct.unpack_from("<fHH", content)
    version = round(stored, 3) if math.isfinite(stored) else stored
    offset = BEFORE_NAMES + len(header.content)
    format_ = "<fIH" if version == 0.2 else "<HHH"
    start = offset + struct.calcsize(format_)
    left = (len(content) if size is None else size) - start
    if version not in (0, 0.1, 0.2) or (version == 0 != stored):
        raise UserError(f"it has the version {stored:g}; expected pose-format 0.0, 0.1 or 0.2")
    if left < 0:
        raise UserError("the file ends after its header; expected frames")
    fps, frames, people = struct.unpack_from(format_, content, offset)
    frame_bytes = points * (header.axes + 1) * 4
    if version == 0:  # each frame has its own number of people, and takes memory even if it is empty
        if frames * frame_bytes > 16 * left + frame_bytes:
            raise UserError(f"it declares {frames} frames of {points} points, but only {left} bytes follow")
    elif people == 0:
        raise UserError("it holds 0 people; expected one person")
    else:
        if version == 0.1 and left // (people * frame_bytes) > 65535:  # its frame count overflows
            frames = left // (people * frame_bytes)
        needed = frames * people * frame_bytes
        if needed != left:
            what = (
                "the file is truncated" if needed > left else "a second pose or other bytes follow the frames"
            )
            raise UserError(
                f"{what}, or its header is wrong: {frames} frames x {people} people x {points} points need "
                f"{needed:,} bytes, {left:,} follow the header"
            )
    if frames == 0:
        raise UserError("it holds 0 frames; expected at least one")
    if not (math.isfinite(fps) and fps > 0):
        raise UserError(f"its frame rate is {fps:g}; expected a positive number")
    return Body(version, width, height, fps, frames, people, start)


def _check_header(header: PoseHeader) -> Estimator | None:
    """The estimator of the pose, None for Holistic. Raises UserError for an unknown or broken header."""
    found = printable(", ".join(f"{part.name} ({len(part.points)} points)" for part in header.components))
    names = [component.name for component in header.components]
    estimator = None if any(name in HOLISTIC for name in names) else estimator_named_like(names)
    if estimator is None and not any(name in HOLISTIC for name in names):
        raise UserError(f"its components are {found or 'none'}; {EXPECTED}")
    formats = {component.format for component in header.components}
    for component in header.components:
        wanted = ("XYC",) if estimator else ("XYZC", "XYC")
        if len(formats) != 1 or len(component.format) not in map(len, wanted):
            raise UserError(
                f"{printable(component.name)} has the format {printable(component.format)!r}; "
                f"expected {' or '.join(wanted)} in all components; {EXPECTED}"
            )
        most = COMPONENT_POINTS.get(component.name, 1024 if component.name == FACE else 4096)
        if not 0 < len(component.points) <= most:
            raise UserError(
                f"{printable(component.name)} has {len(component.points)} points, expected 1 to {most}; "
                f"{EXPECTED}"
            )
        if estimator:
            _check_points(component.name, component.points, estimator)
    if len(set(names)) != len(names):
        raise UserError(f"a component occurs twice ({found}); {EXPECTED}")
    return estimator


def _check_points(component: str, points: Collection[str], estimator: Estimator) -> None:
    other = [point for point in points if (component, point) not in estimator.points]
    if other:
        raise UserError(
            f"{component} has {len(other)} of {len(points)} points that {estimator.title} does not have (the "
            f"first: {printable(other[0])}); {EXPECTED}"
        )


def reason_of(error: Exception) -> str:
    """The message of an error of pose-format, which may quote the file; its type if it has none."""
    return printable(str(error)) or type(error).__name__

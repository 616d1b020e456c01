"""`.pose` files -> PoseClip. Files are untrusted: everything in them is checked before use."""

import functools
import logging
import math
import os
import stat
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from pose_format import Pose
from pose_format.numpy import NumPyPoseBody
from pose_format.pose_header import PoseHeader
from pose_format.utils.reader import BufferReader

from mmpt.pose.clip import PoseClip, PoseLayout
from mmpt.pose.components import COMPONENT_POINTS, FACE, FULL_BODY, HOLISTIC, WORLD
from mmpt.pose.estimators import ESTIMATORS, Estimator, estimator_named_like
from mmpt.pose.people import RULES, choose_people
from mmpt.utils.errors import TooLargeError, UserError
from mmpt.utils.files import UNREADABLE, file_stamp
from mmpt.utils.videos import how_to_extract, is_video

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_BYTES = 4 << 30
"""Larger files are refused: over four hours of one person at 25 frames per second."""
MAX_HEADER_BYTES = 1 << 17
"""Larger headers are refused: that of MediaPipe Holistic has 15,000 bytes."""
_MOST_COMPONENTS = 64

_EXPECTED = (
    f"expected a MediaPipe Holistic pose of pose-format ({', '.join(FULL_BODY)}; x, y, z, confidence), or "
    f"one of {', '.join(each.title for each in ESTIMATORS.values())}"
)
_warned = {"people": 0}
_BEFORE = 10
"""Bytes of a file before the names of its points: version and image size."""
_KNOWN_HEADERS = 8
_LEAST_CONFIDENCE = np.float32(1e-3)


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
        stored, axes = _layout(parsed), len(parsed.components[0].format) - 1
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


@dataclass(frozen=True)
class PoseFile:
    """A file with what a clip does not show of it.

    stored: the estimator's own points. counts: intp [T], the people of each frame.
    """

    clip: PoseClip
    stored: PoseLayout
    version: float
    width: int
    height: int
    counts: np.ndarray


def read_pose(
    path: str | os.PathLike[str], components: Collection[str] | None = None, person: str = "first"
) -> PoseClip:
    """Read one person of a `.pose` file (pose-format 0.0 to 0.2).

    The points of another estimator than MediaPipe Holistic (see mmpt.pose.estimators) become the points of
    Holistic that they are; without z, `PoseClip.depth` is false.

    A point with confidence 0 is missing; confidences that interpolation left outside [0, 1] are clipped
    without making points missing. components: return only those of these that the file has; the whole file is
    checked all the same. person: which of several people is read, see mmpt.pose.people.choose_people; the
    first file of a process with several people is a warning. Raises UserError, which names the file, for an
    invalid file.
    """
    return _named(path, lambda content: parse_pose(content, components, person=person))


def read_file(path: str | os.PathLike[str], person: str = "first") -> PoseFile:
    """read_pose with the facts of the file. Raises UserError."""
    return _named(path, lambda content: _read_file(content, person))


def _named(path: str | os.PathLike[str], parse: Callable[[bytes], T]) -> T:
    """parse(content of the file); its errors name the file."""
    try:
        return parse(_read_bytes(Path(path)))
    except UserError as error:
        reason = str(error)
        if is_video(path) and Path(path).is_file():
            reason = f"this is a video, not a .pose file; {how_to_extract(Path(path).parent, '.pose')}"
        raise UserError(f"{path}: {reason}") from None


def read_recording(path: str | os.PathLike[str], person: str = "first") -> PoseClip:
    """read_pose with a cache of one file, for reading several parts of it."""
    try:
        changed = file_stamp(Path(path).stat())
    except OSError:  # read_pose reports it
        changed = None
    return _cached(os.fspath(path), person, changed)


@functools.lru_cache(maxsize=1)
def _cached(path: str, person: str, changed: object) -> PoseClip:
    return read_pose(path, person=person)


def stores_whole_fps(path: str | os.PathLike[str]) -> bool:
    """Whether a `.pose` file, which read_pose can read, stores its frame rate as an integer (before 0.2)."""
    with open(path, "rb") as file:
        return struct.unpack("<f", file.read(4))[0] < 0.15


def from_pose(pose: Pose, person: str = "first") -> PoseClip:
    """Convert one person of a pose in memory (see read_pose); `pose` is not changed. Raises UserError."""
    return _checked_clip(pose, Header.of(pose.header), float(pose.header.dimensions.width), person)[0]


def check_file(path: Path) -> int:
    """The size of a file in bytes. Raises OSError, and UserError if it cannot be a pose."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"this is not a regular file; {_EXPECTED}")
    if status.st_size == 0:
        raise UserError(f"the file is empty; {_EXPECTED}")
    if status.st_size > MAX_BYTES:
        raise UserError(
            f"the file has {status.st_size:,} bytes; expected a pose of at most {MAX_BYTES:,} bytes"
        )
    return status.st_size


def _read_bytes(path: Path) -> bytes:
    try:
        check_file(path)
        with path.open("rb", buffering=0) as file:
            return file.readall()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if isinstance(error, UserError):
            raise
        raise UserError(f"{UNREADABLE} ({reason}); expected a readable .pose file") from None


def parse_pose(
    content: bytes,
    components: Collection[str] | None = None,
    most_frames: int | None = None,
    person: str = "first",
) -> PoseClip:
    """read_pose of the bytes of a file.

    most_frames: for files of strangers. A longer clip raises TooLargeError before its frames are read, and
    version 0.0 is refused, which is read frame by frame in Python.
    """
    header = parse_header(content)
    body = check_size(content, header)
    if most_frames is not None and body.version == 0:
        raise UserError("it has the version 0.0; expected pose-format 0.1 or 0.2: write it again")
    if most_frames is not None and body.frames > most_frames:
        raise TooLargeError(f"it holds {body.frames} frames; at most {most_frames} are read")
    return _parse(content, header, body, components, person)[0]


def _read_file(content: bytes, person: str) -> PoseFile:
    """read_file of the bytes of a file."""
    header = parse_header(content)
    body = check_size(content, header)
    clip, counts = _parse(content, header, body, None, person)
    if counts is None:
        counts = (clip.confidence != 0).any(axis=1).astype(np.intp)
    return PoseFile(clip, header.stored, body.version, body.width, body.height, counts)


def _parse(
    content: bytes, header: Header, body: Body, components: Collection[str] | None, person: str
) -> tuple[PoseClip, np.ndarray | None]:
    """The chosen person; the people of each frame, None if the file is of one person."""
    if body.version == 0:
        return _parse_frame_by_frame(content, header, body, components, person)
    axes, shape = header.axes, (body.frames, body.people, len(header.stored))
    size = math.prod(shape)
    floats = np.frombuffer(content, "<f4", (axes + 1) * size, body.start)
    people = floats[: axes * size].reshape(*shape, axes), floats[axes * size :].reshape(shape)
    warn_of_people(body.people, person)
    return clip_of_arrays(people, header, body, components, person)


def clip_of_arrays(
    people: tuple[np.ndarray, np.ndarray],
    header: Header,
    body: Body,
    components: Collection[str] | None,
    person: str,
) -> tuple[PoseClip, np.ndarray | None]:
    """The chosen person in frames of a file; the people of each frame, None if the file is of one person.

    people: data [T, people, stored, axes] and confidence [T, people, stored]. Raises UserError for NaN in
    points that are not missing.
    """
    values, trust, counts = _one_person(*people, header.stored, person)
    if not all(map(_all_finite, people)):
        _check_seen(values, trust, header)
    return _part(values, trust, header, components, (body.fps, float(body.width))), counts


def _check_seen(values: np.ndarray, trust: np.ndarray, header: Header) -> None:
    """Raises UserError for NaN and infinities in points that are not missing."""
    whole = values.copy()
    _hide(whole, trust == 0)
    _check_finite(whole, trust, header.stored)


def _part(
    values: np.ndarray,
    trust: np.ndarray,
    header: Header,
    components: Collection[str] | None,
    about: tuple[float, float],
) -> PoseClip:
    """The clip of stored arrays, or `components` of it. about: fps and image width."""
    layout = header.layout
    if header.columns is not None or header.axes == 2:
        values, trust = header.mapped(values, trust)
    if components is None:
        values, trust = values.copy(), trust.copy()
    else:
        layout, columns = _columns(layout, frozenset(components))
        values, trust = (np.concatenate([part[:, c] for c in columns], axis=1) for part in (values, trust))
    return _clip(values, trust, trust == 0, (about[0], layout, about[1], header.axes == 3))


def _one_person(
    data: np.ndarray, confidence: np.ndarray, layout: PoseLayout, rule: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The chosen person's data [T, P, 3] and confidence [T, P], and the people of each frame.

    data: [T, people, P, 3]. With the rule "first" the arrays are views. None: the file is of one person.
    """
    if data.shape[1] == 1:
        return data[:, 0], confidence[:, 0], None
    # world landmarks are in metres, the others in pixels
    seen = np.flatnonzero([component != WORLD for component, _ in layout.points])
    choice = choose_people(data[:, :, seen], confidence[:, :, seen], rule)
    if rule == "first":
        return data[:, 0], confidence[:, 0], choice.counts
    return choice.take(data), choice.take(confidence), choice.counts


def _parse_frame_by_frame(
    content: bytes, header: Header, body: Body, components: Collection[str] | None, person: str
) -> tuple[PoseClip, np.ndarray | None]:
    """_parse for version 0.0, whose frames have different numbers of people."""
    reader = BufferReader(content)
    reader.read_offset = _BEFORE + len(header.content)
    try:
        pose = Pose(header.parsed, NumPyPoseBody.read_v0_0(header.parsed, reader))
    except Exception as error:
        raise UserError(f"the frames cannot be parsed ({_reason(error)}); {_EXPECTED}") from None
    if extra := len(content) - reader.read_offset:
        raise UserError(f"{extra:,} bytes follow the frames (a second pose?); {_EXPECTED}")
    clip, counts = _checked_clip(pose, header, float(body.width), person)
    if components is None:
        return clip, counts
    layout, columns = _columns(clip.layout, frozenset(components))
    return clip.select(np.r_[tuple(columns)], layout), counts


def parse_header(content: bytes) -> Header:
    """The header of a file. Those read last are kept: the files of a corpus have the same points."""
    for known in _known:
        if content.startswith(known.content, _BEFORE):
            return known
    # millions of names or components would take minutes
    reader = BufferReader(content[:MAX_HEADER_BYTES])
    if len(content) >= 12 and (count := struct.unpack_from("<H", content, _BEFORE)[0]) > _MOST_COMPONENTS:
        raise UserError(f"the header names {count} components; {_EXPECTED}")
    try:
        parsed = PoseHeader.read(reader)
    except Exception as error:  # pose-format raises all kinds of exceptions on invalid bytes
        raise UserError(f"the header cannot be parsed ({_reason(error)}); {_EXPECTED}") from None
    header = Header.of(parsed, content[_BEFORE : reader.read_offset])
    _known.insert(0, header)
    del _known[_KNOWN_HEADERS:]
    return header


@functools.lru_cache(maxsize=64)
def _columns(layout: PoseLayout, components: frozenset[str]) -> tuple[PoseLayout, list[slice]]:
    """The columns of those components of a layout, and their layout. Raises UserError if it has none."""
    names = [name for name in layout.components if name in components]
    if not names:
        raise UserError(f"it has none of {', '.join(sorted(components))}")
    chosen = [layout.component_slice(name) for name in names]
    return PoseLayout.of([point for part in chosen for point in layout.points[part]]), chosen


def _check_header(header: PoseHeader) -> Estimator | None:
    """The estimator of the pose, None for Holistic. Raises UserError for an unknown or broken header."""
    found = _shorten(", ".join(f"{part.name} ({len(part.points)} points)" for part in header.components))
    names = [component.name for component in header.components]
    estimator = None if any(name in HOLISTIC for name in names) else estimator_named_like(names)
    if estimator is None and not any(name in HOLISTIC for name in names):
        raise UserError(f"its components are {found or 'none'}; {_EXPECTED}")
    formats = {component.format for component in header.components}
    for component in header.components:
        wanted = ("XYC",) if estimator else ("XYZC", "XYC")
        if len(formats) != 1 or len(component.format) not in map(len, wanted):
            raise UserError(
                f"{_shorten(component.name)} has the format {_shorten(component.format)!r}; "
                f"expected {' or '.join(wanted)} in all components; {_EXPECTED}"
            )
        most = COMPONENT_POINTS.get(component.name, 1024 if component.name == FACE else 4096)
        if not 0 < len(component.points) <= most:
            raise UserError(
                f"{_shorten(component.name)} has {len(component.points)} points, expected 1 to {most}; "
                f"{_EXPECTED}"
            )
        if estimator:
            _check_points(component.name, component.points, estimator)
    if len(set(names)) != len(names):
        raise UserError(f"a component occurs twice ({found}); {_EXPECTED}")
    return estimator


def _check_points(component: str, points: Collection[str], estimator: Estimator) -> None:
    other = [point for point in points if (component, point) not in estimator.points]
    if other:
        raise UserError(
            f"{component} has {len(other)} of {len(points)} points that {estimator.title} does not have (the "
            f"first: {_shorten(other[0])}); {_EXPECTED}"
        )


def check_size(content: bytes, header: Header, size: int | None = None) -> Body:
    """Refuse frames that the file is too short for, before memory is allocated for them.

    size: of the file, if `content` is only its beginning.
    """
    points = len(header.stored)
    # not from the parsed header, which pose-format caches and some of its functions modify
    stored, width, height = struct.unpack_from("<fHH", content)
    version = round(stored, 3) if math.isfinite(stored) else stored
    offset = _BEFORE + len(header.content)
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


def _checked_clip(
    pose: Pose, header: Header, width: float, person: str
) -> tuple[PoseClip, np.ndarray | None]:
    """One person of a pose of pose-format; the people of each frame, None if it has one person."""
    body, axes, layout = pose.body, header.axes, header.stored
    data, confidence = body.data, np.asarray(body.confidence)
    if data.ndim != 4 or confidence.shape != data.shape[:3] or data.shape[3] != axes or 0 in data.shape:
        raise UserError(
            f"it holds data {data.shape} and confidences {confidence.shape}; expected [frames, people, "
            f"points, {axes}] and [frames, people, points] with at least one frame and one person"
        )
    if len(layout) != data.shape[2]:
        raise UserError(f"its header names {len(layout)} points, its frames hold {data.shape[2]}")
    mask = np.ma.getmask(data)
    if mask is not np.ma.nomask:
        hidden = mask[..., 0] | mask[..., 1] | mask[..., -1]  # any(axis=-1) takes ten times as long
        confidence = np.where(hidden, 0, confidence)
    warn_of_people(data.shape[1], person)
    values, trust, counts = _one_person(np.ma.getdata(data), confidence, layout, person)
    with np.errstate(over="ignore"):  # an overflow to inf is reported below
        values, trust = np.array(values, dtype=np.float32), np.array(trust, dtype=np.float32)
    missing = trust == 0
    _hide(values, missing)
    _check_finite(values, trust, layout)
    if header.columns is not None:
        missing = missing[:, header.columns]
    values, trust = header.mapped(values, trust)
    return _clip(values, trust, missing, (float(body.fps), header.layout, width, axes == 3)), counts


def _clip(
    values: np.ndarray, trust: np.ndarray, missing: np.ndarray, about: tuple[float, PoseLayout, float, bool]
) -> PoseClip:
    """The clip of arrays of one person, changed in place. about: fps, layout, image width, with depth."""
    _hide(values, missing)
    low = trust < _LEAST_CONFIDENCE
    if trust.max() > 1 or (low > missing).any():  # as interpolation leaves them
        np.clip(trust, _LEAST_CONFIDENCE, 1, out=trust)
    trust[missing] = 0
    return PoseClip(values, trust, *about)


def _hide(values: np.ndarray, missing: np.ndarray) -> None:
    """Set missing points to 0, in place."""
    points = values.reshape(-1, values.shape[-1])
    points[np.flatnonzero(missing)] = 0  # takes half the time of values[missing]


def warn_of_people(count: int, rule: str) -> None:
    """Warn at the 1st, 10th, 100th ... file of this process with several people."""
    if count < 2:
        return
    _warned["people"] += 1
    files = _warned["people"]
    if str(files).strip("0") == "1":
        several = f"a pose holds {count} people" if files == 1 else f"{files} poses hold several people"
        others = " or ".join(name for name in RULES if name != rule)
        log.warning("%s: one is read, by dataset.person: %s (could be %s)", several, rule, others)


def _all_finite(numbers: np.ndarray) -> bool:
    # a sum is finite only if all terms are: one pass without a temporary array
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(numbers.sum())


def _check_finite(values: np.ndarray, confidence: np.ndarray, layout: PoseLayout) -> None:
    if _all_finite(values) and _all_finite(confidence):
        return
    for name, array in (("coordinates", values), ("confidence", confidence[..., None])):
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            frame, point = bad[0][:2]
            raise UserError(
                f"{len(bad)} {name} are NaN or infinite (the first: frame {frame}, "
                f"{'/'.join(layout.points[point])}); missing points must have confidence 0"
            )


_known: list[Header] = []


def _layout(header: PoseHeader) -> PoseLayout:
    return PoseLayout.of([(part.name, point) for part in header.components for point in part.points])


def _reason(error: Exception) -> str:
    return _shorten(str(error)) or type(error).__name__


def _shorten(text: Any, most: int = 160) -> str:
    shown = "".join(character if character.isprintable() else "?" for character in str(text))
    return shown if len(shown) <= most else shown[:most] + "..."

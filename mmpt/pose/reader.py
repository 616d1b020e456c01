"""`.pose` files -> PoseClip. Files are untrusted: everything in them is checked before use."""

import functools
import math
import os
import stat
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from pose_format import Pose
from pose_format.numpy import NumPyPoseBody
from pose_format.utils.reader import BufferReader

from mmpt.pose.clip import PoseClip, PoseLayout
from mmpt.pose.frames import clip_of_arrays, clip_of_pose, columns_of, warn_of_people
from mmpt.pose.header import BEFORE_NAMES, EXPECTED, Body, Header, check_size, parse_header, reason_of
from mmpt.pose.span import Span
from mmpt.utils.errors import TooLargeError, UserError
from mmpt.utils.files import UNREADABLE, file_stamp
from mmpt.utils.videos import how_to_extract, is_video

T = TypeVar("T")

MAX_BYTES = 4 << 30
"""Larger files are refused: over four hours of one person at 25 frames per second."""


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
        is_file = Path(path).is_file()
        if is_file and is_video(path):
            reason = f"this is a video, not a .pose file; {how_to_extract(Path(path).parent, '.pose')}"
        elif is_file and Path(path).suffix.lower() == ".json":
            reason = "this is JSON, not a .pose file; convert it: `signclip poses convert FILE --out OUT`"
        raise UserError(f"{path}: {reason}") from None


def read_recording(path: str | os.PathLike[str], person: str = "first") -> PoseClip:
    """read_pose with a cache of one file, for reading several parts of it."""
    try:
        changed = file_stamp(Path(path).stat())
    except OSError:  # read_pose reports it
        changed = None
    return _cached(os.fspath(path), person, changed)


def read_clip(
    path: str | os.PathLike[str], span: Span | None = None, person: str = "first", warn: bool = False
) -> PoseClip:
    """The part `span` of a `.pose` file; None: all of it. Raises UserError, which names the file.

    warn: say once if the span ends after the recording.
    """
    if span is None:
        return read_pose(path, person=person)
    recording = read_recording(path, person)
    try:
        name = Path(path) if warn else None
        return recording.frames(span.frames(len(recording), recording.fps, name))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


@functools.lru_cache(maxsize=1)
def _cached(path: str, person: str, changed: object) -> PoseClip:
    return read_pose(path, person=person)


def stores_whole_fps(path: str | os.PathLike[str]) -> bool:
    """Whether a `.pose` file, which read_pose can read, stores its frame rate as an integer (before 0.2)."""
    with open(path, "rb") as file:
        return struct.unpack("<f", file.read(4))[0] < 0.15


def from_pose(pose: Pose, person: str = "first") -> PoseClip:
    """Convert one person of a pose in memory (see read_pose); `pose` is not changed. Raises UserError."""
    return clip_of_pose(pose, Header.of(pose.header), float(pose.header.dimensions.width), person)[0]


def check_file(path: Path) -> int:
    """The size of a file in bytes. Raises OSError, and UserError if it cannot be a pose."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"this is not a regular file; {EXPECTED}")
    if status.st_size == 0:
        raise UserError(f"the file is empty; {EXPECTED}")
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
        counts = clip.present.any(axis=1).astype(np.intp)
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


def _parse_frame_by_frame(
    content: bytes, header: Header, body: Body, components: Collection[str] | None, person: str
) -> tuple[PoseClip, np.ndarray | None]:
    """_parse for version 0.0, whose frames have different numbers of people."""
    reader = BufferReader(content)
    reader.read_offset = BEFORE_NAMES + len(header.content)
    try:
        pose = Pose(header.parsed, NumPyPoseBody.read_v0_0(header.parsed, reader))
    except Exception as error:
        raise UserError(f"the frames cannot be parsed ({reason_of(error)}); {EXPECTED}") from None
    if extra := len(content) - reader.read_offset:
        raise UserError(f"{extra:,} bytes follow the frames (a second pose?); {EXPECTED}")
    clip, counts = clip_of_pose(pose, header, float(body.width), person)
    if components is None:
        return clip, counts
    layout, columns = columns_of(clip.layout, frozenset(components))
    return clip.select(np.r_[tuple(columns)], layout), counts

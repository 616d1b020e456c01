"""Long `.pose` files, read a part at a time."""

import os
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mmpt.pose.clip import PoseClip
from mmpt.pose.frames import clip_of_arrays, warn_of_people
from mmpt.pose.header import MAX_HEADER_BYTES, Body, Header, check_size, parse_header
from mmpt.pose.reader import check_file, read_pose
from mmpt.utils.errors import UserError
from mmpt.utils.files import UNREADABLE


class PoseRecording:
    """A `.pose` file of any length; `frames` reads a part of it, which equals that part of read_pose.

    Files of version 0.0, and of several people with the rule "tracked" (the person depends on all frames
    before), are read whole. Raises UserError, which names the file.
    """

    def __init__(self, path: str | os.PathLike[str], person: str = "first"):
        self.path = Path(path)
        self._person = person
        self._header, self._body = _read_head(self.path)
        warn_of_people(self._body.people, person)
        self.fps = self._body.fps

    def __len__(self) -> int:
        return self._body.frames

    def frames(self, start: int, stop: int) -> PoseClip:
        """The frames from `start` to `stop`, exclusive. Raises UserError for NaN in them."""
        assert 0 <= start < stop <= len(self), (start, stop, len(self))
        if self._body.version == 0 or (self._person == "tracked" and self._body.people > 1):
            return self._whole.frames(slice(start, stop))
        body, points = self._body, len(self._header.stored)
        axes, row = self._header.axes, self._body.people * points
        try:
            with self.path.open("rb") as file:
                values = _floats(file, body.start + 4 * start * row * axes, (stop - start) * row * axes)
                trust = _floats(
                    file, body.start + 4 * row * (body.frames * axes + start), (stop - start) * row
                )
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path}: {UNREADABLE} ({error})") from None
        shape = (stop - start, body.people, points)
        try:
            people = values.reshape(*shape, axes), trust.reshape(shape)
            return clip_of_arrays(people, self._header, body, None, self._person)[0]
        except UserError as error:
            raise UserError(f"{self.path}, frames {start} to {stop - 1}: {error}") from None

    @cached_property
    def _whole(self) -> PoseClip:
        return read_pose(self.path, person=self._person)


def extent_of(path: Path) -> tuple[int, float]:
    """Frames of a `.pose` file, and how many there are per second. Raises UserError."""
    _, body = _read_head(path)
    return body.frames, body.fps


def _read_head(path: Path) -> tuple[Header, Body]:
    """What precedes the frames. Raises UserError, which names the file."""
    try:
        size = check_file(path)
        with path.open("rb") as file:
            head = file.read(MAX_HEADER_BYTES + 64)
        header = parse_header(head)
        return header, check_size(head, header, size)
    except OSError as error:
        raise UserError(f"{path}: {UNREADABLE} ({error.strerror})") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _floats(file: BinaryIO, start: int, count: int) -> np.ndarray:
    """`count` float32 from byte `start` on. Raises ValueError if the file has become shorter."""
    file.seek(start)
    found = np.fromfile(file, "<f4", count)
    if len(found) != count:
        raise ValueError("it was changed while it was read")
    return found

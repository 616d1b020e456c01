"""The windows of a recording, and their features: those of the same span read as a clip of its own."""

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt.embedding.clip_loader import Windows
from mmpt.embedding.embedder import SignCLIP
from mmpt.pose.recording import PoseRecording
from mmpt.pose.span import Span
from mmpt.utils.errors import UserError
from mmpt.utils.videos import how_to_extract, is_video

Spans = NDArray[np.int64]
"""[N, 2]: first frame and the frame after the last."""


@dataclass(frozen=True)
class WindowGrid:
    """Windows of several lengths that start every `step` seconds. Raises UserError for impossible values.

    The last window of each length ends with the recording; a recording that is shorter is one window.
    """

    lengths: tuple[float, ...] = (0.5, 1.0, 2.0)
    step: float = 0.2

    def __post_init__(self) -> None:
        values = (*self.lengths, self.step)
        if not self.lengths or not all(0 < value < math.inf for value in values):
            raise UserError(
                f"the lengths of the windows are {list(self.lengths)} s and the step is {self.step} s: "
                "expected numbers of seconds above 0."
            )

    def spans(self, count: int, fps: float) -> Spans:
        """The windows of a recording of `count` frames, each once, ordered by start and end."""
        found = {
            (part.start, part.stop)
            for length in self.lengths
            for part in Windows(1000 * length, 1000 * self.step).spans(count, fps)
        }
        return np.array(sorted(found), np.int64)


class UnreadableError(UserError):
    """This recording cannot be read; others may be."""


@contextlib.contextmanager
def _unreadable() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UnreadableError(error) from None


class Recording:
    """A recording that a model reads: a `.pose` file, or `.npy` features of `fps` frames per second.

    mirror: signed with the left hand. Raises UserError for a kind of file that the model does not read, and
    UnreadableError for a damaged file.
    """

    def __init__(
        self,
        model: SignCLIP,
        path: str | os.PathLike[str],
        mirror: bool = False,
        fps: float | None = None,
    ):
        self.path = Path(path)
        self.mirror = mirror
        self._processor: Any = model.video_processor
        self._aligner = model.aligner
        suffix = self._processor.suffix
        if is_video(path):
            raise UserError(f"{path} is a video; {how_to_extract(self.path.parent, suffix)}")
        if self.path.suffix.lower() != suffix:
            raise UserError(f"{path}: this model reads {suffix} files.")
        self._poses: PoseRecording | None = None
        if suffix == ".pose":
            if fps is not None:
                raise UserError(f"{path}: its frame rate is in the file; fps is for .npy features.")
            with _unreadable():
                self._poses = PoseRecording(path, self._processor.prepare.person)
            self.fps, self.count = self._poses.fps, len(self._poses)
            return
        if fps is None or not 0 < fps < math.inf:
            raise UserError(f"{path}: features have no frame rate: give it (--fps).")
        with _unreadable():
            self.fps, (self.count, width) = fps, self._processor.shape(path, mirror)
        if width != model.model_cfg.vfeat_dim:
            raise UnreadableError(f"{path}: feature dimension {width}, expected {model.model_cfg.vfeat_dim}.")

    def features(self, spans: Spans) -> list[NDArray[np.float32] | UserError]:
        """The features [T, D] that the model reads of each window, or why it has none."""
        found: list[NDArray[np.float32] | UserError] = []
        for (start, stop), frames in zip(spans.tolist(), self._frames(spans)):
            if not isinstance(frames, UserError):
                try:
                    frames = self._aligner.cut(f"{self.path}, frames {start} to {stop - 1}", frames)
                except UserError as error:
                    frames = error
            found.append(frames)
        return found

    def is_blank(self, features: NDArray[np.float32]) -> bool:
        """Whether a window shows no hand that the model reads: its embedding does not depend on the signs."""
        return bool(self._processor.blank(features))

    def _frames(self, spans: Spans) -> Sequence[NDArray[np.float32] | UserError]:
        if self._poses is None:
            parts = (Span(start, stop, "frames") for start, stop in spans.tolist())
            return [self._processor(self.path, mirror=self.mirror, span=part) for part in parts]
        first = int(spans[:, 0].min())
        clip = self._poses.frames(first, int(spans[:, 1].max()))
        parts_of_clip = [slice(start, stop) for start, stop in (spans - first).tolist()]
        prepared = self._processor.prepare.windows(clip, parts_of_clip, self.mirror)
        features = iter(self._processor.features_of([p for p in prepared if not isinstance(p, UserError)]))
        return [part if isinstance(part, UserError) else next(features) for part in prepared]

"""Load the clips of a folder or a table as features, whole or in sliding windows. Does not import torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt.pose.clip import PoseClip
from mmpt.pose.reader import read_pose, read_recording
from mmpt.pose.span import Span
from mmpt.processors.aligner import DSAligner
from mmpt.processors.table import clip_files
from mmpt.processors.table_file import Table, TableRow
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import files_under
from mmpt.utils.videos import how_to_extract, is_video

_FRAMES_AT_ONCE = 2048
"""Frames that read_all prepares at once, which bounds the memory."""


@dataclass(frozen=True)
class ClipJob:
    """One clip to embed.

    listed: the path as in the table or relative to the folder. span: the part of the file. mirror: signed
    with the left hand.
    """

    id: str
    path: str
    listed: str
    span: Span | None = None
    mirror: bool = False


@dataclass(frozen=True)
class Windows:
    """Sliding windows of `length` ms, every `stride` ms; the last one ends with the recording."""

    length: float
    stride: float

    def spans(self, count: int, fps: float) -> list[slice]:
        """The frames of each window of a recording of `count` frames; a shorter recording is one window."""
        length = max(1, round(self.length * fps / 1000))
        starts = [0]
        while starts[-1] + length < count:
            begin = round(len(starts) * self.stride * fps / 1000)
            starts.append(min(max(begin, starts[-1] + 1), count - length))
        return [slice(start, min(start + length, count)) for start in starts]


@dataclass(frozen=True)
class Piece:
    """Features float32 [T, D] of a clip or of a window of it.

    start_ms, end_ms: of the window; None for a whole clip. cut: it has more frames than the model reads.
    blank: it shows no hand that the model reads (see PoseFeatures.blank).
    """

    frames: NDArray[np.float32]
    start_ms: float | None = None
    end_ms: float | None = None
    cut: bool = False
    blank: bool = False


@dataclass(frozen=True)
class ClipLoader:
    """job -> its pieces, or the error message. Clips are prepared as in training, without augmentation.

    processor, aligner: those of the model. width: feature dimension (model.vfeat_dim).
    """

    processor: Any
    aligner: DSAligner
    width: int
    windows: Windows | None = None

    def __call__(self, job: ClipJob) -> list[Piece] | str:
        """The pieces of one clip, or the error message."""
        try:
            if self.windows:
                return self._windows(job, self.windows)
            return [self._piece(job, self.processor(job.path, mirror=job.mirror, span=job.span))]
        except UserError as error:
            return str(error)

    def read_all(self, jobs: Sequence[ClipJob]) -> list[list[Piece] | str]:
        """self(job) for each of `jobs`; poses are prepared together, which is faster."""
        if self.windows or self.processor.suffix != ".pose":
            return [self(job) for job in jobs]
        results: dict[int, list[Piece] | str] = {}
        held: dict[int, PoseClip] = {}
        for number, job in enumerate(jobs):
            try:
                held[number] = self.processor.prepare(job.path, job.mirror, job.span)
            except UserError as error:
                results[number] = str(error)
            if number == len(jobs) - 1 or sum(map(len, held.values())) > _FRAMES_AT_ONCE:
                for index, frames in zip(held, self.processor.features_of(list(held.values()))):
                    try:
                        results[index] = [self._piece(jobs[index], frames)]
                    except UserError as error:
                        results[index] = str(error)
                held.clear()
        return [results[number] for number in range(len(jobs))]

    def _windows(self, job: ClipJob, windows: Windows) -> list[Piece]:
        prepare = self.processor.prepare
        read = read_pose if job.span is None else read_recording
        clip = read(job.path, person=prepare.person)
        try:
            first = 0
            if job.span is not None:
                part = job.span.frames(len(clip), clip.fps, job.path)
                first, clip = part.start, clip.frames(part)
            pieces: list[tuple[NDArray[np.float32], float, float]] = []
            for part in windows.spans(len(clip), clip.fps):
                prepared = prepare.clip(clip.frames(part), job.mirror)
                start, end = ((first + frame) * 1000 / clip.fps for frame in (part.start, part.stop))
                pieces.append((self.processor.features(prepared), start, end))
        except UserError as error:
            raise UserError(f"{job.path}: {error}") from None
        return [self._piece(job, *piece) for piece in pieces]

    def _piece(
        self, job: ClipJob, frames: NDArray[np.float32], start: float | None = None, end: float | None = None
    ) -> Piece:
        if frames.ndim != 2 or not len(frames) or frames.shape[1] != self.width:
            raise UserError(
                f"{job.path}: its features have shape {list(frames.shape)}; [T, {self.width}] was expected."
            )
        kept = self.aligner.cut(job.id, frames)
        return Piece(kept, start, end, cut=len(kept) < len(frames), blank=self.processor.blank(kept))


def check_windows(length: float | None, stride: float | None, suffix: str) -> Windows | None:
    """The sliding windows of --window and --stride (ms), None without them. Raises UserError."""
    if length is None:
        if stride is not None:
            raise UserError("--stride is for sliding windows: give --window too.")
        return None
    if suffix != ".pose":
        raise UserError("--window needs poses: feature files have no frame rate.")
    stride = length / 2 if stride is None else stride
    if not (0 < length < math.inf and 0 < stride < math.inf):
        raise UserError(f"--window {length:g} --stride {stride:g}: expected milliseconds above 0.")
    return Windows(length, stride)


def folder_jobs(folder: Path, suffix: str, out: Path) -> list[ClipJob]:
    """A job for each clip under a folder, without those in `out`; ids are paths without their suffix.

    Files are skipped as in files_under. Raises MissingDataError if there are none, UserError if `out` is the
    folder of the features or if two clips have the same id.
    """
    if suffix == ".npy" and out.exists() and out.samefile(folder):
        raise UserError(f"--out {out} is --in itself: embeddings would be written among the features.")
    files = sorted(path for path in files_under(folder, skip=out) if path.suffix.lower() == suffix)
    if not files:
        videos = sum(map(is_video, files_under(folder, skip=out)))
        hint = f" It holds {videos} videos: {how_to_extract(folder, suffix)}." if videos else ""
        raise MissingDataError(f"{folder}: no {suffix} files, which this model reads.{hint}")
    jobs: dict[str, ClipJob] = {}
    for path in files:
        name = path.relative_to(folder)
        job = ClipJob(name.with_suffix("").as_posix(), str(path), name.as_posix())
        if jobs.setdefault(job.id, job) != job:
            raise UserError(
                f"{jobs[job.id].path} and {path} would both have the id {job.id!r}: rename one of them."
            )
    return list(jobs.values())


def table_jobs(table: Table, rows: list[TableRow], suffix: str, folder: Path | None = None) -> list[ClipJob]:
    """A job for each row of a table. folder: of the features (dataset.vfeat_dir). Raises UserError."""
    return [
        ClipJob(row.id, str(file), row.values["path"], row.span, row.left_handed)
        for row, file in zip(rows, clip_files(table, rows, suffix, folder))
    ]

"""The model of the server: embeds the clips and prompts of several requests in one batch."""

import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt.embedding.embedder import SignCLIP
from mmpt.processors.example import blank_warning
from mmpt.utils.arrays import non_finite, why_non_finite
from mmpt.utils.errors import UserError
from mmpt.utils.videos import is_video

Vectors = NDArray[np.float32]

_KEPT_BYTES = 64 << 20
"""Embeddings of prompts that are kept."""


@dataclass(frozen=True)
class Upload:
    """The file of a clip. name: as the client gave it, for messages."""

    name: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Job:
    """What one request wants to be embedded. mirror: the clips were signed with the left hand."""

    clips: Sequence[Upload] = ()
    prompts: Sequence[str] = ()
    mirror: bool = False


@dataclass(frozen=True)
class Embedded:
    """Embeddings of a job's clips and prompts, float32 [N, D].

    clip_warnings: for each clip, what the model does not read of it. prompt_warnings: of all prompts.
    """

    clips: Vectors
    prompts: Vectors
    clip_warnings: list[list[str]]
    prompt_warnings: list[str]


@dataclass
class _Work:
    """A job on its way. clips: read and prepared, then features [T, D], then cut to what the model reads."""

    job: Job
    clips: list[Any] = field(default_factory=list)
    warnings: list[list[str]] = field(default_factory=list)
    error: UserError | None = None


def reason_of(upload: Upload, error: UserError) -> str:
    """Why an upload cannot be read: a video is not described as a broken pose."""
    if not is_video(upload.name):
        return str(error)
    return (
        "it is a video, and a pose or features are expected: extract them first (`signclip extract`, or "
        "/api/extract of a server with --allow-video)"
    )


class Engine:
    """Embeds the clips and prompts of many jobs together. For one thread.

    most_frames: of the longest clip that is accepted.
    """

    def __init__(self, model: SignCLIP, most_frames: int):
        self.model = model
        model.model.prepare_for_short_batches()
        self._processor = model.video_processor
        self._most_frames = most_frames
        self._known: dict[str, Vectors] = {}

    def __call__(self, jobs: Sequence[Job]) -> list[Embedded | Exception]:
        """The embeddings of each job, or the UserError for it."""
        works = [_Work(job) for job in jobs]
        good = _without_errors(works, self._read)
        self._compute_features(good)
        good = _without_errors(good, self._cut)
        vectors = iter(self.model.embed_prepared([clip for work in good for clip in work.clips]))
        self._embed_prompts(dict.fromkeys(prompt for work in good for prompt in work.job.prompts))
        return [work.error or self._result(work, vectors) for work in works]

    def _read(self, work: _Work) -> None:
        for prompt in work.job.prompts:
            self.model.text_processor(prompt)
        for upload in work.job.clips:
            try:
                work.clips.append(self._prepared(upload, work.job.mirror))
            except UserError as error:
                raise type(error)(f"clip {upload.name}: {reason_of(upload, error)}") from None

    def _prepared(self, upload: Upload, mirror: bool) -> Any:
        if self._processor.suffix == ".pose":
            return self._processor.prepare.parse(upload.content, self._most_frames, mirror)
        with tempfile.NamedTemporaryFile(suffix=self._processor.suffix) as file:
            file.write(upload.content)
            file.flush()
            try:
                frames = self._processor(file.name, mirror=mirror)
            except UserError as error:
                raise type(error)(str(error).removeprefix(f"{file.name}: ")) from None
        width = self.model.model_cfg.vfeat_dim
        if frames.ndim != 2 or frames.shape[1] != width or not len(frames):
            raise UserError(f"its features have shape {list(frames.shape)}; expected [T, {width}].")
        return frames

    def _compute_features(self, works: Sequence[_Work]) -> None:
        if self._processor.suffix != ".pose":
            return
        clips = iter(self._processor.features_of([clip for work in works for clip in work.clips]))
        for work in works:
            work.clips = list(itertools.islice(clips, len(work.clips)))

    def _cut(self, work: _Work) -> None:
        for number, (upload, frames) in enumerate(zip(work.job.clips, work.clips)):
            kept = self.model.aligner.cut(upload.name, frames)
            warnings = []
            if len(kept) < len(frames):
                how = self.model.aligner.long_video
                warnings.append(
                    f"the model reads {len(kept)} of its {len(frames)} frames (long_video: {how})"
                )
            if self._processor.blank(kept):
                warnings.append(blank_warning([upload.name], 1, self._processor.blank_means))
            work.clips[number] = kept
            work.warnings.append(warnings)

    def _embed_prompts(self, prompts: Sequence[str] | dict[str, None]) -> None:
        """Embed the prompts that are not in the cache."""
        if (len(self._known) + len(prompts)) * 4 * self.model.dim > _KEPT_BYTES:
            self._known.clear()
        new = [prompt for prompt in prompts if prompt not in self._known]
        self._known |= zip(new, self.model.embed_text(new))

    def _result(self, work: _Work, vectors: Any) -> Embedded | UserError:
        job = work.job
        clips = np.array(list(itertools.islice(vectors, len(work.clips)))).reshape(-1, self.model.dim)
        for row in non_finite(clips):
            return UserError(why_non_finite(f"clip {job.clips[row].name}", work.clips[row]))
        prompts = np.array([self._known[prompt] for prompt in job.prompts]).reshape(-1, self.model.dim)
        lost = self.model.text_processor.what_is_lost(job.prompts)
        return Embedded(clips.astype(np.float32), prompts.astype(np.float32), work.warnings, lost)


def _without_errors(works: Sequence[_Work], step: Callable[[_Work], None]) -> list[_Work]:
    """Those for which a step raises no UserError."""
    for work in works:
        try:
            step(work)
        except UserError as error:
            work.error = error
    return [work for work in works if work.error is None]

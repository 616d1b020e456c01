"""Windows -> embeddings -> similarities with targets, block by block of a recording."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmpt.embedding.embedder import SignCLIP
from mmpt.evaluators.metrics.similarity import similarity
from mmpt.spotting.windows import Recording, Spans, WindowGrid
from mmpt.utils.errors import UserError

_FRAMES_AT_ONCE = 1024
"""Frames in which the windows of a block start; bounds the memory."""


@dataclass(frozen=True)
class Targets:
    """What is searched for: names, and the vectors of each (a prompt, or examples).

    names: of n targets. vectors: float32 [m, D]. owners: intp [m], the target of each vector; the score of a
    target is that of its most similar vector. measure: "cosine" or "dot". source: a digest of the names and
    of the texts or stored vectors they come from; unlike computed vectors, it is the same on every machine.
    """

    names: list[str]
    vectors: NDArray[np.float32]
    owners: NDArray[np.intp]
    measure: str
    source: str

    @classmethod
    def of(
        cls,
        labels: Sequence[str],
        vectors: NDArray[np.float32],
        measure: str = "cosine",
        texts: Sequence[str] | None = None,
    ) -> "Targets":
        """Vectors [m, D] with their labels [m]; vectors with the same label are one target.

        texts: what the vectors are embeddings of, if they were not stored.
        """
        source = hashlib.sha256(json.dumps([[*labels], texts and [*texts]]).encode())
        if texts is None:
            source.update(np.ascontiguousarray(vectors).tobytes())
        names = list(dict.fromkeys(labels))
        number = {name: n for n, name in enumerate(names)}
        owners = np.array([number[label] for label in labels], np.intp)
        order = np.argsort(owners, kind="stable")
        return cls(names, vectors[order], owners[order], measure, source.hexdigest()[:16])

    @classmethod
    def of_texts(
        cls, model: SignCLIP, texts: Sequence[str], labels: Sequence[str] | None = None
    ) -> "Targets":
        """Prompts, under their own name or under `labels`."""
        if not len(texts):
            raise UserError("there is no text to search for.")
        return cls.of(labels or texts, model.embed_text(texts), texts=texts)

    def scores(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Similarity of each of `vectors` [N, D] with each target, float32 [N, n]."""
        found = similarity(self.vectors, vectors, self.measure)
        if len(self.names) == len(self.owners):
            return found.T
        firsts = np.flatnonzero(np.diff(self.owners, prepend=-1))
        return np.maximum.reduceat(found, firsts, axis=0).T


@dataclass
class Unread:
    """Windows without a score: how many, and the first error of those that could not be read.

    blank: they show no hand that the model reads. bad: they could not be prepared or embedded, such as
    without shoulders.
    """

    windows: int = 0
    blank: int = 0
    bad: int = 0
    first_error: str = ""

    def add_error(self, reason: str) -> None:
        """Count a window that could not be read."""
        self.bad += 1
        self.first_error = self.first_error or reason


class Block(NamedTuple):
    """Windows int64 [N, 2], in order, and their embeddings [N, D]; a row of NaN where there is none."""

    spans: Spans
    vectors: NDArray[np.float32]


def embed_windows(
    model: SignCLIP, recording: Recording, grid: WindowGrid, unread: Unread | None = None
) -> Iterator[Block]:
    """The embeddings of all windows of a recording, in blocks; while one is computed, the next is read.

    A row equals `model.embed_pose` of that span as a clip of its own. Windows that show no hand that the
    model reads, or that cannot be prepared, have a row of NaN and are counted in `unread`. Raises UserError
    if no window of the recording can be read.
    """
    unread = Unread() if unread is None else unread
    spans = grid.spans(recording.count, recording.fps)
    unread.windows = len(spans)
    ends = np.searchsorted(spans[:, 0], np.arange(0, recording.count, _FRAMES_AT_ONCE)[1:])
    blocks = [block for block in np.split(spans, ends) if len(block)]
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(recording.features, blocks[0])
        for number, block in enumerate(blocks):
            features = following.result()
            if number + 1 < len(blocks):
                following = thread.submit(recording.features, blocks[number + 1])
            yield Block(block, _embed(model, recording, features, unread))
    if unread.bad == unread.windows:
        raise UserError(
            f"{recording.path}: none of its {unread.bad} windows can be read: {unread.first_error}"
        )


def _embed(
    model: SignCLIP,
    recording: Recording,
    features: Sequence[NDArray[np.float32] | UserError],
    unread: Unread,
) -> NDArray[np.float32]:
    """float32 [N, D], NaN where there is no embedding."""
    rows, clips = list[int](), list[NDArray[np.float32]]()
    for row, frames in enumerate(features):
        if isinstance(frames, UserError):
            unread.add_error(str(frames))
        elif recording.is_blank(frames):
            unread.blank += 1
        else:
            rows.append(row)
            clips.append(frames)
    vectors = np.full((len(features), model.dim), np.nan, np.float32)
    vectors[rows] = model.embed_prepared(clips)
    for row in rows:
        if not np.isfinite(vectors[row]).all():
            vectors[row] = np.nan
            unread.add_error("its embedding is NaN or infinite: check the model's weights and --autocast")
    return vectors


def window_scores(
    model: SignCLIP, recording: Recording, targets: Targets, grid: WindowGrid, unread: Unread | None = None
) -> Iterator[tuple[Spans, NDArray[np.float32]]]:
    """Blocks of windows [N, 2] and their scores with the targets, float32 [N, n]; NaN without a score."""
    for block in embed_windows(model, recording, grid, unread):
        scores = np.full((len(block.spans), len(targets.names)), np.nan, np.float32)
        there = np.flatnonzero(np.isfinite(block.vectors[:, 0]))
        if len(there):
            scores[there] = targets.scores(block.vectors[there])
        yield block.spans, scores

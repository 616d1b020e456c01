"""Parts of recordings that are drawn in training: any frames of a file, besides those of a clip."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mmpt.config.dataset_options import ClipStorage
from mmpt.pose.clip import PoseClip
from mmpt.pose.preparation import PosePreparation
from mmpt.pose.sharded_store import ShardedStore
from mmpt.pose.span import Span
from mmpt.pose.store import PoseStore, StoreRequest
from mmpt.processors.example import ClipSource, Example
from mmpt.processors.npy_video import VideoProcessor
from mmpt.processors.pose_video import PoseProcessor, default_cache, open_store
from mmpt.utils.errors import UserError

log = logging.getLogger(__name__)

Rngs = Sequence[np.random.Generator | None]


class Recordings(Protocol):
    """The recordings of the clips of a split, of which any part is read."""

    @property
    def examples(self) -> Sequence[Example]:
        """The clips."""

    def extent(self, index: int) -> tuple[int, float | None]:
        """Frames of a clip's recording, and how many there are per second (None: unknown)."""

    def features_of_parts(
        self, indices: Sequence[int], parts: Sequence[slice], rngs: Rngs
    ) -> list[np.ndarray]:
        """Features of these frames of the clips' recordings, prepared and augmented like a clip's."""


def open_recordings(
    processor: PoseProcessor | VideoProcessor, clips: ClipSource, storage: ClipStorage
) -> Recordings:
    """The recordings of the clips of a split, each stored once. Raises as the processor's `open`."""
    if isinstance(processor, PoseProcessor):
        store = open_store(recordings_request(processor, clips.examples, storage), storage.store_shards)
        return PoseRecordings(clips, store, processor)
    return FeatureRecordings(clips.examples, processor)


@dataclass(frozen=True)
class RecordingReader:
    """File -> the recording, unprepared, with the components that clips are prepared of."""

    prepare: PosePreparation

    def __call__(self, path: str | os.PathLike[str]) -> PoseClip:
        """Read a file. Raises UserError."""
        return self.prepare.read(path, self.prepare.needed)

    def key(self) -> dict[str, Any]:
        """See PosePreparation.key."""
        parts = {"components": sorted(self.prepare.needed), "person": self.prepare.person}
        return {"processor": "recordings", "version": 1, **parts}


def recordings_request(
    processor: PoseProcessor, examples: Sequence[Example], storage: ClipStorage
) -> StoreRequest:
    """What the store of the examples' recordings holds: each file once, always float32 (its unit: pixels)."""
    reader = RecordingReader(processor.prepare)
    return StoreRequest(
        list(dict.fromkeys(str(example.path) for example in examples)),
        reader.key(),
        reader,
        storage.cache_dir or default_cache(),
        check_sources=storage.check_sources,
    )


class PoseRecordings:
    """Recordings of poses, in a store of their own. A part is normalised by its own frames, like a clip.

    store: of recordings_request. A part that cannot be normalised (it shows no shoulders) is replaced by the
    clip itself; the first one of a process is a warning. Where a part shows no hand, the unit of z is that of
    the components in the store.
    """

    def __init__(self, clips: ClipSource, store: PoseStore | ShardedStore, processor: PoseProcessor):
        self.examples = clips.examples
        self._clips = clips
        self._store = store
        self._processor = processor
        number = {path: i for i, path in enumerate(dict.fromkeys(str(e.path) for e in clips.examples))}
        self._rows = [number[str(example.path)] for example in clips.examples]
        self._frames, self._rates = store.lengths, store.rates
        self._warned = False

    def extent(self, index: int) -> tuple[int, float | None]:
        """See Recordings."""
        row = self._rows[index]
        return int(self._frames[row]), float(self._rates[row])

    def features_of_parts(
        self, indices: Sequence[int], parts: Sequence[slice], rngs: Rngs
    ) -> list[np.ndarray]:
        """See Recordings."""
        found: dict[int, np.ndarray] = {}
        prepared: dict[int, PoseClip] = {}
        for place, (index, part) in enumerate(zip(indices, parts)):
            try:
                clip = self._store.part(self._rows[index], part)
                prepared[place] = self._processor.prepare.clip(clip, self.examples[index].mirror)
            except UserError as error:
                self._warn(index, part, error)
                found[place] = self._clips.features(index, rngs[place])
        features = self._processor.features_of(list(prepared.values()), [rngs[place] for place in prepared])
        found |= zip(prepared, features)
        return [found[place] for place in range(len(indices))]

    def _warn(self, index: int, part: slice, error: UserError) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "clip %s: the drawn frames %d to %d cannot be used (%s): the clip itself is used instead; "
                "further ones are not reported",
                *(self.examples[index].video_id, part.start, part.stop, error),
            )


class FeatureRecordings:
    """Recordings in `.npy` files, whose rows are read when they are needed."""

    def __init__(self, examples: Sequence[Example], processor: VideoProcessor):
        self.examples = examples
        self._processor = processor
        paths = dict.fromkeys(example.path for example in examples)
        self._frames = {path: processor.shape(path)[0] for path in paths}

    def extent(self, index: int) -> tuple[int, float | None]:
        """See Recordings."""
        return self._frames[self.examples[index].path], None

    def features_of_parts(
        self, indices: Sequence[int], parts: Sequence[slice], rngs: Rngs
    ) -> list[np.ndarray]:
        """See Recordings."""
        return [
            self._processor(
                self.examples[index].path,
                rng,
                self.examples[index].mirror,
                Span(part.start, part.stop, "frames"),
            )
            for index, part, rng in zip(indices, parts, rngs)
        ]

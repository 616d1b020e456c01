"""Where the frames of a split's clips come from: a store of parsed poses, or feature files."""

import logging
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mmpt.pose.store import PoseStore, StoreRequest
from mmpt.processors.example import Example
from mmpt.utils.errors import UserError
from mmpt.utils.logging import some_of

log = logging.getLogger(__name__)


class ClipReader(Protocol):
    """The clips of a split, by number."""

    def features(self, index: int, rng: np.random.Generator | None) -> np.ndarray:
        """Frames of a clip, float32 [T, D]; augmented where there is a Generator and the split is for
        training."""

    def lengths(self) -> np.ndarray:
        """Frames of each clip before augmentation, int64 [N]."""


class PoseClips:
    """Poses, parsed once and kept on disk; augmentation and features are computed on the way out."""

    def __init__(self, store: PoseStore, processor: Any, rows: np.ndarray):
        self._store = store
        self._processor = processor
        self._rows = rows

    def features(self, index: int, rng: np.random.Generator | None) -> np.ndarray:
        """See ClipReader."""
        return self._processor.features(self._store[int(self._rows[index])], rng)

    def lengths(self) -> np.ndarray:
        """See ClipReader."""
        return self._processor.feature_lengths(self._store.lengths[self._rows].astype(np.int64))


class FeatureFiles:
    """Features that an extractor has written, one .npy a clip, read when they are needed."""

    def __init__(self, examples: list[Example], processor: Any, lengths: np.ndarray):
        self._examples = examples
        self._processor = processor
        self._lengths = lengths

    def features(self, index: int, rng: np.random.Generator | None) -> np.ndarray:
        """See ClipReader."""
        example = self._examples[index]
        return self._processor(example.path, rng, example.mirror, example.span)

    def lengths(self) -> np.ndarray:
        """See ClipReader."""
        return self._lengths


def open_clips(
    examples: list[Example],
    processor: Any,
    cache_dir: str | None,
    on_bad_example: str,
    store_dtype: str = "float32",
    width: int | None = None,
) -> tuple[list[Example], ClipReader]:
    """The clips of `examples`, and the examples that are readable.

    on_bad_example: "error" stops at the first clip that cannot be read (UserError), "skip" leaves such clips
    out and says how many and why; a split of which more than half is unreadable is an error all the same.
    store_dtype: how parsed poses are kept, float32 or float16. width: numbers in a frame; a file of features
    with others is unreadable.
    """
    if hasattr(processor, "prepare"):
        return _open_poses(examples, processor, cache_dir, on_bad_example, store_dtype)
    lengths, bad = [], {}
    for index, example in enumerate(examples):
        where = (example.path, example.mirror, example.span)
        try:
            if on_bad_example == "skip":  # what is left out must be known before training: all of it is read
                frames, numbers = processor(where[0], None, *where[1:]).shape
            else:
                frames, numbers = processor.shape(*where)
                width = (
                    numbers if index == 0 else width
                )  # the first tells, and the caller what is wrong with it
            if width is not None and numbers != width:
                raise UserError(f"{example.path}: {numbers} numbers a frame, {width} were expected")
            lengths.append(frames)
        except UserError as error:
            if on_bad_example == "error":
                raise
            lengths.append(0)
            bad[index] = str(error)
    rows = _readable(examples, bad)
    kept = [examples[i] for i in rows]
    return kept, FeatureFiles(kept, processor, np.array(lengths, dtype=np.int64)[rows])


def _open_poses(
    examples: list[Example], processor: Any, cache_dir: str | None, on_bad_example: str, store_dtype: str
) -> tuple[list[Example], ClipReader]:
    store = PoseStore.build_or_open(
        StoreRequest(
            [example.path for example in examples],
            processor.prepare_key(),
            processor.prepare,
            cache_dir or default_cache(),
            mirrored=[example.mirror for example in examples],
            dtype=store_dtype,
            spans=[example.span for example in examples],
            on_bad=on_bad_example,
            workers=0 if len(examples) < 5000 else (os.cpu_count() or 1),
        )
    )
    rows = _readable(examples, store.bad)
    empty = [examples[i].video_id for i in rows if not store.seen[i]]
    if empty:
        log.warning(
            "%d of %d clips show nothing of what the model reads (dataset.pose_components), their features "
            "are all zero: %s",
            *(len(empty), len(rows), some_of(empty)),
        )
    return [examples[i] for i in rows], PoseClips(store, processor, rows)


def _readable(examples: list[Example], bad: dict[int, str]) -> np.ndarray:
    if 2 * len(bad) > len(examples):
        reason = next(iter(bad.values()))
        raise UserError(f"{len(bad)} of {len(examples)} clips cannot be read; the first: {reason}")
    for reason in list(bad.values())[:10]:
        log.warning("left out: %s", reason)
    if len(bad) > 10:
        log.warning("and %d more clips left out", len(bad) - 10)
    return np.array([i for i in range(len(examples)) if i not in bad], dtype=np.int64)


def default_cache() -> Path:
    """Where parsed poses are kept: SIGNCLIP_CACHE, or ~/.cache/mmpt."""
    return Path(os.environ.get("SIGNCLIP_CACHE") or Path.home() / ".cache" / "mmpt") / "poses"

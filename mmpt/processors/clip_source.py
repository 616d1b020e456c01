"""The interface through which training and evaluation read the clips of a split."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from mmpt.processors.example import Example
from mmpt.registry import Registry
from mmpt.utils.errors import UserError
from mmpt.utils.logging import some_of

log = logging.getLogger(__name__)

VIDEO_PROCESSORS: Registry[Any] = Registry("video processor")
_LISTED = 10


class ClipSource(Protocol):
    """The readable clips of a split, by index. Returned by `open` of each video processor."""

    @property
    def examples(self) -> Sequence[Example]:
        """The clips, without the skipped ones."""

    def features(self, index: int, rng: np.random.Generator | None) -> np.ndarray:
        """A clip's features, float32 [T, D]; augmented if `rng` is given and the split is for training."""

    def features_of(
        self, indices: Sequence[int], rngs: Sequence[np.random.Generator | None]
    ) -> list[np.ndarray]:
        """`features` of several clips, which may be quicker together."""

    def lengths(self) -> np.ndarray:
        """Frames of each clip before augmentation, int64 [N]."""


def readable(examples: Sequence[Example], bad: Mapping[int, str]) -> np.ndarray:
    """Indices of the examples that are not in `bad` (index -> reason), int64; warns about the others.

    Raises UserError if more than half of the examples are bad.
    """
    if 2 * len(bad) > len(examples):
        reason = next(iter(bad.values()))
        raise UserError(f"{len(bad)} of {len(examples)} clips cannot be read; first error: {reason}")
    for reason in list(bad.values())[:_LISTED]:
        log.warning("skipped: %s", reason)
    if len(bad) > _LISTED:
        log.warning("and %d more clips skipped", len(bad) - _LISTED)
    return np.array([i for i in range(len(examples)) if i not in bad], dtype=np.int64)


def blank_warning(names: Sequence[str], total: int, means: str, what: str = "clips") -> str:
    """Say which of `total` clips show no hand that the model reads. means: blank_means of the processor."""
    return (
        f"{len(names)} of {total} {what} {means}: their embeddings do not depend on the signs: "
        f"{some_of(names)}"
    )

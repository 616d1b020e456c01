"""The interfaces of a corpus (its clips and their prompts) and of the open clips of a split."""

import abc
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mmpt.config.schema import DatasetConfig
from mmpt.pose.span import Span
from mmpt.processors.table_file import Table
from mmpt.registry import Registry
from mmpt.utils.errors import UserError
from mmpt.utils.logging import some_of
from mmpt.utils.text import counted, nfc

log = logging.getLogger(__name__)

META_PROCESSORS: Registry["type[MetaProcessor]"] = Registry("meta processor")
VIDEO_PROCESSORS: Registry[Any] = Registry("video processor")
_LISTED = 10


@dataclass(frozen=True)
class Example:
    """One clip and its prompt, whose texts become NFC.

    video_id: unique name. text: the prompt, which is also the clip's class. path: file of the pose or the
    features. mirror: the clip was signed with the left hand and is mirrored. group: results are also reported
    by group (a sign language, a signer); or "". span: the part of the file that is the clip; None: all of it.
    other_texts: further prompts of the clip, one for each further template; "": it has none by that template.
    Training draws from all of them. signer, language: "" where they are not known.
    """

    video_id: str
    text: str
    path: Path
    mirror: bool = False
    group: str = ""
    span: Span | None = None
    other_texts: tuple[str, ...] = ()
    signer: str = ""
    language: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", nfc(self.text))
        object.__setattr__(self, "other_texts", tuple(map(nfc, self.other_texts)))


class MetaProcessor(abc.ABC):
    """One split of a corpus. Subclasses fill `examples`, in a fixed order."""

    examples: list[Example]
    #: default of dataset.oversample: repeat clips of rare prompts, so that every training batch is full
    oversample = False
    #: probabilities of `text` and each of `other_texts` in training
    prompt_weights: Sequence[float] = (1.0,)

    #: clips and signers that this split shares with the training split, one line each, if known
    leaks: Sequence[str] = ()
    #: the table of clips, if the corpus is one
    table: Table | None = None

    @classmethod
    @abc.abstractmethod
    def from_config(cls, config: DatasetConfig, split: str, suffix: str) -> "MetaProcessor":
        """The split ("train", "valid" or "test") of a config; `suffix`: that of the clips' files.

        Raises MissingDataError for missing files, UserError for invalid ones.
        """

    @classmethod
    def table_templates(cls, config: DatasetConfig) -> list[str]:
        """The templates of the prompts, with the names of a table's columns.

        A model that was trained on this corpus is evaluated on a table with the first of them.
        """
        return list(config.prompt_templates)

    def describe(self) -> str:
        """One line for the log: the number of clips and prompts."""
        prompts = {example.text for example in self.examples}
        return f"{counted(len(self.examples), 'clip')} of {counted(len(prompts), 'prompt')}"


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

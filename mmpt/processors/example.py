"""The interface of a corpus: a list of clips with their prompts."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpt.config.schema import DatasetConfig
from mmpt.pose.span import Span
from mmpt.processors.table_file import Table
from mmpt.registry import Registry
from mmpt.utils.text import nfc

META_PROCESSORS: Registry[Any] = Registry("meta processor")


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

    def describe(self) -> str:
        """One line for the log: the number of clips and prompts."""
        return f"{len(self.examples)} clips of {len({e.text for e in self.examples})} prompts"

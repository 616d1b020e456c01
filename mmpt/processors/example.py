"""What a corpus is to the rest of the house: a list of clips with their prompts."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmpt.config.schema import DatasetConfig
from mmpt.pose.span import Span
from mmpt.processors.table_file import Table


@dataclass(frozen=True)
class Example:
    """One clip and what is signed in it.

    video_id: unique name. text: the prompt, which is also the clip's class. path: file of the pose or the
    features.
    mirror: the clip was signed with the left hand and is to be mirrored. group: what results are broken down
    by (a sign language, a signer), or "". span: the part of the file that is the clip; None: all of it.
    other_texts: further prompts of the same class, among which training draws.
    """

    video_id: str
    text: str
    path: Path
    mirror: bool = False
    group: str = ""
    span: Span | None = None
    other_texts: tuple[str, ...] = ()


class MetaProcessor(abc.ABC):
    """A corpus split: which clips, which prompts. Subclasses fill `examples`, in a fixed order."""

    examples: list[Example]
    #: whether training repeats clips of rare prompts, so that every batch is full, when YAML says nothing
    oversample = False
    #: how often training takes `text`, and each of `other_texts`: shares of 1
    prompt_weights: Sequence[float] = (1.0,)

    #: what this split shares with that of training, a line each, as far as the corpus itself can tell
    leaks: Sequence[str] = ()
    #: the table that the corpus is, if it is one
    table: Table | None = None

    @classmethod
    @abc.abstractmethod
    def from_config(cls, config: DatasetConfig, split: str, suffix: str) -> "MetaProcessor":
        """The split ("train", "valid" or "test") as a config describes it; `suffix` is that of the clips'
        files.

        Raises MissingDataError where files are not there, UserError where they are not as expected.
        """

    def describe(self) -> str:
        """One line for the log: what this split holds."""
        return f"{len(self.examples)} clips of {len({e.text for e in self.examples})} prompts"

"""The interface of a protocol, the registry of their names in `eval.protocol`, and the default, retrieval."""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mmpt.config.schema import EvalConfig
from mmpt.evaluators.prompt_sets import PromptSets, prompt_sets
from mmpt.evaluators.reports.results import ClipAnswers, EmbeddedSplit, make_results
from mmpt.processors.example import Example
from mmpt.registry import Registry

PROTOCOLS: Registry[type["EvaluationProtocol"]] = Registry("protocol")

LEVEL = 0.95
"""Coverage of the intervals."""


@dataclass(frozen=True)
class Evaluated:
    """An embedded split. train: returns the clips of the training split; may raise UserError."""

    embedded: EmbeddedSplit
    sets: PromptSets
    examples: Sequence[Example]
    train: Callable[[], Sequence[Example]]
    options: EvalConfig


class EvaluationProtocol(abc.ABC):
    """Makes the results of an embedded split. The columns of its tables are in reports/tables.py."""

    @classmethod
    def prompt_sets(cls, examples: Sequence[Example], options: EvalConfig) -> PromptSets:
        """The texts to embed. Raises UserError if the protocol cannot evaluate these clips."""
        return prompt_sets(examples, options)

    @classmethod
    @abc.abstractmethod
    def evaluate(cls, split: Evaluated) -> tuple[dict[str, Any], ClipAnswers | None]:
        """The content of results.json, and the answer to each clip (None: its nearest prompt).

        At least {"intervals", "bootstrap" if there are intervals, "n_videos", "n_prompts", "chance",
        "similarity"} and metrics by direction: "t2v", "v2t" or "v2v". "notes": lines to print.
        """


@PROTOCOLS.register("retrieval")
class Retrieval(EvaluationProtocol):
    """Clips and prompts; the clips of a prompt are all right (see mmpt/evaluators/metrics/retrieval.py)."""

    @classmethod
    def evaluate(cls, split: Evaluated) -> tuple[dict[str, Any], ClipAnswers | None]:
        """See EvaluationProtocol."""
        options = split.options
        return make_results(split.embedded, options.similarity, resamples=options.bootstrap), None

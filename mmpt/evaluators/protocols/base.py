"""The registry of the protocols in `eval.protocol`, what they take, and the default, retrieval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mmpt.config.schema import EvalConfig
from mmpt.evaluators.prompt_sets import PromptSets
from mmpt.evaluators.reports.results import ClipAnswers, EmbeddedSplit, make_results
from mmpt.processors.example import Example
from mmpt.registry import Registry


@dataclass(frozen=True)
class Evaluated:
    """An embedded split. train: returns the clips of the training split; may raise UserError."""

    embedded: EmbeddedSplit
    sets: PromptSets
    examples: Sequence[Example]
    train: Callable[[], Sequence[Example]]
    options: EvalConfig


EvaluationProtocol = Callable[[Evaluated], tuple[dict[str, Any], ClipAnswers | None]]
"""An embedded split -> the content of results.json, and the answer to each clip (None: its nearest prompt).

The results have at least {"intervals", "bootstrap" if there are intervals, "n_videos", "n_prompts", "chance",
"similarity"} and metrics by direction: "t2v", "v2t" or "v2v". "notes": lines to print. The columns of the
tables are in reports/tables.py.
"""
PROTOCOLS: Registry[EvaluationProtocol] = Registry("protocol")


@PROTOCOLS.register("retrieval")
def retrieval(split: Evaluated) -> tuple[dict[str, Any], ClipAnswers | None]:
    """Clips and prompts; the clips of a prompt are all right (see mmpt/evaluators/metrics/retrieval.py)."""
    return make_results(split.embedded, split.options.similarity, split.options.bootstrap), None

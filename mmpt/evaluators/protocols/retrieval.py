"""Protocol retrieval: clips and prompts; the clips of a prompt are all right."""

from typing import Any

from mmpt.evaluators.protocols.base import PROTOCOLS, Evaluated, EvaluationProtocol
from mmpt.evaluators.reports.results import ClipAnswers, make_results


@PROTOCOLS.register("retrieval")
class Retrieval(EvaluationProtocol):
    """See mmpt/evaluators/metrics/retrieval.py for the metrics."""

    @classmethod
    def evaluate(cls, split: Evaluated) -> tuple[dict[str, Any], ClipAnswers | None]:
        """See EvaluationProtocol."""
        options = split.options
        return make_results(split.embedded, options.similarity, resamples=options.bootstrap), None

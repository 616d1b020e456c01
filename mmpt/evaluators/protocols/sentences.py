"""Protocol sentences: clips and texts, one text a clip, as CLIP4Clip and CiCo report it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt.evaluators.metrics.sentences import PairRanks, rank_pairs
from mmpt.evaluators.metrics.tied_ranks import (
    TiedRanks,
    tied_rank_chance,
    tied_rank_intervals,
    tied_rank_metrics,
)
from mmpt.evaluators.protocols.base import PROTOCOLS, Evaluated
from mmpt.evaluators.reports.results import LEVEL, ClipAnswers
from mmpt.evaluators.reports.view import CLIPS
from mmpt.utils.text import counted


@PROTOCOLS.register("sentences")
def sentences(split: Evaluated) -> tuple[dict[str, Any], ClipAnswers]:
    """See mmpt/evaluators/metrics/sentences.py. Intervals draw texts, each with all its clips.

    "grouped" in the results: the numbers with duplicates as right, if there are any.
    """
    embedded, options = split.embedded, split.options
    labels = np.asarray(embedded.labels)
    ranks = rank_pairs(embedded.texts, embedded.videos, labels, options.similarity)
    results = pair_results(ranks, labels, options.bootstrap)
    results |= {
        "n_videos": len(labels),
        "n_prompts": len(embedded.texts),
        "similarity": options.similarity,
    }
    return results, _answers(split, ranks)


def pair_results(ranks: PairRanks, labels: NDArray[np.int64], resamples: int = 1000) -> dict[str, Any]:
    """{"t2v", "v2t", "intervals", "chance", "bootstrap", "duplicates", "notes"}; "grouped" if there are some.

    labels: the text of each clip [N]. resamples: of the bootstrap; 0 for no intervals.
    """
    n_clips, n_texts = len(labels), len(ranks.grouped["t2v"])
    results = _of(ranks.strict, labels, resamples)
    several = np.bincount(labels) > 1
    duplicates = {"texts": int(several.sum()), "clips": int(several[labels].sum())}
    results["duplicates"] = duplicates
    results["notes"] = [
        f"gallery: {n_clips} clips and their {n_clips} texts, {n_texts} of them distinct; "
        f"{counted(duplicates['texts'], 'text has', 'texts have')} several clips "
        f"({duplicates['clips']} clips)"
    ]
    if several.any():
        results["grouped"] = _of(ranks.grouped, labels, resamples)
        results["notes"].append(
            "right are a text's own clip and a clip's own text; in the rows 'duplicates right', equal "
            f"texts are one of {n_texts} texts, and all their clips one candidate"
        )
    if resamples:
        over = {"t2v": "texts", "v2t": "texts"}
        results["bootstrap"] = {"over": over, "resamples": resamples, "level": LEVEL}
    return results


def _of(ranks: dict[str, TiedRanks], labels: Any, resamples: int) -> dict[str, Any]:
    """Metrics, intervals and chance of both directions."""
    candidates = len(ranks["t2v"])  # in both: clips, or texts with all their clips
    found: dict[str, Any] = {side: tied_rank_metrics(one) for side, one in ranks.items()}
    found["intervals"], found["chance"] = {}, {}
    for side, one in ranks.items():
        if resamples:
            text = labels if len(one) == len(labels) else np.arange(len(one))
            found["intervals"][side] = tied_rank_intervals(one, text, resamples=resamples, level=LEVEL)
        chance = tied_rank_chance(candidates)
        found["chance"] |= {f"{side} {metric}": value for metric, value in chance.items()}
    return found


def _answers(split: Evaluated, ranks: PairRanks) -> ClipAnswers:
    """The nearest text of each clip. No pictures: a text has hardly ever more than one clip."""
    nearest = split.embedded.nearest(split.options.similarity)
    first = ranks.grouped["v2t"].first if len(nearest) <= CLIPS else None
    right = ranks.strict["v2t"].within(1)
    return ClipAnswers("nearest text", "text", nearest, first, right, False, len(split.embedded.prompts))

"""Protocol unseen-alphabet: a clip among the signs of its own sign language, in SignWriting."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt.evaluators.prompt_sets import UNSEEN_ALPHABET, symbol_coverage
from mmpt.evaluators.protocols.base import PROTOCOLS, Evaluated
from mmpt.evaluators.reports.results import make_results


@PROTOCOLS.register(UNSEEN_ALPHABET)
def unseen_alphabet(split: Evaluated) -> tuple[dict[str, Any], None]:
    """The classes are the signs of each sign language; see docs/signwriting.md.

    Besides the ranking within each sign language, the results have that among all signs.
    """
    embedded, options = split.embedded, split.options
    results = make_results(embedded, options.similarity, options.bootstrap)
    every = dataclasses.replace(embedded, groups=None)
    among_all = make_results(every, options.similarity, options.bootstrap)
    counts, unseen = symbol_coverage(split.train(), split.sets)
    ranks = embedded.ranks(options.similarity).v2t
    candidates = np.empty(len(ranks))
    for prompts, clips in embedded.blocks():
        candidates[clips] = len(prompts)
    results |= {
        "v2t_all": among_all["v2t"],
        "v2t_all_intervals": among_all["intervals"].get("v2t"),
        "v2t_all_chance": {k[4:]: v for k, v in among_all["chance"].items() if k.startswith("v2t")},
        "alphabets": {
            (split.sets.groups or [])[clips[0]]: {
                "clips": len(clips),
                "prompts": len(prompts),
                "v2t R@1": float(np.mean(ranks[clips] == 1)),
            }
            for prompts, clips in embedded.blocks()
        },
        "symbols": counts,
        "unseen_bases": _ranks_of(ranks[unseen], candidates[unseen]),
    }
    return results, None


def _ranks_of(ranks: NDArray[np.int64], candidates: NDArray[np.float64]) -> dict[str, float]:
    """R@1 and mean rank of some clips, with those of random scores."""
    if not len(ranks):
        return {"n": 0}
    return {
        "n": len(ranks),
        "v2t R@1": float(np.mean(ranks == 1)),
        "chance R@1": float(np.mean(1 / candidates)),
        "mean rank": float(ranks.mean()),
        "chance mean rank": float(np.mean((candidates + 1) / 2)),
    }

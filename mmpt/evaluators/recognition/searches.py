"""The protocols sentences and one-shot on the embeddings of a table's split.

See mmpt/evaluators/metrics/sentences.py and one_shot.py; both need no training clip.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmpt.evaluators.metrics.one_shot import Draw, Trials, choose_trials, rank_trials
from mmpt.evaluators.metrics.sentences import rank_pairs
from mmpt.evaluators.protocols.one_shot import UNKNOWN, one_shot_results, trained_on
from mmpt.evaluators.protocols.sentences import pair_results
from mmpt.evaluators.recognition.outcome import Options, Outcome, Split
from mmpt.processors.table_file import TableRow


def sentences(
    queries: Split, prompts: list[str], texts: NDArray, prompt_of: NDArray[np.int64], options: Options
) -> list[Outcome]:
    """Outcomes of both directions, and again with duplicates as right if there are any."""
    ranks = rank_pairs(texts, queries.vectors, prompt_of)
    results = pair_results(ranks, prompt_of, options.resamples)
    outcomes = []
    grouped = [(results["grouped"], ", duplicates right")] if "grouped" in results else []
    for of, name in [(results, ""), *grouped]:
        for side in ("t2v", "v2t"):
            chance = {key[4:]: value for key, value in of["chance"].items() if key.startswith(side)}
            n = len(prompts) if name and side == "t2v" else len(queries)
            intervals = of["intervals"].get(side, {})
            outcomes.append(Outcome("sentences", side + name, n, prompts, 1.0, of[side], intervals, chance))
    outcomes[0].notes += results["notes"]
    return outcomes


def one_shot(queries: Split, options: Options) -> Outcome:
    """The outcome of all galleries; a clip's sign is its text. A language of training is noted."""
    trials = _trials(queries.classes, queries.languages, queries.signers, options)
    found = rank_trials(queries.vectors, trials)
    results = one_shot_results(found, options.resamples)
    signs = sorted({queries.classes[row] for row in found.clip})
    chance = {key[4:]: value for key, value in results["chance"].items()}
    notes = results["notes"]
    if warning := trained_on(trials.languages, options.train_languages):
        notes.append(warning)
    intervals = results["intervals"].get("v2v", {})
    return Outcome(
        "one-shot", trials.queries, len(found.clip), signs, 1.0, results["v2v"], intervals, chance, notes
    )


def check_one_shot(rows: Sequence[TableRow], options: Options) -> None:
    """Raises UserError if no clip of a split can be a query."""
    _trials([r.text for r in rows], [r.signed_language for r in rows], [r.signer for r in rows], options)


def _trials(
    signs: Sequence[str], languages: Sequence[str], signers: Sequence[str], options: Options
) -> Trials:
    draw = Draw(options.queries, options.draws, options.other_signer, options.seed)
    return choose_trials(signs, [name or UNKNOWN for name in languages], draw, signers)

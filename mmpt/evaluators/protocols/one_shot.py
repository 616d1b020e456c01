"""Protocol one-shot: clips by an example clip, in sign languages that were not trained on."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mmpt.config.schema import EvalConfig
from mmpt.evaluators.metrics.one_shot import OTHER, Draw, OneShot, Trials, choose_trials, rank_trials
from mmpt.evaluators.metrics.tied_ranks import (
    TiedRanks,
    tied_rank_chance,
    tied_rank_intervals,
    tied_rank_metrics,
)
from mmpt.evaluators.protocols.base import PROTOCOLS, Evaluated
from mmpt.evaluators.reports.results import LEVEL, ClipAnswers
from mmpt.processors.example import Example
from mmpt.utils.errors import UserError
from mmpt.utils.logging import some_of

ONE_SHOT = "one-shot"
UNKNOWN = "(unknown)"
"""The language of clips without one."""
_CLAIM = "one-shot is meant for sign languages that the model was not trained on"
_LISTED = 20


@PROTOCOLS.register(ONE_SHOT)
def one_shot(split: Evaluated) -> tuple[dict[str, Any], ClipAnswers]:
    """See mmpt/evaluators/metrics/one_shot.py; a clip's sign is its prompt. Intervals draw signs."""
    embedded, options = split.embedded, split.options
    found = rank_trials(embedded.videos, trials_of(split.examples, options), options.similarity)
    results = one_shot_results(found, options.bootstrap)
    results["n_videos"] = len(np.unique(found.clip))
    results["n_prompts"] = len(np.unique(found.trials.sign[found.clip]))
    results["similarity"] = options.similarity
    if warning := _trained_on(found.trials.languages, split):
        results["warnings"] = [warning]
    return results, _answers(found, np.asarray(embedded.labels))


def trials_of(examples: Sequence[Example], options: EvalConfig) -> Trials:
    """The galleries and queries of a split. Raises UserError if there is no query."""
    return choose_trials(
        [example.text for example in examples],
        [example.language or UNKNOWN for example in examples],
        Draw(options.one_shot_queries, options.one_shot_draws, options.one_shot_other_signer),
        [example.signer for example in examples],
    )


def one_shot_results(found: OneShot, resamples: int = 1000) -> dict[str, Any]:
    """{"v2v": metrics, "intervals", "bootstrap", "chance", "one_shot": facts, "galleries", "notes"}.

    resamples: of the bootstrap; 0 for no intervals.
    """
    results: dict[str, Any] = {"v2v": tied_rank_metrics(found.ranks), "intervals": {}}
    if resamples:
        intervals = tied_rank_intervals(found.ranks, found.sign, resamples=resamples, level=LEVEL)
        results["intervals"] = {"v2v": intervals}
        results["bootstrap"] = {"over": {"v2v": "signs"}, "resamples": resamples, "level": LEVEL}
    trials = found.trials
    results["chance"] = {f"v2v {name}": v for name, v in tied_rank_chance(found.candidates).items()}
    results["galleries"] = {
        name: _of_gallery(found, number)
        for number, name in enumerate(trials.languages)
        if (found.language == number).any()
    }
    results["one_shot"] = {
        "queries": trials.queries,
        "draws": trials.draws,
        "pairs": len(found.clip),
        "same_signer_left_out": trials.same_signer,
        "without_query": [name for name in trials.languages if name not in results["galleries"]],
    }
    results["notes"] = _notes(results["one_shot"], results["galleries"])
    return results


def _of_gallery(found: OneShot, language: int) -> dict[str, float]:
    """Numbers of the queries to the galleries of one sign language."""
    rows = found.language == language
    metrics = tied_rank_metrics(TiedRanks(found.ranks.first[rows], found.ranks.tied[rows]))
    chance = tied_rank_chance(found.candidates[rows])
    return {
        "signs": int(found.candidates[rows].max()),
        "clips": len(np.unique(found.clip[rows])),
        "pairs": int(rows.sum()),
        **{name: metrics[name] for name in ("MRR", "R@1")},
        **{f"chance {name}": chance[name] for name in ("MRR", "R@1")},
    }


def _notes(facts: dict[str, Any], galleries: dict[str, dict[str, float]]) -> list[str]:
    """Lines on what was ranked: the kind of queries, what was left out, and each gallery."""
    how = (
        "cross-language: each sign language in turn is the gallery, clips of the other languages are queries"
        if facts["queries"] == OTHER
        else "within a sign language: one clip of each sign is the gallery, the other clips are queries"
    )
    draws = facts["draws"]
    drawn = f"mean of {draws} draws of the gallery" if draws > 1 else "one gallery for each sign language"
    notes = [f"{how}; {facts['pairs']} pairs of query and gallery, {drawn}"]
    if facts["same_signer_left_out"]:
        notes.append(f"left out: {facts['same_signer_left_out']} pairs by one signer")
    if facts["without_query"]:
        notes.append(f"left out, because there is no query: {some_of(facts['without_query'])}")
    notes += [
        f"gallery {name}: {one['signs']} signs, {one['clips']} clips as queries, MRR {one['MRR']:.3f} "
        f"(chance {one['chance MRR']:.3f}), R@1 {one['R@1']:.3f} (chance {one['chance R@1']:.3f})"
        for name, one in list(galleries.items())[:_LISTED]
    ]
    if len(galleries) > _LISTED:
        notes.append(f"and {len(galleries) - _LISTED} more galleries: see results.json")
    return notes


def _trained_on(languages: Sequence[str], split: Evaluated) -> str:
    """The warning of `trained_on`, or that the training split cannot be read."""
    try:
        train = [example.language for example in split.train()]
    except UserError as error:
        return f"{_CLAIM}, and the training split of the config cannot be read ({str(error).rstrip('.')})"
    return trained_on(languages, train)


def trained_on(languages: Sequence[str], train: Sequence[str]) -> str:
    """Warns of languages of galleries that training clips have, or if that cannot be known; else "".

    train: the language of each training clip; "" where it is not known.
    """
    if seen := [name for name in languages if name in train]:
        return f"{_CLAIM}: the training split has clips of {some_of(seen)}"
    if UNKNOWN in languages or "" in train:
        return f"{_CLAIM}: the sign language of some clips is not known, so this was not checked"
    return ""


def _answers(found: OneShot, labels: Any) -> ClipAnswers:
    """The first answer to each clip, and its mean R@1; for clips that were no query -1 and NaN."""
    clips, first = np.unique(found.clip, return_index=True)
    given, ranks = np.full(len(labels), -1), np.full(len(labels), -1)
    given[clips] = labels[found.nearest[first]]
    ranks[clips] = found.ranks.first[first]
    hits = found.ranks.within(1)
    right = np.full(len(labels), np.nan)
    right[clips] = np.bincount(found.clip, hits)[clips] / np.bincount(found.clip)[clips]
    return ClipAnswers("nearest gallery clip", "sign", given, ranks, right)

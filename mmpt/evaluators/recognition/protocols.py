"""The protocols of isolated sign recognition, run on the embeddings of a table's splits.

    zero_shot      ranks prompts for each clip (v2t) and clips for each prompt (t2v); uses no labelled clip
    v2v            class of the nearest support clip
    knn            vote of the k nearest support clips
    prototypes     nearest class mean of k support clips, k = 1, 5, 10 and all
    linear_probe   logistic regression on the support; C is chosen on the validation split
    sentences      ranks texts and clips, one text a clip; uses no labelled clip (see searches.py)
    one-shot       ranks one clip of each sign for an example clip; uses no support (see searches.py)

The support is the training split. The classes of zero_shot and sentences are the prompts; those of all other
protocols are the `text` of the clips.
"""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from mmpt.evaluators.metrics.bootstrap import bootstrap_intervals
from mmpt.evaluators.metrics.ranking import Ranks
from mmpt.evaluators.metrics.ranks import (
    ABSENT,
    chance_metrics,
    class_rank_intervals,
    class_rank_metrics,
)
from mmpt.evaluators.metrics.retrieval import metrics_from_ranks
from mmpt.evaluators.metrics.similarity import nearest_prompts, rank_embeddings
from mmpt.evaluators.recognition.classifiers import Judged, Support, choose_c, fit_linear_probe, judge
from mmpt.evaluators.recognition.neighbours import neighbours
from mmpt.evaluators.recognition.outcome import Options, Outcome, Split
from mmpt.evaluators.recognition.searches import one_shot, sentences
from mmpt.evaluators.reports.results import chance as retrieval_chance
from mmpt.utils.errors import UserError
from mmpt.utils.output_kinds import PROTOCOLS, SEARCHES
from mmpt.utils.text import counted

WITHOUT_SUPPORT = ("zero_shot", *SEARCHES)
"""Protocols that need the evaluated split only."""
WITH_PROMPTS = ("zero_shot", "sentences")
SHOTS: tuple[int | None, ...] = (1, 5, 10, None)


def check_protocol(name: str, queries: str, there: Collection[str], options: Options) -> None:
    """Raise UserError if a protocol cannot evaluate the split `queries`; needs no embeddings.

    there: names of the splits of which the table has clips.
    """
    if name not in (*PROTOCOLS, *SEARCHES):
        raise UserError(f"there is no protocol {name!r}. Known: {', '.join((*PROTOCOLS, *SEARCHES))}.")
    if name in WITHOUT_SUPPORT:
        return
    if "train" not in there:
        raise UserError(f"protocol {name}: needs training clips, and the table has none.")
    if queries == "train":
        raise UserError(
            f"protocol {name}: its support is the training split, so it cannot be evaluated on train. Give "
            "another --split, or use zero_shot."
        )
    if name == "linear_probe" and options.c is None:
        if "valid" not in there:
            raise UserError(
                "protocol linear_probe: C is chosen on valid, and the table has no clips of valid: add some, "
                "or give --c."
            )
        if queries == "valid":
            raise UserError(
                "protocol linear_probe: C would be chosen on the clips that are evaluated: give another "
                "--split, or --c."
            )


def run_protocol(
    name: str,
    queries: Split,
    support: Split | None,
    valid: Split | None,
    prompts: tuple[list[str], NDArray[np.float32], NDArray[np.int64]] | None,
    options: Options,
) -> list[Outcome]:
    """Run one protocol.

    support, valid: needed by all protocols but those in WITHOUT_SUPPORT. prompts: the distinct prompts, their
    embeddings [P, H], and the prompt number of each query [N]; needed by those in WITH_PROMPTS. Raises
    UserError if a split is missing.
    """
    there = [split.name for split in (support, valid) if split is not None and len(split)]
    check_protocol(name, queries.name, there, options)
    if name == "one-shot":
        return [one_shot(queries, options)]
    if name in WITH_PROMPTS:
        assert prompts is not None
        return (_zero_shot if name == "zero_shot" else sentences)(queries, *prompts, options)
    assert support is not None
    classes = sorted(set(support.classes))
    labels, truth = _numbers(support.classes, classes), _numbers(queries.classes, classes)
    if name == "linear_probe":
        return [_linear_probe(queries, support, valid, classes, options)]
    clips = Support(support.vectors, labels, len(classes))
    if name == "prototypes":
        return [_prototypes(shots, clips, queries.vectors, classes, truth, options) for shots in SHOTS]
    k = 1 if name == "v2v" else min(options.k, len(support))
    judged = judge([neighbours(clips, k)], queries.vectors, truth)
    return [_outcome(name, "1-NN" if name == "v2v" else f"k={k}", classes, truth, judged, options)]


def _zero_shot(
    queries: Split, prompts: list[str], texts: NDArray, prompt_of: NDArray[np.int64], options: Options
) -> list[Outcome]:
    ranks = rank_embeddings(texts, queries.vectors, prompt_of)
    nearest = prompt_of.copy()
    if len(wrong := np.flatnonzero(ranks.v2t > 1)):
        nearest[wrong] = nearest_prompts(texts, queries.vectors[wrong])
    v2t = _outcome("zero_shot", "v2t", prompts, prompt_of, Judged(ranks.v2t[None], nearest), options)
    metrics, intervals = metrics_from_ranks(ranks)["t2v"], {}
    metrics |= {
        name: value for name, value in class_rank_metrics(ranks.t2v).items() if name in ("MRR", "DCG")
    }
    if options.resamples:
        intervals = bootstrap_intervals(ranks, options.resamples)["t2v"]
        more = class_rank_intervals(ranks.t2v, resamples=options.resamples)
        intervals |= {name: more[name] for name in ("MRR", "DCG")}
    chance = _t2v_chance(ranks, len(prompts))
    t2v = Outcome("zero_shot", "t2v", len(ranks.queries), prompts, 1.0, metrics, intervals, chance)
    t2v.notes += [
        f"queries are the {len(ranks.queries)} prompts, candidates the {len(queries)} clips",
        "R@k and P@k count every relevant clip, MRR, DCG and MedianR the first one",
    ]
    return [v2t, t2v]


def _t2v_chance(ranks: Ranks, n_prompts: int) -> dict[str, float]:
    """Chance: P@k and R@k count every relevant clip, the other metrics the first one."""
    first = chance_metrics(len(ranks.v2t), relevant=ranks.relevant)
    every = retrieval_chance(ranks, [(n_prompts, len(ranks.v2t))])
    return first | {name.removeprefix("t2v "): v for name, v in every.items() if name.startswith("t2v")}


def _prototypes(
    shots: int | None,
    support: Support,
    queries: NDArray[np.float32],
    classes: list[str],
    truth: NDArray[np.int64],
    options: Options,
) -> Outcome:
    draws = 1 if shots is None else options.draws
    seeds = np.random.SeedSequence(options.seed).spawn(draws)
    scorers = [support.prototypes(shots, np.random.default_rng(seed)) for seed in seeds]
    setting = "all" if shots is None else f"k={shots}"
    judged = judge(scorers, queries, truth)
    outcome = _outcome("prototypes", setting, classes, truth, judged, options)
    if shots is not None:
        fewer = int((np.bincount(support.labels, minlength=len(classes)) < shots).sum())
        outcome.notes.append(f"mean of {draws} draws")
        if fewer:
            outcome.notes.append(f"{fewer} of {len(classes)} classes have fewer than {shots} clips")
    return outcome


def _linear_probe(
    queries: Split, support: Split, valid: Split | None, classes: list[str], options: Options
) -> Outcome:
    c, how = options.c, "given"
    labels, truth = _numbers(support.classes, classes), _numbers(queries.classes, classes)
    if c is None:
        assert valid is not None
        valid_labels = _numbers(valid.classes, classes)
        c, accuracy = choose_c(support.vectors, labels, valid.vectors, valid_labels, len(classes))
        how = "chosen on valid: " + ", ".join(f"{one:g}: {share:.3f}" for one, share in accuracy.items())
    judged = judge([fit_linear_probe(support.vectors, labels, len(classes), c)], queries.vectors, truth)
    outcome = _outcome("linear_probe", f"C={c:g}", classes, truth, judged, options)
    outcome.notes.append(f"C {how}")
    return outcome


def _outcome(
    protocol: str,
    setting: str,
    classes: list[str],
    truth: NDArray[np.int64],
    judged: Judged,
    options: Options,
) -> Outcome:
    """Metrics of ranks among all classes."""
    coverage = float(np.mean(truth != ABSENT))
    intervals = {}
    if options.resamples:
        intervals = class_rank_intervals(judged.ranks, resamples=options.resamples, n_candidates=len(classes))
    notes = []
    if coverage < 1:
        missed = int((truth == ABSENT).sum())
        clips = counted(missed, "clip is", "clips are")
        notes.append(f"{clips} of classes without support clips: this counts as wrong")
    return Outcome(
        protocol,
        setting,
        len(truth),
        classes,
        coverage,
        class_rank_metrics(judged.ranks, n_candidates=len(classes)),
        intervals,
        chance_metrics(len(classes), coverage),
        notes,
        truth,
        judged.predicted,
    )


def _numbers(names: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64]:
    number = {name: n for n, name in enumerate(classes)}
    return np.array([number.get(name, ABSENT) for name in names], dtype=np.int64)

"""The protocols of isolated sign recognition, run on the embeddings of a table's splits.

    zero_shot      ranks prompts for each clip (v2t) and clips for each prompt (t2v); uses no labelled clip
    v2v            class of the nearest support clip
    knn            vote of the k nearest support clips
    prototypes     nearest class mean of k support clips, k = 1, 5, 10 and all
    linear_probe   logistic regression on the support; C is chosen on the validation split

The support is the training split. The classes of zero_shot are the prompts; those of all other protocols are
the `text` of the support clips.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmpt.evaluators.metrics.bootstrap import bootstrap_intervals
from mmpt.evaluators.metrics.ranking import Ranks
from mmpt.evaluators.metrics.ranks import (
    ABSENT,
    KS,
    chance_metrics,
    class_rank_intervals,
    class_rank_metrics,
    class_ranks,
)
from mmpt.evaluators.metrics.retrieval import metrics_from_ranks
from mmpt.evaluators.metrics.similarity import rank_embeddings, similarity
from mmpt.evaluators.recognition.classifiers import choose_c, linear_probe, nearest_neighbours, prototypes
from mmpt.evaluators.reports.results import chance as retrieval_chance
from mmpt.utils.errors import UserError
from mmpt.utils.output_kinds import PROTOCOLS

SHOTS: tuple[int | None, ...] = (1, 5, 10, None)


@dataclass
class Split:
    """Embeddings of a split's clips, float32 [N, H], with the id, class and signer ("": unknown) of each."""

    name: str
    vectors: NDArray[np.float32]
    ids: list[str]
    classes: list[str]
    signers: list[str]

    def __len__(self) -> int:
        return len(self.ids)


class _Arrays(NamedTuple):
    """The first arguments of the functions in mmpt.evaluators.recognition.classifiers."""

    queries: NDArray[np.float32]
    support: NDArray[np.float32]
    labels: NDArray[np.int64]
    n_classes: int


@dataclass
class Options:
    """Options of the protocols.

    k: number of neighbours of knn. draws: random draws of the clips of few-shot prototypes. c: C of the
    linear probe; None chooses it on the validation split. resamples: of the bootstrap; 0 for no intervals.
    """

    k: int = 5
    draws: int = 10
    c: float | None = None
    resamples: int = 1000
    seed: int = 0


@dataclass
class Outcome:
    """One row of the results of a protocol.

    setting: v2t, t2v, "k=5", ... coverage: share of the clips whose class is among the candidates. truth,
    predicted: class numbers [N], or None where prompts are the queries.
    """

    protocol: str
    setting: str
    n: int
    classes: list[str]
    coverage: float
    metrics: dict[str, float]
    intervals: dict[str, list[float]]
    chance: dict[str, float]
    notes: list[str] = field(default_factory=list)
    truth: NDArray[np.int64] | None = None
    predicted: NDArray[np.int64] | None = None

    def as_json(self) -> dict[str, Any]:
        """The numbers as saved in protocols.json, without the predictions."""
        return {
            "protocol": self.protocol,
            "setting": self.setting,
            "n": self.n,
            "n_classes": len(self.classes),
            "coverage": self.coverage,
            "metrics": self.metrics,
            "intervals": self.intervals,
            "chance": self.chance,
            "notes": self.notes,
        }


def check_protocol(name: str, queries: str, there: Collection[str], options: Options) -> None:
    """Raise UserError if a protocol cannot evaluate the split `queries`; needs no embeddings.

    there: names of the splits of which the table has clips.
    """
    if name not in PROTOCOLS:
        raise UserError(f"there is no protocol {name!r}. Known: {', '.join(PROTOCOLS)}.")
    if name == "zero_shot":
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

    support, valid: needed by all protocols but zero_shot. prompts: the distinct prompts, their embeddings
    [P, H], and the prompt number of each query [N]; needed by zero_shot. Raises UserError if a split is
    missing.
    """
    there = [split.name for split in (support, valid) if split is not None and len(split)]
    check_protocol(name, queries.name, there, options)
    if name == "zero_shot":
        assert prompts is not None
        return _zero_shot(queries, *prompts, options)
    assert support is not None
    classes = sorted(set(support.classes))
    labels, truth = _numbers(support.classes, classes), _numbers(queries.classes, classes)
    n = len(classes)
    arrays = _Arrays(queries.vectors, support.vectors, labels, n)
    if name == "v2v":
        return [_outcome(name, "1-NN", classes, truth, [nearest_neighbours(*arrays)], options)]
    if name == "knn":
        k = min(options.k, len(support))
        return [_outcome(name, f"k={k}", classes, truth, [nearest_neighbours(*arrays, k=k)], options)]
    if name == "prototypes":
        return [_prototypes(shots, arrays, classes, truth, options) for shots in SHOTS]
    return [_linear_probe(arrays, classes, truth, valid, options)]


def _zero_shot(
    queries: Split, prompts: list[str], texts: NDArray, prompt_of: NDArray[np.int64], options: Options
) -> list[Outcome]:
    ranks = rank_embeddings(texts, queries.vectors, prompt_of, ks=KS)
    scores = similarity(texts, queries.vectors).T
    v2t = _outcome("zero_shot", "v2t", prompts, prompt_of, [scores], options)
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
    shots: int | None, arrays: _Arrays, classes: list[str], truth: NDArray[np.int64], options: Options
) -> Outcome:
    draws = 1 if shots is None else options.draws
    seeds = np.random.SeedSequence(options.seed).spawn(draws)
    scores = [prototypes(*arrays, shots=shots, rng=np.random.default_rng(seed)) for seed in seeds]
    setting = "all" if shots is None else f"k={shots}"
    outcome = _outcome("prototypes", setting, classes, truth, scores, options)
    if shots is not None:
        counts = np.bincount(arrays.labels, minlength=len(classes))
        fewer = int((counts < shots).sum())
        outcome.notes.append(f"mean of {draws} draws")
        if fewer:
            outcome.notes.append(f"{fewer} of {len(classes)} classes have fewer than {shots} clips")
    return outcome


def _linear_probe(
    arrays: _Arrays,
    classes: list[str],
    truth: NDArray[np.int64],
    valid: Split | None,
    options: Options,
) -> Outcome:
    c, how = options.c, "given"
    if c is None:
        assert valid is not None
        valid_labels = _numbers(valid.classes, classes)
        c, accuracy = choose_c(arrays.support, arrays.labels, valid.vectors, valid_labels, arrays.n_classes)
        how = "chosen on valid: " + ", ".join(f"{one:g}: {share:.3f}" for one, share in accuracy.items())
    scores = linear_probe(*arrays, c=c)
    outcome = _outcome("linear_probe", f"C={c:g}", classes, truth, [scores], options)
    outcome.notes.append(f"C {how}")
    return outcome


def _outcome(
    protocol: str,
    setting: str,
    classes: list[str],
    truth: NDArray[np.int64],
    scores: Sequence[NDArray],
    options: Options,
) -> Outcome:
    """Metrics of score matrices [N, C], one for each draw; the predictions are of the first draw."""
    coverage = float(np.mean(truth != ABSENT))
    ranks = np.stack([class_ranks(one, truth) for one in scores])
    ranked = scores[0].shape[1]
    intervals = {}
    if options.resamples:
        intervals = class_rank_intervals(ranks, resamples=options.resamples, n_candidates=ranked)
    notes = []
    if coverage < 1:
        missed = int((truth == ABSENT).sum())
        notes.append(f"{missed} clips are of classes without support clips: they count as wrong")
    return Outcome(
        protocol,
        setting,
        len(truth),
        classes,
        coverage,
        class_rank_metrics(ranks, n_candidates=ranked),
        intervals,
        chance_metrics(len(classes), coverage),
        notes,
        truth,
        np.asarray(scores[0].argmax(axis=1)),
    )


def _numbers(names: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64]:
    number = {name: n for n, name in enumerate(classes)}
    return np.array([number.get(name, ABSENT) for name in names], dtype=np.int64)

"""The named protocols of isolated sign recognition on embeddings of a table's splits.

    zero_shot      prompts rank for each clip (v2t) and clips for each prompt (t2v); no labelled clip is used
    v2v            the nearest clip of the support names the class
    knn            the k nearest clips of the support vote
    prototypes     the mean of k clips of each class of the support, k = 1, 5, 10 and all
    linear_probe   logistic regression on the support; its C is chosen on the validation split

The support is the training split. Clips, not prompts, make the classes of all but zero_shot: their `text`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmpt.evaluators.bootstrap import bootstrap_intervals
from mmpt.evaluators.places import ABSENT, KS, chance_metrics, place_intervals, place_metrics, places_of
from mmpt.evaluators.protocols import choose_c, linear_probe, nearest_neighbours, prototypes
from mmpt.evaluators.ranking import Ranks
from mmpt.evaluators.report import chance as retrieval_chance
from mmpt.evaluators.retrieval import metrics_from_ranks
from mmpt.evaluators.similarity import rank_embeddings, similarity
from mmpt.utils.errors import UserError

PROTOCOLS = ("zero_shot", "v2v", "knn", "prototypes", "linear_probe")
SHOTS: tuple[int | None, ...] = (1, 5, 10, None)


@dataclass
class Split:
    """Embeddings of a split's clips: float32 [N, H], with id, class and signer ("" if unknown) of each."""

    name: str
    vectors: NDArray[np.float32]
    ids: list[str]
    classes: list[str]
    signers: list[str]

    def __len__(self) -> int:
        return len(self.ids)


class _Arrays(NamedTuple):
    """What the functions of mmpt.evaluators.protocols take first."""

    queries: NDArray[np.float32]
    support: NDArray[np.float32]
    labels: NDArray[np.int64]
    n_classes: int


@dataclass
class Options:
    """What may be chosen. k: of knn. draws: of few-shot prototypes. c: of the probe, instead of choosing it.
    resamples: of the bootstrap; 0 for no intervals."""

    k: int = 5
    draws: int = 10
    c: float | None = None
    resamples: int = 1000
    seed: int = 0


@dataclass
class Outcome:
    """One line of a protocol's results. setting: v2t, t2v, "k=5", ... coverage: share of the clips whose
    class is among the candidates. truth, predicted: class numbers [N] where clips are queries, else None."""

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
        """All numbers, without the clips."""
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
    """Raise UserError where a protocol cannot judge the split `queries` of a table that has clips of the
    splits `there`: before anything is embedded."""
    if name not in PROTOCOLS:
        raise UserError(f"there is no protocol {name!r}. Known: {', '.join(PROTOCOLS)}.")
    if name == "zero_shot":
        return
    if "train" not in there:
        raise UserError(f"protocol {name}: the table has no clips of train to learn from.")
    if queries == "train":
        raise UserError(
            f"protocol {name}: it learns from train, so it cannot be run on train: each clip would find "
            "itself. Take another --split, or zero_shot."
        )
    if name == "linear_probe" and options.c is None:
        if "valid" not in there:
            raise UserError(
                "protocol linear_probe: the table has no clips of valid to choose C on: add some, or give "
                "--c."
            )
        if queries == "valid":
            raise UserError(
                "protocol linear_probe: C would be chosen on the clips that are judged: take another "
                "--split, or give --c."
            )


def run_protocol(
    name: str,
    queries: Split,
    support: Split | None,
    valid: Split | None,
    prompts: tuple[list[str], NDArray[np.float32], NDArray[np.int64]] | None,
    options: Options,
) -> list[Outcome]:
    """The outcomes of one protocol.

    support, valid: needed by the protocols that learn from clips. prompts: distinct ones, their embeddings
    [P, H], and the prompt of each query [N]; needed by zero_shot. Raises UserError where something is
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
    metrics |= {name: value for name, value in place_metrics(ranks.t2v).items() if name in ("MRR", "DCG")}
    if options.resamples:
        intervals = bootstrap_intervals(ranks, options.resamples)["t2v"]
        more = place_intervals(ranks.t2v, resamples=options.resamples)
        intervals |= {name: more[name] for name in ("MRR", "DCG")}
    chance = _t2v_chance(ranks, len(prompts))
    t2v = Outcome("zero_shot", "t2v", len(ranks.queries), prompts, 1.0, metrics, intervals, chance)
    t2v.notes += [
        f"queries are the {len(ranks.queries)} prompts, candidates the {len(queries)} clips",
        "R@k and P@k count every right clip, MRR, DCG and MedianR the first one",
    ]
    return [v2t, t2v]


def _t2v_chance(ranks: Ranks, n_prompts: int) -> dict[str, float]:
    """P@k and R@k of all the right clips, everything else of the first of them."""
    first = chance_metrics(len(ranks.v2t), relevant=ranks.relevant)
    every = retrieval_chance(ranks, n_prompts)
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
    """Metrics of score matrices [N, C], one a draw; predictions are the first draw's."""
    coverage = float(np.mean(truth != ABSENT))
    places = np.stack([places_of(one, truth) for one in scores])
    ranked = scores[0].shape[1]
    intervals = {}
    if options.resamples:
        intervals = place_intervals(places, resamples=options.resamples, n_candidates=ranked)
    notes = []
    if coverage < 1:
        missed = int((truth == ABSENT).sum())
        notes.append(f"{missed} clips are of classes that the support lacks: they count as wrong")
    return Outcome(
        protocol,
        setting,
        len(truth),
        classes,
        coverage,
        place_metrics(places, n_candidates=ranked),
        intervals,
        chance_metrics(len(classes), coverage),
        notes,
        truth,
        np.asarray(scores[0].argmax(axis=1)),
    )


def _numbers(names: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64]:
    number = {name: n for n, name in enumerate(classes)}
    return np.array([number.get(name, ABSENT) for name in names], dtype=np.int64)

"""Classifiers on embeddings: prototypes and a linear probe; see neighbours.py for k nearest neighbours.

Each returns float64 scores [N, C] of the classes for each query clip. The prediction is the class with the
highest score; a class without a clip in the support scores -inf. Embeddings are normalised to unit length,
and cosines are rounded so that equal clips tie (see mmpt.evaluators.metrics.similarity). Class numbers are 0
to C - 1.
"""

import functools
import itertools
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import ThreadpoolController

from mmpt.evaluators.metrics.ranks import class_ranks
from mmpt.utils.arrays import all_finite, on_grid, unit_rows
from mmpt.utils.errors import UserError

Scores = NDArray[np.float64]
Scorer = Callable[[NDArray[np.float64], NDArray[np.int64] | None], Scores]
"""Maps unit vectors of queries [N, H], and their true classes [N] or None, to scores [N, C].

Given the true classes, only the highest score of a query and the rank of the true class need to be exact.
"""

PROBE_CS = (0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)
"""Candidate values of C, the inverse regularisation strength; chosen on the validation split."""
BLOCK = 512
"""Queries that are judged together."""


def unit(vectors: ArrayLike) -> NDArray[np.float64]:
    """Normalise vectors [N, H] to unit length; zeros stay zero. Raises UserError on NaN and inf."""
    wide = np.array(vectors, dtype=np.float64, order="C")
    if wide.ndim != 2 or not all_finite(wide):
        raise UserError(f"expected finite embeddings [N, H], got shape {wide.shape}.")
    return unit_rows(wide)


class Support:
    """The labelled clips that queries are compared with: unit vectors, sorted by class.

    support: [N, H]; labels: class numbers [N]. Raises UserError if they do not fit or hold NaN.
    """

    def __init__(self, support: ArrayLike, labels: ArrayLike, n_classes: int):
        own = _labels(labels, support, n_classes)
        given = np.asarray(support)
        self.n_classes = n_classes
        self.labels = own
        self.order = np.argsort(own, kind="stable")
        self.sorted_labels = own[self.order]
        self.vectors = np.empty(given.shape)
        for start in range(0, len(own), BLOCK):  # several times as fast as all at once
            self.vectors[start : start + BLOCK] = unit(given[self.order[start : start + BLOCK]])
        self._present, starts = np.unique(self.sorted_labels, return_index=True)
        self._members = [slice(*ends) for ends in itertools.pairwise([*starts, len(own)])]

    def __len__(self) -> int:
        return len(self.labels)

    def prototypes(self, shots: int | None = None, rng: np.random.Generator | None = None) -> Scorer:
        """Scores of the function `prototypes`."""
        means = []
        for members in self._members:
            clips = np.arange(members.start, members.stop)
            if shots is not None and len(clips) > shots:
                assert rng is not None, "drawing clips needs a generator"
                clips = rng.choice(clips, shots, replace=False)
            means.append(self.vectors[clips].mean(axis=0))
        columns = unit(means).T

        def scores(queries: NDArray[np.float64], truth: NDArray[np.int64] | None) -> Scores:
            found = np.full((len(queries), self.n_classes), -np.inf)
            found[:, self._present] = on_grid(queries @ columns)
            return found

        return scores


def all_scores(scorer: Scorer, queries: ArrayLike) -> Scores:
    """Scores of queries [N, H] of any length, in blocks."""
    vectors = np.asarray(queries)
    blocks = range(0, max(1, len(vectors)), BLOCK)
    return np.concatenate([scorer(unit(vectors[start : start + BLOCK]), None) for start in blocks])


class Judged(NamedTuple):
    """Ranks of the true classes [draws, N], and the predictions of the first draw [N]."""

    ranks: NDArray[np.int64]
    predicted: NDArray[np.int64]


def judge(scorers: Sequence[Scorer], queries: NDArray[np.float32], truth: NDArray[np.int64]) -> Judged:
    """Rank the classes for each query, block by block, with a scorer for each draw.

    queries: [N, H]; truth: true classes [N]. Blocks are judged in as many threads as BLAS has.
    """
    ranks = np.empty((len(scorers), len(truth)), dtype=np.int64)
    predicted = np.empty(len(truth), dtype=np.int64)

    def judge_block(start: int) -> None:
        part = slice(start, start + BLOCK)
        block = unit(queries[part])
        for draw, scorer in enumerate(scorers):
            scores = scorer(block, truth[part])
            ranks[draw, part] = class_ranks(scores, truth[part])
            if draw == 0:
                predicted[part] = scores.argmax(axis=1)

    blas = _blas()
    threads = max((library.num_threads for library in blas.lib_controllers), default=1)
    with blas.limit(limits=1), ThreadPoolExecutor(threads) as pool:
        list(pool.map(judge_block, range(0, len(queries), BLOCK)))
    return Judged(ranks, predicted)


@functools.cache  # a search takes 2 ms
def _blas() -> ThreadpoolController:
    """The BLAS libraries of the process, of which NumPy's is one."""
    return ThreadpoolController().select(user_api="blas")


def prototypes(
    queries: ArrayLike,
    support: ArrayLike,
    labels: ArrayLike,
    n_classes: int,
    shots: int | None = None,
    rng: np.random.Generator | None = None,
) -> Scores:
    """Cosine similarity with the prototype of each class, the mean of the embeddings of its clips.

    Snell et al., 2017, https://arxiv.org/abs/1703.05175. shots: number of clips that `rng` draws from each
    class (all clips if the class has fewer). None: all clips.
    """
    return all_scores(Support(support, labels, n_classes).prototypes(shots, rng), queries)


def fit_linear_probe(support: ArrayLike, labels: ArrayLike, n_classes: int, c: float) -> Scorer:
    """Scores of `linear_probe`."""
    own = _labels(labels, support, n_classes)
    if len(np.unique(own)) < 2:
        raise UserError("a linear probe needs training clips of at least two classes.")
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)  # one clip per class
        # with scikit-learn's default tol=1e-4 and a large C, predictions depend on rounding
        probe = LogisticRegression(C=c, max_iter=5000, tol=1e-6).fit(unit(support), own)

    def scores(queries: NDArray[np.float64], truth: NDArray[np.int64] | None) -> Scores:
        found = np.full((len(queries), n_classes), -np.inf)
        found[:, probe.classes_] = probe.predict_log_proba(queries)
        return found

    return scores


def linear_probe(
    queries: ArrayLike,
    support: ArrayLike,
    labels: ArrayLike,
    n_classes: int,
    c: float,
) -> Scores:
    """Log probabilities of a logistic regression fitted on the support.

    c: inverse regularisation strength (scikit-learn's C). Embeddings are normalised to unit length.
    """
    return all_scores(fit_linear_probe(support, labels, n_classes, c), queries)


def choose_c(
    support: ArrayLike,
    labels: ArrayLike,
    valid: ArrayLike,
    valid_labels: ArrayLike,
    n_classes: int,
) -> tuple[float, dict[float, float]]:
    """Choose of PROBE_CS the `c` of `linear_probe` with the best validation accuracy (the smallest of ties).

    Returns it and the accuracy of each. Validation clips of classes missing in the support count as wrong.
    """
    truth = np.asarray(valid_labels)
    accuracy = {}
    for c in PROBE_CS:
        scores = linear_probe(valid, support, labels, n_classes, c)
        accuracy[c] = float(np.mean(scores.argmax(axis=1) == truth))
    return max(accuracy, key=lambda c: accuracy[c]), accuracy


def _labels(labels: ArrayLike, support: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    own = np.asarray(labels)
    if own.shape != (len(np.asarray(support)),) or not len(own) or not np.issubdtype(own.dtype, np.integer):
        raise UserError(
            f"expected one class number for each clip of a non-empty support, got shape {own.shape}."
        )
    if own.min() < 0 or own.max() >= n_classes:
        raise UserError(f"class numbers must be from 0 to {n_classes - 1}, got {own.min()} to {own.max()}.")
    return own.astype(np.int64)

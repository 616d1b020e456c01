"""Classifiers on embeddings: k nearest neighbours, prototypes and a linear probe.

Each returns float64 scores [N, C] of the classes for each query clip. The prediction is the class with the
highest score; a class without a clip in the support scores -inf. Embeddings are normalised to unit length,
and cosines are rounded so that equal clips tie (see mmpt.evaluators.metrics.similarity). Class numbers are 0
to C - 1.
"""

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmpt.evaluators.metrics.similarity import on_grid
from mmpt.utils.arrays import unit_rows
from mmpt.utils.errors import UserError
from mmpt.utils.top_k import TopK

Scores = NDArray[np.float64]
Scorer = Callable[[NDArray[np.float64]], Scores]
"""Maps unit vectors of queries [N, H] to scores [N, C]."""

PROBE_CS = (0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)
"""Candidate values of C, the inverse regularisation strength; chosen on the validation split."""
_BLOCK, _TILE = 256, 4096  # queries, and support clips, of a matrix of similarities


def unit(vectors: ArrayLike) -> NDArray[np.float64]:
    """Normalise vectors [N, H] to unit length; zeros stay zero. Raises UserError on NaN and inf."""
    wide = np.array(vectors, dtype=np.float64, order="C")
    if wide.ndim != 2 or not np.isfinite(wide).all():
        raise UserError(f"expected finite embeddings [N, H], got shape {wide.shape}.")
    return unit_rows(wide)


class Support:
    """The labelled clips that queries are compared with: unit vectors, sorted by class.

    support: [N, H]; labels: class numbers [N]. Raises UserError if they do not fit or hold NaN.
    """

    def __init__(self, support: ArrayLike, labels: ArrayLike, n_classes: int):
        own = _labels(labels, support, n_classes)
        self.n_classes = n_classes
        self.labels = own
        self._order = np.argsort(own, kind="stable")
        self._sorted = own[self._order]
        self._vectors = unit(np.asarray(support)[self._order])
        self._present, starts = np.unique(self._sorted, return_index=True)
        self._members = [slice(*ends) for ends in itertools.pairwise([*starts, len(own)])]

    def __len__(self) -> int:
        return len(self.labels)

    def neighbours(self, k: int) -> Scorer:
        """Scores of `nearest_neighbours`."""
        if not 1 <= k <= len(self):
            raise UserError(f"k nearest neighbours: got k={k}; the support has {len(self)} clips.")

        def scores(queries: NDArray[np.float64]) -> Scores:
            nearest = np.full((len(queries), self.n_classes), -np.inf)
            best = TopK(len(queries), k, np.float64)
            for start in range(0, len(self), _TILE):
                tile = slice(start, start + _TILE)
                similar = on_grid(queries @ self._vectors[tile].T)
                best.add(similar, self._order[tile])
                classes, starts = np.unique(self._sorted[tile], return_index=True)
                highest = np.maximum.reduceat(similar, starts, axis=1)
                nearest[:, classes] = np.maximum(nearest[:, classes], highest)
            at = np.arange(len(queries))[:, None] * self.n_classes + self.labels[best.numbers]
            given = np.bincount(at.ravel(), minlength=nearest.size).reshape(nearest.shape)
            return np.where(given > 0, given, (nearest + 1) / 4)

        return scores

    def prototypes(self, shots: int | None = None, rng: np.random.Generator | None = None) -> Scorer:
        """Scores of the function `prototypes`."""
        means = []
        for members in self._members:
            clips = np.arange(members.start, members.stop)
            if shots is not None and len(clips) > shots:
                assert rng is not None, "drawing clips needs a generator"
                clips = rng.choice(clips, shots, replace=False)
            means.append(self._vectors[clips].mean(axis=0))
        columns = unit(means).T

        def scores(queries: NDArray[np.float64]) -> Scores:
            found = np.full((len(queries), self.n_classes), -np.inf)
            found[:, self._present] = on_grid(queries @ columns)
            return found

        return scores


def unit_blocks(queries: ArrayLike) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Consecutive blocks of queries [N, H] as unit vectors, so that memory does not grow with N."""
    vectors = np.asarray(queries)
    for start in range(0, max(1, len(vectors)), _BLOCK):
        part = slice(start, start + _BLOCK)
        yield part, unit(vectors[part])


def _all_scores(scorer: Scorer, queries: ArrayLike) -> Scores:
    return np.concatenate([scorer(block) for _, block in unit_blocks(queries)])


def nearest_neighbours(
    queries: ArrayLike, support: ArrayLike, labels: ArrayLike, n_classes: int, k: int = 1
) -> Scores:
    """k-NN by cosine similarity: the score of a class is its votes among the k nearest support clips.

    Of equally near clips the first ones are taken. Ties of votes go to the class with the lower number, as in
    scikit-learn. Classes without a vote are ranked by their nearest clip: they score (similarity + 1) / 4,
    which is below 1. Raises UserError if k is not between 1 and the size of the support.
    """
    return _all_scores(Support(support, labels, n_classes).neighbours(k), queries)


def votes(scores: Scores) -> NDArray[np.int64]:
    """Recover the votes from the scores of nearest_neighbours, int64 [N, C]."""
    return np.floor(np.where(np.isfinite(scores), scores, 0) + 1e-9).astype(np.int64)


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
    return _all_scores(Support(support, labels, n_classes).prototypes(shots, rng), queries)


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

    def scores(queries: NDArray[np.float64]) -> Scores:
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
    return _all_scores(fit_linear_probe(support, labels, n_classes, c), queries)


def choose_c(
    support: ArrayLike,
    labels: ArrayLike,
    valid: ArrayLike,
    valid_labels: ArrayLike,
    n_classes: int,
    cs: Sequence[float] = PROBE_CS,
) -> tuple[float, dict[float, float]]:
    """Choose the `c` of `linear_probe` with the best validation accuracy (the smallest of ties).

    Returns it and the accuracy of each. Validation clips of classes missing in the support count as wrong.
    """
    truth = np.asarray(valid_labels)
    accuracy = {}
    for c in sorted(cs):
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

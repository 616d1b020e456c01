"""Classifiers on embeddings: k nearest neighbours, prototypes and a linear probe.

Each returns float64 scores [N, C] of the classes for each query clip. The prediction is the class with the
highest score; a class without a clip in the support scores -inf. Embeddings are normalised to unit length,
and cosines are rounded so that equal clips tie (see mmpt.evaluators.metrics.similarity). Class numbers are 0
to C - 1.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmpt.evaluators.metrics.similarity import on_grid
from mmpt.utils.errors import UserError

Scores = NDArray[np.float64]

PROBE_CS = (0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)
"""Candidate values of C, the inverse regularisation strength; chosen on the validation split."""
_BLOCK = 1024


def unit(vectors: ArrayLike) -> NDArray[np.float64]:
    """Normalise vectors [N, H] to unit length; zeros stay zero. Raises UserError on NaN and inf."""
    wide = np.asarray(vectors, dtype=np.float64)
    if wide.ndim != 2 or not np.isfinite(wide).all():
        raise UserError(f"expected finite embeddings [N, H], got shape {wide.shape}.")
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(lengths == 0, 1, lengths)


def nearest_neighbours(
    queries: ArrayLike, support: ArrayLike, labels: ArrayLike, n_classes: int, k: int = 1
) -> Scores:
    """k-NN by cosine similarity: the score of a class is its votes among the k nearest support clips.

    Ties go to the class with the lower number, as in scikit-learn. Classes without a vote are ranked by their
    nearest clip: they score (similarity + 1) / 4, which is below 1. Raises UserError if k is not between 1
    and the size of the support.
    """
    q, s, own = unit(queries), unit(support), _labels(labels, support, n_classes)
    if not 1 <= k <= len(s):
        raise UserError(f"k nearest neighbours: got k={k}; the support has {len(s)} clips.")
    scores = np.full((len(q), n_classes), -np.inf)
    order = np.argsort(own, kind="stable")
    present, starts = np.unique(own[order], return_index=True)
    for start in range(0, len(q), _BLOCK):
        part = slice(start, start + _BLOCK)
        similar = on_grid(q[part] @ s.T)
        nearest = np.maximum.reduceat(similar[:, order], starts, axis=1)
        scores[part, present] = (nearest + 1) / 4
        best = np.argsort(-similar, axis=1, kind="stable")[:, :k]
        given = np.zeros((len(best), n_classes))
        np.add.at(given, (np.arange(len(best))[:, None], own[best]), 1)
        scores[part] = np.where(given > 0, given, scores[part])
    return scores


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
    q, s, own = unit(queries), unit(support), _labels(labels, support, n_classes)
    means = np.zeros((n_classes, s.shape[1]))
    scores = np.full((len(q), n_classes), -np.inf)
    present = np.unique(own)
    for label in present:
        members = np.flatnonzero(own == label)
        if shots is not None and len(members) > shots:
            assert rng is not None, "drawing clips needs a generator"
            members = rng.choice(members, shots, replace=False)
        means[label] = s[members].mean(axis=0)
    scores[:, present] = on_grid(q @ unit(means[present]).T)
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
    s, own = unit(support), _labels(labels, support, n_classes)
    present = np.unique(own)
    if len(present) < 2:
        raise UserError("a linear probe needs training clips of at least two classes.")
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    scores = np.full((len(np.asarray(queries)), n_classes), -np.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)  # one clip per class
        # with scikit-learn's default tol=1e-4 and a large C, predictions depend on rounding
        probe = LogisticRegression(C=c, max_iter=5000, tol=1e-6).fit(s, own)
    scores[:, probe.classes_] = probe.predict_log_proba(unit(queries))
    return scores


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

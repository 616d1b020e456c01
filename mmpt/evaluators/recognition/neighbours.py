"""k nearest neighbours by cosine similarity.

To rank the true class of a query, similarities are computed in float32. Where the bound of their rounding
error leaves the k nearest clips or the rank open, they are computed again in float64, so that the rank is the
one of the exact scores.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmpt.evaluators.recognition.classifiers import Scorer, Scores, Support, all_scores
from mmpt.utils.arrays import on_grid
from mmpt.utils.errors import UserError
from mmpt.utils.top_k import TopK

_TILE = 8192  # support clips of a matrix of similarities
_GROUP, _GROUPS = 16, 256  # clips of a group at most, and groups of a tile at least (see _Screen)
_SPARE = 2  # clips beyond k that float32 selects


def nearest_neighbours(
    queries: ArrayLike, support: ArrayLike, labels: ArrayLike, n_classes: int, k: int = 1
) -> Scores:
    """k-NN by cosine similarity: the score of a class is its votes among the k nearest support clips.

    Of equally near clips the first ones are taken. Ties of votes go to the class with the lower number, as in
    scikit-learn. Classes without a vote are ranked by their nearest clip: they score (similarity + 1) / 4,
    which is below 1. Raises UserError if k is not between 1 and the size of the support.
    """
    return all_scores(neighbours(Support(support, labels, n_classes), k), queries)


def votes(scores: Scores) -> NDArray[np.int64]:
    """Recover the votes from the scores of nearest_neighbours, int64 [N, C]."""
    return np.floor(np.where(np.isfinite(scores), scores, 0) + 1e-9).astype(np.int64)


def neighbours(support: Support, k: int) -> Scorer:
    """Scores of `nearest_neighbours`."""
    if not 1 <= k <= len(support):
        raise UserError(f"k nearest neighbours: got k={k}; the support has {len(support)} clips.")
    screen = _Screen(support, k)

    def scores(queries: NDArray[np.float64], truth: NDArray[np.int64] | None) -> Scores:
        return _exact(support, queries, k)[1] if truth is None else screen.scores(queries, truth)

    return scores


def _exact(support: Support, queries: NDArray[np.float64], k: int) -> tuple[NDArray[np.int64], Scores]:
    """The k nearest clips [N, k], and the scores."""
    nearest = np.full((len(queries), support.n_classes), -np.inf)
    best = TopK(len(queries), k, np.float64)
    for start in range(0, len(support), _TILE):
        tile = slice(start, start + _TILE)
        similar = on_grid(queries @ support.vectors[tile].T)
        best.add(similar, support.order[tile])
        classes, starts = np.unique(support.sorted_labels[tile], return_index=True)
        highest = np.maximum.reduceat(similar, starts, axis=1)
        nearest[:, classes] = np.maximum(nearest[:, classes], highest)
    given = _votes(support.labels[best.numbers], support.n_classes)
    return best.numbers, np.where(given > 0, given, (nearest + 1) / 4)


def _votes(labels: NDArray[np.int64], n_classes: int) -> NDArray[np.int64]:
    """Votes [N, C] of clips of the classes `labels` [N, k]."""
    at = np.arange(len(labels))[:, None] * n_classes + labels
    return np.bincount(at.ravel(), minlength=len(labels) * n_classes).reshape(len(labels), n_classes)


class _Screen:
    """Scores by float32, made exact where the votes or the rank of the true class depend on it.

    The clips of a class are divided into groups. A tile of support clips has the first clip of each of its
    groups, then the second ones, and so on, so that the highest similarities of the groups are maxima of
    slices; groups with more clips stand first. Only groups with a high one are searched for neighbours.
    """

    def __init__(self, support: Support, k: int):
        self._support, self._k = support, k
        self._width = min(k + _SPARE, len(support))
        # error of the difference of two products of unit vectors: 2 (H + 2) roundings of eps / 2, and 10 %
        self._error = 1.1 * (support.vectors.shape[1] + 2) * float(np.finfo(np.float32).eps)
        per_group = min(_TILE, len(support)) // max(_GROUPS, 8 * self._width)
        counts = np.bincount(support.sorted_labels)
        groups = -(-counts // min(_GROUP, max(1, per_group)))
        self._order, self._tiles = _layout(support.sorted_labels, counts, groups)
        self._classes = np.flatnonzero(counts)
        self._first = (np.cumsum(groups) - groups)[self._classes]
        self._vectors = support.vectors[self._order].astype(np.float32)

    def scores(self, queries: NDArray[np.float64], truth: NDArray[np.int64]) -> Scores:
        """The highest score of each query is exact, and so is the order of the others with the true class."""
        best, highest = self._compared(queries.astype(np.float32))
        labels = self._support.labels[self._k_nearest(queries, best)]
        given = _votes(labels, self._support.n_classes)
        scores = np.where(given > 0, given, -np.inf)
        rows = np.flatnonzero((truth >= 0) & (given[np.arange(len(truth)), truth] == 0))
        if len(rows):
            nearest = self._nearest(queries[rows], truth[rows], given[rows] == 0, highest[:, rows].T)
            scores[rows] = np.where(given[rows] > 0, given[rows], (nearest + 1) / 4)
        return scores

    def _compared(self, queries: NDArray[np.float32]) -> tuple[TopK, NDArray[np.float32]]:
        """The nearest clips, numbered as in self._vectors, and the maxima of the groups [G, N]."""
        count = len(queries)
        best = TopK(count, self._width, np.float32)
        highest = np.empty((sum(len(groups) for groups, _ in self._tiles), count), dtype=np.float32)
        start = 0
        for groups, layers in self._tiles:
            similar = np.empty((layers.sum(), count), dtype=np.float32)
            maxima = np.full((len(groups), count), -np.inf, dtype=np.float32)
            firsts = np.cumsum(layers) - layers
            for first, width in zip(firsts, layers):
                part = slice(first, first + width)
                clips = self._vectors[start : start + len(similar)][part]
                np.maximum(maxima[:width], np.matmul(clips, queries.T, out=similar[part]), out=maxima[:width])
            at_least = _bound(maxima, best.scores)
            group, row = np.nonzero(maxima >= at_least)
            clip = group[:, None] + firsts
            score = similar.ravel().take(clip * count + row[:, None], mode="clip")
            which, layer = np.nonzero((score >= at_least[row, None]) & (group[:, None] < layers))
            best.merge(row[which], score[which, layer], start + clip[which, layer])
            highest[groups] = maxima
            start += len(similar)
        return best, highest

    def _k_nearest(self, queries: NDArray[np.float64], best: TopK) -> NDArray[np.int64]:
        """Numbers of the k nearest clips [N, k], given `self._width` that are the nearest in float32."""
        support, k, similar = self._support, self._k, best.scores
        clips = self._order[best.numbers]
        numbers = support.order[clips]
        if k == len(support):
            return numbers
        doubtful = np.flatnonzero(similar[:, k - 1] - similar[:, k] <= self._error)
        if self._width < len(support):  # more clips than were selected can be among the k nearest
            more = similar[doubtful, k - 1] - similar[doubtful, -1] <= self._error
            if more.any():
                numbers[doubtful[more], :k] = _exact(support, queries[doubtful[more]], k)[0]
            doubtful = doubtful[~more]
        exact = on_grid(np.einsum("nh,nkh->nk", queries[doubtful], support.vectors[clips[doubtful]]))
        some = numbers[doubtful]
        numbers[doubtful] = np.take_along_axis(some, np.lexsort((some, -exact), axis=1), axis=1)
        return numbers[:, :k]

    def _nearest(
        self,
        queries: NDArray[np.float64],
        truth: NDArray[np.int64],
        voteless: NDArray[np.bool_],
        highest: NDArray[np.float32],
    ) -> Scores:
        """Similarity of the nearest clip of each class [N, C], exact where it is near the true class's."""
        nearest = np.full(voteless.shape, -np.inf)
        nearest[:, self._classes] = np.maximum.reduceat(highest, self._first, axis=1)
        own = nearest[np.arange(len(truth)), truth][:, None]
        close = (
            voteless & (nearest > -np.inf) & (own - self._error <= nearest) & (nearest <= own + self._error)
        )
        row, label = np.nonzero(close & (np.count_nonzero(close, axis=1) > 1)[:, None])
        for number in np.unique(label):
            some = row[label == number]
            members = slice(*np.searchsorted(self._support.sorted_labels, [number, number + 1]))
            nearest[some, number] = on_grid(queries[some] @ self._support.vectors[members].T).max(axis=1)
        return nearest


def _layout(
    labels: NDArray[np.int64], counts: NDArray[np.int64], groups: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[tuple[NDArray[np.int64], NDArray[np.int64]]]]:
    """The order of the clips; for each tile, its groups and how many of them have a first, second, ... clip.

    labels: ascending. counts, groups: the clips of each class, and the groups that they are divided into.
    """
    place = np.arange(len(labels)) - (np.cumsum(counts) - counts)[labels]
    group = (np.cumsum(groups) - groups)[labels] + place % groups[labels]
    layer = place // groups[labels]
    sizes = np.bincount(group)
    tile = (np.cumsum(sizes) - 1) // _TILE
    by_size = np.lexsort((-sizes, tile))
    order = np.lexsort((np.argsort(by_size)[group], layer, tile[group]))
    tiles = range(tile[-1] + 1)
    return order, [(by_size[tile[by_size] == t], np.bincount(layer[tile[group] == t])) for t in tiles]


def _bound(maxima: NDArray[np.float32], best: NDArray[np.float32]) -> NDArray[np.float32]:
    """A lower bound of the k-th highest similarity of each query. best: [N, k], the highest so far.

    maxima: [G, N], of groups of similarities. The k-th highest maximum is a bound; that of the maxima of sets
    of four groups is hardly lower and is found sooner.
    """
    k, sets = best.shape[1], len(maxima) // 4
    reached = best[:, -1]
    if sets > k and np.count_nonzero(maxima >= reached) > 2 * k * len(best):
        of_sets = maxima[: 4 * sets].reshape(4, sets, -1).max(axis=0)
        reached = np.maximum(reached, np.partition(of_sets, sets - k, axis=0)[sets - k])
    return reached

"""Retrieval of sentences: N clips, each with a text of its own, ranked in both directions.

CLIP4Clip (Luo et al. 2022, https://arxiv.org/abs/2104.08860) and CiCo (Cheng et al. 2023,
https://arxiv.org/abs/2303.12793) report R@1, R@5, R@10, MedianR and MeanR of text to video (T2V) and video to
text (V2T). They differ where several clips have the same text:

    strict    CLIP4Clip. N queries and N candidates in both directions; only the text's own clip, and only the
              clip's own text, is right. In V2T the copies of the own text tie with it.
    grouped   CiCo: equal texts are one text, so duplicates count as right. T2V: the P distinct texts are
              queries; a candidate is all clips of one text, with the score of the best one. V2T: the N clips
              are queries, the P distinct texts are candidates.

Without duplicates both are the same. Ties: see tied_ranks.py. CLIP4Clip's code counts a query with m tied
ranks m times, so that queries with duplicates weigh more; here every query weighs the same, and its value is
the mean over the tied ranks. Where no scores tie, the numbers equal those of both codes, except for the
medians of PyTorch (CiCo's V2T, CLIP4Clip's with several texts a video), the lower of the middle two.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmpt.evaluators.metrics.ranking import KS, TILE_COLUMNS, TILE_ROWS, check_prompt_ids
from mmpt.evaluators.metrics.retrieval import as_similarity
from mmpt.evaluators.metrics.similarity import ScoreTiles
from mmpt.evaluators.metrics.tied_ranks import TiedRanks, tied_rank_metrics
from mmpt.utils.errors import UserError

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PairRanks:
    """The ranks by direction, "t2v" and "v2t"; see the module.

    strict: of the N clips. grouped: "t2v" of the P distinct texts, "v2t" of the N clips.
    """

    strict: dict[str, TiedRanks]
    grouped: dict[str, TiedRanks]


def sentence_metrics(
    similarity: ArrayLike, text_of_video: ArrayLike | None = None, ks: Sequence[int] = KS
) -> dict[str, dict[str, dict[str, float]]]:
    """Metrics of a similarity matrix [P, N] of P distinct texts and N clips.

    text_of_video: integers [N], the row of each clip's text; None: clip i has text i. Returns {"strict":
    {"t2v": {"R@1", ..., "MedianR", "MeanR", "MRR", "DCG"}, "v2t": ...}, "grouped": ...}. Raises UserError on
    shapes that do not fit, texts without a clip, and NaN or infinite similarities.
    """
    ranks = rank_pair_matrix(similarity, text_of_video)
    return {
        name: {side: tied_rank_metrics(one, ks) for side, one in of.items()}
        for name, of in (("strict", ranks.strict), ("grouped", ranks.grouped))
    }


def rank_pair_matrix(similarity: ArrayLike, text_of_video: ArrayLike | None = None) -> PairRanks:
    """The ranks behind `sentence_metrics`."""
    matrix = as_similarity(similarity)
    n_texts, n_videos = matrix.shape
    ids = np.arange(n_videos) if text_of_video is None else text_of_video
    counter = _PairCounter(check_prompt_ids(ids, n_texts, n_videos), n_texts)
    by_text = matrix[:, counter.order]
    if not np.isfinite(by_text).all():
        raise UserError("the similarities contain NaN or infinite values; check the embeddings.")
    counter.start(by_text[counter.labels, np.arange(n_videos)])
    for columns in counter.columns():
        for row in range(0, n_texts, TILE_ROWS):
            counter.add(by_text[row : row + TILE_ROWS, columns], row, columns.start)
    return counter.ranks()


def rank_pairs(
    text: ArrayLike, video: ArrayLike, text_of_video: ArrayLike, kind: str = "cosine"
) -> PairRanks:
    """The ranks of embeddings, in blocks: the matrix of all similarities is never held in memory.

    text: [P, H], one row for each distinct text. video: [N, H]. text_of_video: integers [N]. kind: "cosine"
    or "dot". Raises UserError as `sentence_metrics`.
    """
    texts, videos = np.asarray(text), np.asarray(video)
    counter = _PairCounter(check_prompt_ids(text_of_video, len(texts), len(videos)), len(texts))
    if not np.array_equal(counter.order, np.arange(len(videos))):
        videos = videos[counter.order]
    tiles = ScoreTiles(texts, videos, counter.labels, kind)
    columns = counter.columns()
    counter.start(tiles.own(columns))
    for tile, row, column in tiles.blocks(columns):
        if not np.isfinite(tile).all():
            raise UserError("the similarities contain NaN or infinite values; check the embeddings.")
        counter.add(tile, row, column)
    return counter.ranks()


class _PairCounter:
    """Counts, tile by tile, the candidates above and level with each right one.

    The columns of a tile are whole groups of clips: take the clips in the order `order`, in the pieces of
    `columns()`. labels: the text of each clip in that order.
    """

    def __init__(self, text_of_video: Ints, n_texts: int):
        self.order = np.argsort(text_of_video, kind="stable")
        self.labels = text_of_video[self.order]
        self.sizes = np.bincount(text_of_video, minlength=n_texts)
        if (lonely := np.flatnonzero(self.sizes == 0)).size:
            raise UserError(
                f"text {lonely[0]} has no clip ({lonely.size} of {n_texts} texts have none): expected a clip "
                "for every text."
            )
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)])
        self.distinct = len(self.labels) == n_texts
        n = len(self.labels)
        self._t2v, self._v2t = _Counts(n), _Counts(n)
        self._t2v_grouped = self._t2v if self.distinct else _Counts(n_texts)
        self._v2t_grouped = self._v2t if self.distinct else _Counts(n)

    def columns(self) -> list[slice]:
        """Pieces of the clips that split no group, about a tile wide."""
        pieces, start = [], 0
        while start < len(self.labels):
            wanted = np.searchsorted(self.starts, start + TILE_COLUMNS, side="right") - 1
            group = np.searchsorted(self.starts, start)
            stop = int(self.starts[max(wanted, group + 1)])
            pieces.append(slice(start, stop))
            start = stop
        return pieces

    def start(self, own: NDArray) -> None:
        """Set the score of each clip with its own text [N], bit for bit as in the tiles."""
        self._own = own
        self._best = np.maximum.reduceat(own, self.starts[:-1])

    def add(self, tile: NDArray, row: int, column: int) -> None:
        """Count the tile [texts, clips] that starts at (row, column)."""
        rows, columns = slice(row, row + len(tile)), slice(column, column + tile.shape[1])
        above, level = tile > self._own[columns], tile == self._own[columns]
        if not self.distinct:
            self._v2t_grouped.add(columns, above.sum(axis=0), level.sum(axis=0))
            copies = self.sizes[rows, None]
            above, level = above * copies, level * copies
        self._v2t.add(columns, above.sum(axis=0), level.sum(axis=0))
        first, stop = self.starts[[row, row + len(tile)]]
        for piece in range(first, stop, TILE_ROWS):  # the clips whose own text is a row of the tile
            members = slice(piece, min(piece + TILE_ROWS, stop))
            scores = tile if self.distinct else tile[self.labels[members] - row]
            self._t2v.count(members, scores, self._own[members])
        if not self.distinct:
            groups = np.flatnonzero((self.starts[:-1] >= columns.start) & (self.starts[:-1] < columns.stop))
            best = np.maximum.reduceat(tile, self.starts[groups] - column, axis=1)
            self._t2v_grouped.count(rows, best, self._best[rows])

    def ranks(self) -> PairRanks:
        """The ranks, in the clips' own order, after every tile has been added."""
        back = np.argsort(self.order)
        strict = {"t2v": self._t2v.ranks(back), "v2t": self._v2t.ranks(back)}
        texts = self._t2v_grouped.ranks(slice(None))
        return PairRanks(strict, {"t2v": texts, "v2t": self._v2t_grouped.ranks(back)})


class _Counts:
    """Numbers of candidates above and level with the right one, of n queries."""

    def __init__(self, n: int):
        self.above, self.level = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)

    def add(self, part: slice, above: NDArray, level: NDArray) -> None:
        self.above[part] += above
        self.level[part] += level

    def count(self, part: slice, scores: NDArray, own: NDArray) -> None:
        """Count each row of scores; own: [rows]."""
        self.add(
            part,
            np.count_nonzero(scores > own[:, None], axis=1),
            np.count_nonzero(scores == own[:, None], axis=1),
        )

    def ranks(self, order: Ints | slice) -> TiedRanks:
        return TiedRanks(1 + self.above[order], self.level[order])

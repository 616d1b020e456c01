"""Retrieval metrics between prompts and videos: pure functions of arrays.

A similarity matrix is always [n_prompts, n_videos]. Ranks start at 1; fractions are not percent. Ties go to
the candidate with the lower index.

T2V, text to video. Queries are the prompts that have a video; all videos are candidates.
    P@k      relevant videos among the first k, summed over queries, divided by k times the number of queries.
             P@10 cannot reach 1 for prompts with 5 videos.
    R@k      relevant videos among the first k, summed over queries, divided by all relevant videos: recall
             pooled over queries. It cannot reach 1 for prompts with more than k videos.
    MedianR  median over queries of the rank of the first relevant video (mean of the middle two if even).
    MeanR    mean of those ranks.
V2T, video to text. Every video is a query; the candidates are the distinct prompts.
    R@k      share of videos whose prompt is among the first k.
    MedianR, MeanR   of the ranks of the videos' prompts.
If k exceeds the number of candidates, all of them count.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmpt.evaluators.metrics.ranking import KS, Ranks, check_ks, check_prompt_ids, rank_matrix
from mmpt.registry import Registry
from mmpt.utils.errors import UserError

METRICS: Registry[Any] = Registry("metric")
Metrics = dict[str, dict[str, float]]


def as_similarity(similarity: ArrayLike) -> NDArray:
    """Convert the matrix to float32 or float64. Raises UserError if it is not a 2-D array of numbers."""
    matrix = np.asarray(similarity)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiub":
        raise UserError(
            "expected a similarity matrix of numbers [n_prompts, n_videos], got an array of "
            f"{matrix.dtype} with shape {matrix.shape}."
        )
    if matrix.dtype in (np.float32, np.float64):
        return matrix
    return matrix.astype(np.float32 if matrix.dtype == np.float16 else np.float64)


def distinct(texts: Sequence[str]) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Distinct texts in order of first appearance, the id of each text [N], and their first rows [P]."""
    rows: dict[str, int] = {}
    for row, text in enumerate(texts):
        rows.setdefault(text, row)
    number = {text: i for i, text in enumerate(rows)}
    ids = np.fromiter((number[text] for text in texts), dtype=np.int64, count=len(texts))
    return list(rows), ids, np.fromiter(rows.values(), dtype=np.int64, count=len(rows))


def metrics_from_ranks(ranks: Ranks) -> Metrics:
    """{"t2v": {"P@k", "R@k", "MedianR", "MeanR"}, "v2t": {"R@k", ...}} for the k of `ranks.hits`."""
    ks = sorted(ranks.hits)
    found = {k: int(ranks.hits[k].sum()) for k in ks}
    t2v = {f"P@{k}": found[k] / (k * len(ranks.queries)) for k in ks}
    relevant = int(ranks.relevant.sum())
    t2v |= {f"R@{k}": found[k] / relevant for k in ks}
    v2t = {f"R@{k}": np.count_nonzero(ranks.v2t <= k) / len(ranks.v2t) for k in ks}
    return {"t2v": t2v | _middle(ranks.t2v), "v2t": v2t | _middle(ranks.v2t)}


def _middle(ranks: NDArray[np.int64]) -> dict[str, float]:
    middle = (len(ranks) - 1) // 2, len(ranks) // 2
    ordered = np.partition(ranks, middle)
    return {
        "MedianR": float(ordered[middle[0]] + ordered[middle[1]]) / 2,
        "MeanR": int(ranks.sum()) / len(ranks),
    }


def rank_metrics(similarity: ArrayLike, prompt_ids_of_videos: ArrayLike, ks: Sequence[int] = KS) -> Metrics:
    """Metrics of a matrix with one row for each distinct prompt.

    similarity: [n_prompts, n_videos]; prompts without a video are candidates of V2T.
    prompt_ids_of_videos: integers [n_videos], the row of each video's own prompt.
    Returns {"t2v": ..., "v2t": ...} as defined above. Raises UserError on shapes that do not fit, ids out of
    range, and NaN or infinite similarities.
    """
    matrix = as_similarity(similarity)
    ids = check_prompt_ids(prompt_ids_of_videos, *matrix.shape)
    return metrics_from_ranks(rank_matrix(matrix, ids, check_ks(ks)))


@METRICS.register("RetrievalMetric", "RWTHFSMetric", "RWTHFST2VMetric", "RWTHFSV2TMetric")
def retrieval_metrics(similarity: ArrayLike, texts: Sequence[str], ks: Sequence[int] = KS) -> Metrics:
    """Metrics of N pairs of a prompt and a video, where several pairs may share a prompt.

    similarity: [N, N], row i the prompt of example i, column j the video of example j.
    texts: the N prompts; equal strings are one prompt.
    Returns {"t2v": ..., "v2t": ...} as defined above.

    Usually the rows of equal texts are equal. If they are not, T2V uses the first row of each text, and V2T
    ranks each text by its best row.

    MMPT's metric gives the same T2V. Its V2T removes a repeated text from the ranked list only if the repeats
    are adjacent. If rows of other texts come between them (ties, or unequal rows of one text), the repeats
    take up ranks, and MMPT's ranks are the same or worse. R@1 is always equal.
    """
    matrix = as_similarity(similarity)
    if matrix.shape != (len(texts), len(texts)):
        raise UserError(
            f"expected a square similarity matrix, a row and a column for each of the {len(texts)} texts, "
            f"got shape {matrix.shape}."
        )
    _, ids, first = distinct(texts)
    ids = check_prompt_ids(ids, len(first), len(texts))
    of_prompts = matrix if len(first) == len(texts) else matrix[first]
    ranks = rank_matrix(of_prompts, ids, check_ks(ks))
    if len(first) < len(texts) and not _repeats_equal(matrix, ids, first):
        ranks = dataclasses.replace(ranks, v2t=_v2t_by_best_row(matrix, ids, len(first)))
    return metrics_from_ranks(ranks)


def _repeats_equal(matrix: NDArray, ids: NDArray[np.int64], first: NDArray[np.int64]) -> bool:
    """Whether the rows of equal texts are equal."""
    rows = max(1, (1 << 18) // matrix.shape[1])
    return all(
        (matrix[start : start + rows] == matrix[first[ids[start : start + rows]]]).all()
        for start in range(0, len(matrix), rows)
    )


def _v2t_by_best_row(matrix: NDArray, ids: NDArray[np.int64], n_prompts: int) -> NDArray[np.int64]:
    """Rank of each video's text [N] where a text scores as its best row and ties go by row index."""
    if not np.isfinite(matrix).all():
        raise UserError("the similarities contain NaN or infinite values; check the embeddings.")
    n_videos = matrix.shape[1]
    best = np.full((n_prompts, n_videos), -np.inf, dtype=matrix.dtype)
    best_row = np.zeros((n_prompts, n_videos), dtype=np.int32)
    for row, text in enumerate(ids):
        higher = matrix[row] > best[text]
        best[text][higher] = matrix[row][higher]
        best_row[text][higher] = row
    videos = np.arange(n_videos)
    own, own_row = best[ids, videos], best_row[ids, videos]
    before = (best > own) | ((best == own) & (best_row < own_row))
    return 1 + np.count_nonzero(before, axis=0)

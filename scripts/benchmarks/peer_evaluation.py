"""Retrieval metrics and k-NN as a competent user writes them with NumPy, torch and scikit-learn.

No sort: a rank is one plus the number of higher scores. Ties and NaN are not looked for.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

KS = (1, 5, 10)
Metrics = dict[str, dict[str, float]]


def numpy_metrics(similarity: NDArray[np.float32], ids: NDArray[np.int64]) -> Metrics:
    """Metrics of a matrix [prompts, clips]; ids: the prompt of each clip, each prompt at least once."""
    prompts, clips = similarity.shape
    own = similarity[ids, np.arange(clips)]
    v2t = 1 + (similarity > own).sum(axis=0)
    best = np.full(prompts, -np.inf, dtype=similarity.dtype)
    np.maximum.at(best, ids, own)
    t2v = 1 + (similarity > best[:, None]).sum(axis=1)
    if prompts == clips:
        return _metrics(v2t, t2v, {k: int((t2v <= k).sum()) for k in KS})
    top = np.argpartition(similarity, clips - KS[-1], axis=1)[:, clips - KS[-1] :]
    order = np.argsort(-np.take_along_axis(similarity, top, axis=1), axis=1)
    right = ids[np.take_along_axis(top, order, axis=1)] == np.arange(prompts)[:, None]
    return _metrics(v2t, t2v, {k: int(right[:, :k].sum()) for k in KS})


def torch_metrics(similarity: NDArray[np.float32], ids: NDArray[np.int64]) -> Metrics:
    """The same with torch, which computes in several threads."""
    matrix, prompt_of = torch.from_numpy(similarity), torch.from_numpy(ids)
    prompts, clips = matrix.shape
    own = matrix[prompt_of, torch.arange(clips)]
    v2t = 1 + (matrix > own).sum(0)
    best = torch.full((prompts,), -torch.inf).scatter_reduce(0, prompt_of, own, "amax")
    t2v = 1 + (matrix > best[:, None]).sum(1)
    if prompts == clips:
        hits = {k: int((t2v <= k).sum()) for k in KS}
    else:
        right = prompt_of[matrix.topk(KS[-1]).indices] == torch.arange(prompts)[:, None]
        hits = {k: int(right[:, :k].sum()) for k in KS}
    return _metrics(v2t.numpy(), t2v.numpy(), hits)


def _metrics(v2t: NDArray[np.int64], t2v: NDArray[np.int64], hits: dict[int, int]) -> Metrics:
    of_prompts = {f"P@{k}": n / (k * len(t2v)) for k, n in hits.items()}
    of_prompts |= {f"R@{k}": n / len(v2t) for k, n in hits.items()}
    of_clips = {f"R@{k}": float((v2t <= k).mean()) for k in KS}
    return {"t2v": of_prompts | _middle(t2v), "v2t": of_clips | _middle(v2t)}


def _middle(ranks: NDArray[np.int64]) -> dict[str, float]:
    return {"MedianR": float(np.median(ranks)), "MeanR": float(ranks.mean())}


METRICS: dict[str, Callable[..., Metrics]] = {"numpy": numpy_metrics, "torch": torch_metrics}


def _votes(metric: str) -> Callable[..., Any]:
    """Votes [queries, classes] of the k nearest by scikit-learn; unit vectors, if not by cosine."""

    def votes(
        queries: NDArray[np.float32], support: NDArray[np.float32], labels: NDArray[np.int64], k: int
    ) -> NDArray:
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.preprocessing import normalize

        if metric != "cosine":
            queries, support = normalize(queries), normalize(support)
        model = KNeighborsClassifier(k, metric=metric, algorithm="brute").fit(support, labels)
        return np.round(model.predict_proba(queries) * k)

    return votes


NEIGHBOURS = {
    "scikit-learn, cosine": _votes("cosine"),
    "scikit-learn, euclidean": _votes("euclidean"),
}

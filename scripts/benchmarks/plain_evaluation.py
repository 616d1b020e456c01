"""Retrieval metrics with plain loops."""

import numpy as np


def plain_metrics(similarity: np.ndarray, texts: list[str]) -> dict[str, dict[str, float]]:
    """The same metrics with plain loops: argsort each row and column, then loop over it in Python."""
    first: dict[str, int] = {}
    for i, text in enumerate(texts):
        first.setdefault(text, i)
    ks, n = (1, 5, 10), len(texts)
    right, places = dict.fromkeys(ks, 0), []
    for text, row in first.items():
        place = None
        for position, video in enumerate(np.argsort(-similarity[row], kind="stable"), start=1):
            if texts[video] == text:
                place = position if place is None else place
                for k in ks:
                    right[k] += position <= k
        places.append(place)
    t2v = {f"P@{k}": right[k] / (k * len(first)) for k in ks} | {f"R@{k}": right[k] / n for k in ks}
    t2v |= {"MedianR": float(np.median(places)), "MeanR": float(np.mean(places))}
    found, places = dict.fromkeys(ks, 0), []
    for video, text in enumerate(texts):
        ranked: list[str] = []
        seen: set[str] = set()
        for row in np.argsort(-similarity[:, video], kind="stable"):
            if texts[row] not in seen:
                seen.add(texts[row])
                ranked.append(texts[row])
        place = ranked.index(text) + 1
        places.append(place)
        for k in ks:
            found[k] += place <= k
    v2t = {f"R@{k}": found[k] / n for k in ks}
    v2t |= {"MedianR": float(np.median(places)), "MeanR": float(np.mean(places))}
    return {"t2v": t2v, "v2t": v2t}

"""A 2-D map of embeddings with t-SNE."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mmpt.evaluators.pictures.labels import short_labels
from mmpt.evaluators.recognition.classifiers import unit
from mmpt.utils.figures import save_figure

MAX_POINTS = 2000
MAX_NAMED = 40
MAX_TEXTS = 400
MAX_COLOURED = 20
_EQUAL = 1e-6


def embedding_map(path: Path, vectors: NDArray, classes: Sequence[str], groups: Sequence[str]) -> Path:
    """Draw clips with t-SNE (van der Maaten and Hinton, 2008), coloured by group.

    vectors: [N, H]. classes: drawn as shortened labels if there are few. groups: signers, "" for unknown; if
    all clips have one group, colours show classes. Of more than 2,000 clips, 2,000 evenly spaced ones are
    drawn, and the title says so. Returns `path`.
    """
    chosen = np.linspace(0, len(vectors) - 1, min(len(vectors), MAX_POINTS)).astype(int)
    points = project(vectors[chosen])
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.add_subplot()
    names = sorted(set(groups))
    few = 1 < len(names) <= MAX_COLOURED
    palette = colormaps["tab20" if not few or len(names) > 10 else "tab10"]
    distinct = sorted(set(classes))
    named = len(distinct) <= MAX_NAMED and len(chosen) <= MAX_TEXTS
    labels = dict(zip(distinct, short_labels(distinct, longest=12)))
    handles = []
    size = 8 if max(map(len, labels.values())) <= 6 else 6
    for number, name in enumerate(names if few else distinct if named else [None]):
        owner = groups if few else classes
        here = np.array([name is None or owner[i] == name for i in chosen])
        colour = palette(number % palette.N)
        x, y = points[here].T
        handles.append(axes.scatter(x, y, s=5 if named else 14, color=colour))
        for point, clip in zip(points[here], chosen[here]) if named else ():
            text = labels[classes[clip]]
            axes.annotate(text, point, (0, 3), textcoords="offset points", fontsize=size, color=colour)
    some = f"{len(chosen)} of {len(vectors)} clips" if len(chosen) < len(vectors) else f"{len(vectors)} clips"
    axes.set_title(
        f"{some}, {len(set(classes))} classes (t-SNE: only neighbourhoods are meaningful)", fontsize=9
    )
    axes.set_xticks([])
    axes.set_yticks([])
    if few:
        known = [name or "(unknown)" for name in short_labels(names, longest=24)]
        style = {"title": "signer", "fontsize": 8, "title_fontsize": 8, "frameon": False}
        figure.legend(handles, known, loc="outside right upper", **style)
    return save_figure(figure, path, dpi=120)


def project(vectors: NDArray) -> NDArray[np.float64]:
    """Project vectors [N, H], normalised, to [N, 2], deterministically.

    Fewer than four vectors, or equal ones, are placed in a row.
    """
    directions = unit(vectors)
    # t-SNE divides by the variance of the principal components and crashes if it is 0
    if len(directions) < 4 or np.ptp(directions, axis=0).max() < _EQUAL:
        return np.column_stack([np.arange(len(directions)), np.zeros(len(directions))])
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(directions) - 1) / 3)
    return (
        TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(directions).astype(np.float64)
    )

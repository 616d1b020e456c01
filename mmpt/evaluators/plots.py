"""Pictures of an evaluation. Drawn without a display and without touching matplotlib's global state."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mmpt.evaluators.tables import name_of
from mmpt.utils.files import atomic_write

MOST_CLASSES = 60  # more rows than this cannot be told apart in one picture
_INK, _ACCENT, _MUTED = "#222222", "#2f6db3", "#8a8a8a"


def confusion_matrix(
    path: Path, truth: NDArray, predicted: NDArray, labels: Sequence[str], results: Mapping[str, Any]
) -> Path:
    """Draw which prompt stood first (columns) for the clips of each prompt (rows), with counts in the cells.

    truth, predicted: integers [n_videos], indices of `labels`. Rows are the prompts that have clips, columns
    all prompts. With more than 60 prompts only the rows and columns with the most mistakes are drawn, and the
    title says so. Returns `path`.
    """
    counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(counts, (truth, predicted), 1)
    columns = np.arange(len(labels))
    if len(labels) > MOST_CLASSES:
        wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
        columns = np.sort(np.argsort(-wrong, kind="stable")[:MOST_CLASSES])
    rows = columns[counts.sum(axis=1)[columns] > 0]
    shown = counts[np.ix_(rows, columns)]
    share = shown / np.maximum(counts.sum(axis=1)[rows, None], 1)

    cell = 0.27
    figure = Figure(figsize=(3 + cell * len(columns), 2.3 + cell * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    for row, column in zip(*np.nonzero(shown)):
        colour = "white" if share[row, column] > 0.55 else _INK
        axes.text(column, row, str(shown[row, column]), ha="center", va="center", color=colour, fontsize=7)
    for row, prompt in enumerate(rows):  # where the right answers lie
        column = float(np.flatnonzero(columns == prompt)[0])
        axes.plot(*_box(column, float(row)), color=_MUTED, linewidth=0.7)
    axes.set_xticks(range(len(columns)), [labels[i] for i in columns], rotation=_turn(labels), fontsize=8)
    axes.set_yticks(range(len(rows)), [labels[i] for i in rows], fontsize=8)
    axes.set_xticks(np.arange(0.5, len(columns)), minor=True)
    axes.set_yticks(np.arange(0.5, len(rows)), minor=True)
    axes.grid(which="minor", color="#e4e8ee", linewidth=0.5)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("predicted: the prompt ranked first")
    axes.set_ylabel("true prompt of the clip")
    bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.02)
    bar.set_label("share of the prompt's clips")
    some = (
        f"\n{len(columns)} of {len(labels)} prompts: those most often mistaken"
        if len(columns) < len(labels)
        else ""
    )
    axes.set_title(_title(results) + some, fontsize=10)
    return _save(figure, path)


def per_class(
    path: Path, truth: NDArray, predicted: NDArray, labels: Sequence[str], results: Mapping[str, Any]
) -> Path:
    """Draw the share of each prompt's clips for which it stood first (V2T R@1), best first, with mean and
    chance.

    With more than 60 prompts the 60 worst are drawn, and the title says so. Returns `path`.
    """
    prompts, clips = np.unique(truth, return_counts=True)
    right = np.array([np.count_nonzero(predicted[truth == prompt] == prompt) for prompt in prompts])
    share = right / clips
    order = np.argsort(-share, kind="stable")[-MOST_CLASSES:]
    figure = Figure(figsize=(max(6.0, 1.5 + 0.3 * len(order)), 4), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.bar(range(len(order)), share[order], color=_ACCENT, width=0.75)
    axes.bar_label(bars, [f"{right[i]}/{clips[i]}" for i in order], fontsize=6.5, color=_INK, padding=1)
    mean, chance = results["v2t"]["R@1"], results["chance"]["v2t R@1"]
    axes.axhline(mean, color=_INK, linewidth=1, label=f"all clips: {mean:.3f}")
    axes.axhline(chance, color=_MUTED, linewidth=1, linestyle="--", label=f"chance: {chance:.3f}")
    axes.set_xticks(
        range(len(order)), [labels[prompts[i]] for i in order], rotation=_turn(labels), fontsize=8
    )
    axes.set_xlim(-0.7, len(order) - 0.3)
    axes.set_ylim(0, 1.1)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_ylabel("V2T R@1")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper right", fontsize=8, frameon=False, ncols=2, bbox_to_anchor=(1, 1.1))
    some = f"\nthe {len(order)} worst of {len(prompts)} prompts" if len(order) < len(prompts) else ""
    axes.set_title(_title(results) + some, fontsize=10, loc="left")
    return _save(figure, path)


def _title(results: Mapping[str, Any]) -> str:
    return (
        f"{name_of(results)}: V2T R@1 {results['v2t']['R@1']:.3f}\n"
        f"N = {results['n_videos']} clips, {results['n_prompts']} prompts, chance "
        f"{results['chance']['v2t R@1']:.3f}"
    )


def _turn(labels: Sequence[str]) -> int:
    return 90 if max(len(label) for label in labels) > 3 else 0


def _box(x: float, y: float) -> tuple[list[float], list[float]]:
    return [x - 0.5, x + 0.5, x + 0.5, x - 0.5, x - 0.5], [y - 0.5, y - 0.5, y + 0.5, y + 0.5, y - 0.5]


def _save(figure: Figure, path: Path) -> Path:
    width, height = figure.get_size_inches()
    resolution = min(150, math.floor(4000 / max(width, height)))
    with atomic_write(path) as temporary:
        FigureCanvasAgg(figure).print_figure(temporary, dpi=resolution)
    return path

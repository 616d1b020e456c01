"""Confusion matrix and recall by class, drawn without a display or matplotlib's global state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mmpt.evaluators.pictures.sign_labels import Label, set_tick_labels, sign_labels, tick_room
from mmpt.evaluators.reports.tables import name_of
from mmpt.utils.figures import save_figure

MAX_CLASSES = 60  # more are not legible
_MAX_CONFUSED = 40
_INK, _ACCENT, _MUTED, _GRID = "#222222", "#2f6db3", "#8a8a8a", "#e4e8ee"


def confusion_matrix(
    path: Path, truth: NDArray, predicted: NDArray, prompts: Sequence[str], results: Mapping[str, Any]
) -> Path:
    """Draw the confusion matrix: true prompts (rows), predicted prompts (columns), counts in the cells.

    truth, predicted: integers [n_videos], indices of `prompts`. Rows are the prompts that have clips, columns
    all prompts; the diagonal is framed. With more than 60 prompts only the 40 most confused ones are drawn,
    and the title says so. Returns `path`.
    """
    labels = sign_labels(prompts)
    pairs, counts = np.unique(np.stack([truth, predicted]), axis=1, return_counts=True)
    columns = _most_confused(pairs, counts) if len(labels) > MAX_CLASSES else np.arange(len(labels))
    clips = np.bincount(truth, minlength=len(labels))
    rows = columns[clips[columns] > 0]
    position = np.full((2, len(labels)), -1)
    position[0, rows], position[1, columns] = np.arange(len(rows)), np.arange(len(columns))
    row, column = position[0, pairs[0]], position[1, pairs[1]]
    kept = (row >= 0) & (column >= 0)
    shown = np.zeros((len(rows), len(columns)), dtype=np.int64)
    shown[row[kept], column[kept]] = counts[kept]
    share = shown / clips[rows, None]

    cell = tick_room(labels, 0.26)
    figure = Figure(figsize=(3 + cell * len(columns), 2.2 + cell * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    for y, x in zip(*np.nonzero(shown)):
        colour = "white" if share[y, x] > 0.55 else _INK
        axes.text(x, y, str(shown[y, x]), ha="center", va="center", color=colour, fontsize=7)
    for y, number in enumerate(rows):
        axes.plot(*_box(position[1, number], y), color=_MUTED, linewidth=0.7)
    set_tick_labels(axes, "x", [labels[i] for i in columns], 8, cell)
    set_tick_labels(axes, "y", [labels[i] for i in rows], 8, cell)
    axes.tick_params(axis="x", rotation=_rotation(labels))
    axes.set_xticks(np.arange(0.5, len(columns) - 1), minor=True)
    axes.set_yticks(np.arange(0.5, len(rows) - 1), minor=True)
    axes.grid(which="minor", color=_GRID, linewidth=0.5)
    axes.tick_params(which="both", length=0)
    noun, nouns = _nouns(results)
    axes.set_xlabel(f"predicted: the {noun} ranked first")
    axes.set_ylabel(f"true {noun} of the clip")
    bar = figure.colorbar(image, ax=axes, shrink=0.5, aspect=30, pad=0.02)
    bar.set_label(f"share of the {noun}'s clips", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    all_shown = len(columns) == len(labels)
    some = "" if all_shown else f"\n{len(columns)} of {len(labels)} {nouns}, the most confused ones"
    axes.set_title(_title(results) + some, fontsize=10)
    return save_figure(figure, path)


def _most_confused(pairs: NDArray, counts: NDArray) -> NDArray:
    """The prompts of the most frequent confusions, sorted."""
    order = np.argsort(-np.where(pairs[0] == pairs[1], 0, counts), kind="stable")
    chosen: dict[int, None] = {}
    for pair in order:
        chosen.update(dict.fromkeys(pairs[:, pair].tolist()))
        if len(chosen) >= _MAX_CONFUSED:
            break
    return np.sort(list(chosen))


def per_class(
    path: Path, truth: NDArray, predicted: NDArray, prompts: Sequence[str], results: Mapping[str, Any]
) -> Path:
    """Draw V2T R@1 of each prompt, best first, with the mean and chance.

    Up to 60 prompts are bars with names and counts; more are a curve. Returns `path`.
    """
    labels = sign_labels(prompts)
    clips = np.bincount(truth, minlength=len(labels))
    right = np.bincount(truth[truth == predicted], minlength=len(labels))
    classes = np.flatnonzero(clips)
    share = right[classes] / clips[classes]
    order = np.argsort(-share, kind="stable")
    bars = MAX_CLASSES / 2 if len(order) > MAX_CLASSES else len(order)
    width = max(7.5, 1.5 + tick_room(labels, 0.3) * bars)
    figure = Figure(figsize=(width, 4), layout="constrained")
    axes = figure.add_subplot()
    if len(order) <= MAX_CLASSES:
        names = [labels[classes[i]] for i in order]
        counts = [f"{right[classes[i]]}/{clips[classes[i]]}" for i in order]
        _bars(axes, share[order], names, counts)
    else:
        axes.fill_between(range(len(order)), share[order], step="mid", color=_ACCENT)
        axes.set_xlim(-0.5, len(order) - 0.5)
        axes.set_xlabel(f"the {len(order)} {_nouns(results)[1]} that have clips, best first")
    mean, chance = results["v2t"]["R@1"], results["chance"]["v2t R@1"]
    axes.axhline(mean, color=_INK, linewidth=1, label=f"all clips: {mean:.3f}")
    axes.axhline(chance, color=_MUTED, linewidth=1, linestyle="--", label=f"chance: {chance:.3f}")
    axes.set_ylim(0, 1.1)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_ylabel(_metric(results))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", fontsize=8, frameon=False, ncols=2, bbox_to_anchor=(1, 1))
    axes.set_title(_title(results), fontsize=10, loc="left")
    return save_figure(figure, path)


def _bars(axes: Axes, share: NDArray, names: Sequence[Label], counts: Sequence[str]) -> None:
    bars = axes.bar(range(len(share)), share, color=_ACCENT, width=0.75)
    axes.bar_label(bars, counts, fontsize=6.5, color=_INK, padding=1)
    set_tick_labels(axes, "x", names, 8, tick_room(names, 0.3))
    axes.tick_params(axis="x", rotation=_rotation(names), length=0)
    axes.set_xlim(-0.7, max(len(share) - 0.3, 8))


def _title(results: Mapping[str, Any]) -> str:
    n_videos, n_prompts = results["n_videos"], results["n_prompts"]
    chance = results["chance"]["v2t R@1"]
    name = f"{name_of(results)}: {_metric(results)} {results['v2t']['R@1']:.3f}"
    return f"{name}\nN = {n_videos} clips, {n_prompts} {_nouns(results)[1]}, chance {chance:.3f}"


def _nouns(results: Mapping[str, Any]) -> tuple[str, str]:
    """The noun for the labels, singular and plural: prompts, or classes of training clips."""
    return ("class", "classes") if results.get("noun") == "class" else ("prompt", "prompts")


def _metric(results: Mapping[str, Any]) -> str:
    return "R@1" if results.get("noun") == "class" else "V2T R@1"


def _rotation(labels: Sequence[Label]) -> int:
    """Rotation of tick labels in degrees: long names are vertical, so that they do not overlap."""
    return 90 if max(len(label.text) for label in labels) > 3 else 0


def _box(x: float, y: float) -> tuple[list[float], list[float]]:
    return [x - 0.5, x + 0.5, x + 0.5, x - 0.5, x - 0.5], [y - 0.5, y - 0.5, y + 0.5, y + 0.5, y - 0.5]

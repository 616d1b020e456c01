"""A picture of the scores of a recording over time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from mmpt.evaluators.pictures.labels import short_labels
from mmpt.spotting.metrics import Annotated
from mmpt.utils.figures import save_figure

MOST_TEXTS = 10
_SCORE, _FOUND, _REFERENCE, _LIMIT = "tab:blue", "tab:orange", "tab:green", "0.45"


def draw_scores(
    path: Path,
    recording: Annotated,
    curve: NDArray[np.float32],
    names: Sequence[str],
    thresholds: NDArray[np.float32],
    annotated: bool = False,
) -> Path:
    """Draw the course of the scores, one row for each of the 10 texts with the highest scores.

    Texts of the reference or with detections come first. recording: the detections, and, if `annotated`, the
    reference. curve: [intervals, n] (see Curve). Returns `path`.
    """
    shown = _texts_to_show(recording, curve)
    figure = Figure(figsize=(11, 1.1 + 0.75 * max(len(shown), 1)), layout="constrained")
    rows = figure.subplots(max(len(shown), 1), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    edges = np.linspace(0, recording.seconds, len(curve) + 1)
    handles = {}
    for axes, text, label in zip(rows, shown, short_labels([names[text] for text in shown], longest=28)):
        if annotated:
            spans = recording.reference.spans[recording.reference.texts == text]
            bars = np.stack([spans[:, 0], np.ptp(spans, axis=1)], axis=1)
            handles["reference"] = axes.broken_barh(
                bars, (0, 1), transform=axes.get_xaxis_transform(), color=_REFERENCE, alpha=0.3, linewidth=0
            )
        centres = (edges[1:] + edges[:-1]) / 2
        there = ~np.isnan(curve[:, text])  # fewer windows than intervals: a line through all of them
        gaps = _gaps(there)
        [handles["score"]] = axes.plot(
            np.insert(centres[there], gaps, np.nan),
            np.insert(curve[there, text], gaps, np.nan),
            color=_SCORE,
            linewidth=0.9,
        )
        if np.isfinite(thresholds[text]):
            handles["threshold"] = axes.axhline(thresholds[text], color=_LIMIT, linewidth=0.8, linestyle="--")
        found = recording.found.texts == text
        if found.any():
            bars = recording.found.spans[found]
            handles["detection"] = axes.hlines(
                recording.scores[found], bars[:, 0], bars[:, 1], color=_FOUND, linewidth=2.5, zorder=3
            )
        axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
        axes.tick_params(labelsize=8)
    rows[-1].margins(y=0.12)
    rows[-1].set_xlim(0, recording.seconds)
    rows[-1].xaxis.set_major_formatter(FuncFormatter(_clock))
    rows[-1].set_xlabel("time (min:s)", fontsize=9)
    figure.suptitle(_title(recording, len(shown), len(names)), fontsize=10)
    if handles:
        figure.legend(
            handles.values(), handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False
        )
    return save_figure(figure, path, dpi=110)


def _texts_to_show(recording: Annotated, curve: NDArray[np.float32]) -> list[int]:
    """The texts of the reference, then those with detections, then others; each by their best score."""
    best = np.fmax.reduce(curve, axis=0, initial=-np.inf)
    group = np.zeros(curve.shape[1], int)
    group[recording.found.texts] = 1
    group[recording.reference.texts] = 2
    order = np.lexsort((-best, -group))
    chosen = [text for text in order[:MOST_TEXTS].tolist() if best[text] > -np.inf or group[text]]
    return sorted(chosen)


def _gaps(there: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Where to break the line: before points that follow a gap much longer than the usual one."""
    at = np.flatnonzero(there)
    steps = np.diff(at)
    return np.flatnonzero(steps > 3 * np.median(steps)) + 1 if len(steps) else np.zeros(0, np.intp)


def _title(recording: Annotated, shown: int, texts: int) -> str:
    some = f"{shown} of {texts} texts" if shown < texts else f"{texts} texts"
    return f"Score of the best window around each time; {some}, {len(recording.scores)} detections"


def _clock(seconds: float, _position: object = None) -> str:
    whole = f"{int(seconds // 60)}:{seconds % 60:04.1f}"
    return whole.removesuffix(".0")

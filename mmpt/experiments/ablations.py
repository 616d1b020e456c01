"""Compare configs that differ in one setting: mean over seeds, paired difference to the first config."""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmpt.config import load_config
from mmpt.config.compare import differences
from mmpt.config.package_files import description
from mmpt.evaluators.metrics.bootstrap import interval_of_mean
from mmpt.evaluators.reports.tables import difference, markdown_table, with_interval
from mmpt.experiments.runs import Run
from mmpt.utils.figures import save_figure

_LABEL_LINES = 3
_DIFFERENCE = ("v2t R@1 difference", "difference low", "difference high")


@dataclass
class Ablation:
    """Results of one config. correct: bool [seeds, N], V2T of each clip. t2v: P@1 of each seed."""

    name: str
    about: str
    correct: np.ndarray
    t2v: list[float]
    chance: float

    @classmethod
    def of_runs(cls, path: Path, runs: Sequence[tuple[Run, dict[str, Any]]], first: Path) -> "Ablation":
        """Collect the finished runs of a config with their results. first: the config to compare with."""
        return cls(
            name=path.stem,
            about=about(path, first),
            correct=np.stack([run.correct() for run, _ in runs]),
            t2v=[results["t2v"]["P@1"] for _, results in runs],
            chance=runs[0][1]["chance"]["v2t R@1"],
        )


def about(path: Path, first: Path) -> str:
    """What a config changes: its description, or its changes to `first` without paths."""
    if text := description(path):
        return text
    changed = differences(load_config(first), load_config(path))
    paths = ("save_dir", "save_path", "tensorboard_logdir")
    return ", ".join(
        f"{key}={json.dumps(now, ensure_ascii=False)}"
        for key, (_, now) in changed.items()
        if not key.endswith(paths)
    )


def compare(ablations: Sequence[Ablation]) -> list[dict[str, Any]]:
    """A row for each config: metrics, 95 % intervals over clips, and the paired difference to the first."""
    first = ablations[0]
    rows = []
    for one in ablations:
        low, high = interval_of_mean(one.correct)
        change = one.correct.mean(0) - first.correct.mean(0)
        below, above = interval_of_mean(change)
        rows.append(
            {
                "config": one.name,
                "about": one.about,
                "seeds": len(one.correct),
                "n": one.correct.shape[1],
                "v2t R@1": float(one.correct.mean()),
                "v2t R@1 low": low,
                "v2t R@1 high": high,
                "v2t R@1 of each seed": [round(float(value), 4) for value in one.correct.mean(1)],
                "v2t R@1 difference": float(change.mean()),
                "difference low": below,
                "difference high": above,
                "t2v P@1": float(np.mean(one.t2v)),
                "t2v P@1 of each seed": [round(value, 4) for value in one.t2v],
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]], first: Ablation) -> str:
    """The rows in Markdown."""
    header = ["config", "change", "V2T R@1", "seeds", "difference", "T2V P@1"]
    cells = [
        [
            row["config"],
            row["about"],
            with_interval(*(row[f"v2t R@1{bound}"] for bound in ("", " low", " high"))),
            ", ".join(f"{value:.3f}" for value in row["v2t R@1 of each seed"]),
            difference(*(row[name] for name in _DIFFERENCE)) if index else "-",
            f"{row['t2v P@1']:.3f}",
        ]
        for index, row in enumerate(rows)
    ]
    return (
        f"{markdown_table(header, cells)}\n\n{rows[0]['n']} clips; chance {first.chance:.3f}. In brackets: "
        "95 % intervals (bootstrap over clips; differences are paired).\n"
    )


def picture(path: Path, rows: Sequence[dict[str, Any]], title: str) -> Path:
    """Plot the mean of each config with its interval, and a dot for each seed."""
    from matplotlib.figure import Figure

    labels = [
        textwrap.wrap(row["about"] or row["config"], 42, max_lines=_LABEL_LINES, placeholder=" ...")
        for row in rows
    ]
    row_height = 0.3 + 0.17 * max(map(len, labels))
    figure = Figure(figsize=(8.5, row_height * len(rows) + 1.5), layout="constrained")
    axes = figure.subplots()
    for position, row in enumerate(rows):
        value = row["v2t R@1"]
        error = [[max(0.0, value - row["v2t R@1 low"])], [max(0.0, row["v2t R@1 high"] - value)]]
        axes.errorbar(value, position, xerr=error, fmt="s", color="black", capsize=3)
        seeds = row["v2t R@1 of each seed"]
        axes.plot(seeds, [position + 0.2] * len(seeds), ".", color="tab:blue")
    axes.axvline(rows[0]["v2t R@1"], color="gray", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rows)), ["\n".join(lines) for lines in labels], fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel("video to text, R@1 (square: mean, 95 % interval over clips; dots: seeds)")
    axes.set_title(title)
    return save_figure(figure, path)

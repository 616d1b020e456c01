"""A table of experiments: measured values, published values and notes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmpt.evaluators.reports.tables import COLUMNS, csv_text, markdown_table, number
from mmpt.processors.table_writer import read_csv
from mmpt.utils.cells import parse_number
from mmpt.utils.errors import UserError

KEYS = tuple(f"{direction} {metric}" for direction, metric, _ in COLUMNS)
_CHART = (("v2t", "R@1", "video to text, R@1"), ("t2v", "P@1", "text to video, P@1"))


@dataclass(frozen=True)
class Published:
    """A row of a paper's table. values: by column, such as "t2v P@1". note: description of the experiment."""

    values: dict[str, float]
    note: str


@dataclass
class Row:
    """An experiment. results: as in results.json, None if it has not been run. notes: one fact each."""

    name: str
    results: Mapping[str, Any] | None
    published: Published | None
    notes: list[str]

    def value(self, key: str) -> float | None:
        """The measured value of a column such as "t2v P@1"."""
        direction, metric = key.split(" ", 1)
        return None if self.results is None else self.results.get(direction, {}).get(metric)

    def paper(self, key: str) -> float | None:
        """The published value of a column."""
        return self.published.values.get(key) if self.published else None

    @property
    def note(self) -> str:
        """The published note, the state and the notes of the row."""
        first = [self.published.note] if self.published else []
        state = [] if self.results is not None else ["not run yet"]
        return "; ".join(first + state + self.notes)


def read_published(path: Path) -> dict[str, Published]:
    """Read a CSV file of published rows, with the columns config, the metrics (see COLUMNS) and note."""
    rows: dict[str, Published] = {}
    for row in read_csv(path, ("config", *KEYS, "note")):
        name = row["config"]
        if name in rows:
            raise UserError(f"{path}: there are two rows of {name}: remove one.")
        values = {key: parse_number(row[key]) for key in KEYS if row[key].strip()}
        if wrong := [key for key, value in values.items() if not math.isfinite(value)]:
            raise UserError(f"{path}: {name}, column {wrong[0]!r}: expected a number, got {row[wrong[0]]!r}.")
        rows[name] = Published(values, row["note"])
    return rows


def in_published_order(names: Iterable[str], published: Mapping[str, Published]) -> list[str]:
    """Distinct names: the published ones in the paper's order, then the others in the given order."""
    given = list(dict.fromkeys(names))
    return [name for name in published if name in given] + [name for name in given if name not in published]


def comparison_markdown(rows: Sequence[Row]) -> str:
    """The table in Markdown: each value followed by the published one in brackets."""
    header = ["config", "N", "prompts", *(f"{d.upper()} {heading}" for d, _, heading in COLUMNS), "notes"]
    lines = []
    for row in rows:
        cells = [row.name, *(_count(row, key) for key in ("n_videos", "n_prompts"))]
        for key in KEYS:
            metric, paper = key.split(" ", 1)[1], row.paper(key)
            measured = number(metric, row.value(key))
            cells.append(measured if paper is None else f"{measured} ({number(metric, paper)})")
        lines.append([*cells, row.note])
    table = markdown_table(header, lines)
    return f"{table}\n\nIn brackets: the published value. N: clips of the test split.\n"


def comparison_csv(rows: Sequence[Row]) -> str:
    """The table as CSV, with the measured and published value of each column; missing values are empty."""
    lines = []
    for row in rows:
        line: dict[str, Any] = {"config": row.name}
        line |= {key: _count(row, key) for key in ("n_videos", "n_prompts")}
        for key in KEYS:
            line |= {key: row.value(key), f"{key} published": row.paper(key)}
        lines.append(line | {"notes": row.note})
    return csv_text(lines)


def _count(row: Row, key: str) -> str:
    return "" if row.results is None else str(row.results[key])


def comparison_chart(path: Path, rows: Sequence[Row], title: str) -> Path:
    """Plot V2T R@1 and T2V P@1 of each experiment with the published value and 95 % intervals."""
    from matplotlib.figure import Figure

    from mmpt.utils.figures import save_figure

    positions = np.arange(len(rows))
    figure = Figure(figsize=(11, 1.6 + 0.46 * len(rows)), layout="constrained")
    axes = figure.subplots(1, len(_CHART), sharey=True)
    for axis, (direction, metric, heading) in zip(axes, _CHART):
        key = f"{direction} {metric}"
        measured = [row.value(key) for row in rows]
        paper = [row.paper(key) for row in rows]
        bars = axis.barh(
            positions - 0.2, [_height(v) for v in measured], 0.38, color="#2f6db3", label="measured"
        )
        axis.bar_label(
            bars, [number(metric, v) if v is not None else "not run" for v in measured], fontsize=7, padding=3
        )
        bars = axis.barh(
            positions + 0.2, [_height(v) for v in paper], 0.38, color="#c3cad3", label="published"
        )
        axis.bar_label(
            bars, [number(metric, v) if v is not None else "" for v in paper], fontsize=7, padding=3
        )
        for position, row, value in zip(positions, rows, measured):
            bounds = ((row.results or {}).get("intervals") or {}).get(direction, {}).get(metric)
            if bounds is not None and value is not None:
                label = None if "95 % interval" in axis.get_legend_handles_labels()[1] else "95 % interval"
                axis.plot(bounds, [position - 0.04] * 2, color="#222222", linewidth=1, label=label)
        axis.set_xlim(0, 1.14)
        axis.set_xticks(np.linspace(0, 1, 6))
        axis.set_title(heading, fontsize=10, loc="left")
        axis.grid(axis="x", color="#e4e8ee", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.tick_params(length=0, labelsize=8)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    axes[0].set_yticks(positions, [row.name.removeprefix("test_") for row in rows])
    axes[0].invert_yaxis()
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False
    )
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return save_figure(figure, path, dpi=130)


def _height(value: float | None) -> float:
    return 0.0 if value is None or math.isnan(value) else value

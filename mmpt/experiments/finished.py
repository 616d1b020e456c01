"""Compare finished evaluations clip by clip, with paired intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt.evaluators.metrics.bootstrap import interval_of_mean
from mmpt.evaluators.reports.results import read_results
from mmpt.evaluators.reports.tables import (
    RETRIEVAL,
    compared_by,
    difference,
    escape_markdown,
    markdown_table,
    protocol_of,
    with_interval,
)
from mmpt.utils.errors import UserError
from mmpt.utils.files import read_json

_BOUNDS = ("", " low", " high")


@dataclass(frozen=True)
class Finished:
    """One evaluation.

    clips: N ids, without clips that were no query. truth, nearest: prompt of each clip, and the one ranked
    first. right: share of right answers to each clip, of protocols that record it.
    """

    name: str
    results: dict[str, Any]
    clips: list[str]
    truth: list[str]
    nearest: list[str]
    right: list[float] | None = None

    @property
    def correct(self) -> NDArray[np.float64]:
        """float64 [N]: R@1 of each clip."""
        if self.right is not None:
            return np.array(self.right)
        return np.equal(self.truth, self.nearest).astype(np.float64)

    @property
    def protocol(self) -> str:
        """The protocol of eval.protocol."""
        return protocol_of(self.results)

    @classmethod
    def read(cls, folder: Path) -> "Finished":
        """Read a run folder, or its folder of results. Raises UserError if it holds no evaluation."""
        inner = folder if (folder / "results.json").is_file() else folder / "eval"
        results = read_results(inner)
        try:
            ids = read_json(inner / "ids.json")
            prompts, right = ids["prompts"], ids.get("right")
            asked = [n for n, prompt in enumerate(ids["nearest_prompt"]) if prompt >= 0]
            truth, nearest = (
                [prompts[ids[key][n]] for n in asked] for key in ("prompt_of_video", "nearest_prompt")
            )
            clips, shares = [ids["videos"][n] for n in asked], right and [float(right[n]) for n in asked]
            return cls(str(folder), results, clips, truth, nearest, shares)
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise UserError(
                f"{inner / 'ids.json'}: cannot be read ({error!r}): evaluate the model again."
            ) from None


def compare_finished(runs: Sequence[Finished]) -> list[dict[str, Any]]:
    """A row for each run: R@1, another metric of the protocol, and what changed since the first run.

    The difference has a 95 % interval of a bootstrap over clips, the same clips on both sides. Raises
    UserError if a run evaluated other clips or prompts than the first one, or by another protocol.
    """
    first = runs[0]
    known = dict(zip(first.clips, first.truth))
    names = [" ".join(name) for name in compared_by(first.results)]
    (side, metric), protocol = compared_by(first.results)[1], first.protocol
    rows = []
    for run in runs:
        if run.protocol != protocol:
            raise UserError(
                f"{run.name} was evaluated by protocol {run.protocol} and {first.name} by {protocol}: "
                "expected one protocol."
            )
        if dict(zip(run.clips, run.truth)) != known or len(run.clips) != len(first.clips):
            other = len(set(run.clips) ^ known.keys())
            what = f"{other} clips differ" if other else "clips have other prompts"
            raise UserError(
                f"{run.name} and {first.name} evaluated different splits ({what}): expected evaluations of "
                "the same clips and prompts."
            )
        order = {clip: row for row, clip in enumerate(run.clips)}
        correct = run.correct[[order[clip] for clip in first.clips]]
        change: NDArray[np.float64] = correct - first.correct
        low, high = interval_of_mean(correct[None])
        below, above = interval_of_mean(change)
        rows.append(
            {
                "run": run.name,
                "n": len(correct),
                names[0]: float(correct.mean()),
                f"{names[0]} low": low,
                f"{names[0]} high": high,
                "difference": float(change.mean()),
                "difference low": below,
                "difference high": above,
                "now right": [first.clips[i] for i in np.flatnonzero(change > 0)],
                "now wrong": [first.clips[i] for i in np.flatnonzero(change < 0)],
                names[1]: run.results[side][metric],
                "chance": run.results["chance"][names[0]],
            }
        )
    return rows


def comparison_table(rows: Sequence[dict[str, Any]], runs: Sequence[Finished], listed: int) -> str:
    """The rows in Markdown, then the first `listed` clips whose answer changed, with both answers."""
    by, other = (" ".join(name) for name in compared_by(runs[0].results))
    header = ["run", _heading(by), "difference", "newly right", "newly wrong", _heading(other)]
    cells = [
        [
            escape_markdown(row["run"]),
            with_interval(*(row[f"{by}{bound}"] for bound in _BOUNDS)),
            difference(*(row[f"difference{bound}"] for bound in _BOUNDS)) if index else "-",
            str(len(row["now right"])) if index else "-",
            str(len(row["now wrong"])) if index else "-",
            f"{row[other]:.3f}",
        ]
        for index, row in enumerate(rows)
    ]
    protocol = "" if runs[0].protocol == RETRIEVAL else f"Protocol {runs[0].protocol}; "
    text = (
        f"{markdown_table(header, cells)}\n\n{protocol}{rows[0]['n']} clips; chance {rows[0]['chance']:.3f}. "
        "In brackets: 95 % intervals (bootstrap over clips; the same clips on both sides of a difference).\n"
    )
    before = dict(zip(runs[0].clips, runs[0].nearest))
    for row, run in zip(rows[1:], runs[1:]):
        now, truth = dict(zip(run.clips, run.nearest)), dict(zip(run.clips, run.truth))
        changed = [clip for clip in runs[0].clips if clip in {*row["now right"], *row["now wrong"]}]
        if not changed[:listed]:
            continue
        lines = [
            [escape_markdown(text) for text in (clip, truth[clip], before[clip], now[clip])]
            for clip in changed
        ]
        table = markdown_table(["clip", "prompt", "first run", "this run"], lines[:listed])
        more = f"\n\nand {len(changed) - listed} more clips." if len(changed) > listed else ""
        text += f"\n## {escape_markdown(run.name)}\n\n{table}{more}\n"
    return text


def _heading(name: str) -> str:
    side, metric = name.split(" ")
    return f"{side.upper()} {metric}"

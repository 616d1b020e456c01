"""What a report shows of an evaluation: tables, the answer to each clip, and the poses of the clips.

A view is JSON: {"format", "title", "facts": [line], "warnings": [line], "tables": [{"title", "header",
"rows"}], "answers": [{"name", "noun", "classes", "labels", "truth", "given", "ranks", "candidates",
"pairs"}], "clips": [{"id", "signer", "language", "text", "pose"}], "drawing", "note"}. `truth`, `given` and
`ranks` have a number for each clip of "clips"; `pairs` are [truth, given, clips] of all clips, most frequent
first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt.evaluators.pictures.labels import short_labels
from mmpt.evaluators.reports.tables import METRICS_HEADER, Results, facts, metrics_rows, name_of
from mmpt.pose.drawn import DRAWING, drawn_pose
from mmpt.pose.reader import read_clip
from mmpt.pose.span import Span
from mmpt.utils.errors import UserError

POSES = 300
"""Poses that a report holds at most: about 3 kB each."""
CLIPS = 2000
"""Clips that a report lists at most."""
REPORT = "report.html"
"""Name of the report in the folder of an evaluation."""


@dataclass(frozen=True)
class ShownClip:
    """A clip of a report. path: of its `.pose`; None: there is none to show. text: its class."""

    id: str
    path: Path | None = None
    span: Span | None = None
    signer: str = ""
    language: str = ""
    text: str = ""


@dataclass(frozen=True)
class Answers:
    """What a model answered. truth, given: class numbers [N], -1 for none; ranks: of the right class [N].

    candidates: how many were ranked for a clip; None: not the same number for all.
    """

    name: str
    noun: str
    classes: Sequence[str]
    truth: NDArray[np.int64]
    given: NDArray[np.int64]
    ranks: NDArray[np.int64] | None = None
    candidates: int | None = None

    def of(self, rows: NDArray[np.int64]) -> dict[str, Any]:
        """JSON of the answers to the clips `rows`, and the counts of all."""
        pairs, counts = np.unique(np.stack([self.truth, self.given], axis=1), axis=0, return_counts=True)
        most_first = np.argsort(-counts, kind="stable")
        return {
            "name": self.name,
            "noun": self.noun,
            "classes": list(self.classes),
            "labels": short_labels(self.classes),
            "truth": self.truth[rows].tolist(),
            "given": self.given[rows].tolist(),
            "ranks": None if self.ranks is None else self.ranks[rows].tolist(),
            "candidates": self.candidates,
            "pairs": [[*map(int, pairs[n]), int(counts[n])] for n in most_first],
        }


def make_view(
    title: str,
    lines: dict[str, Sequence[str]],
    tables: Sequence[dict[str, Any]],
    answers: Sequence[Answers],
    clips: Sequence[ShownClip],
) -> dict[str, Any]:
    """The view of an evaluation, with the poses that fit in.

    lines: {"facts", "warnings"}. With more than CLIPS clips, only clips with a wrong answer are listed, and
    of these the first CLIPS. With more than POSES clips only wrong ones have poses, and with more than POSES
    of these none; "note" says what was left out, and which clips cannot be shown.
    """
    wrong = np.zeros(len(clips), dtype=bool)
    for answer in answers:
        wrong |= answer.truth != answer.given
    notes = []
    rows = np.arange(len(clips))
    if len(clips) > CLIPS:
        rows = np.flatnonzero(wrong)[:CLIPS]
        notes.append(
            f"Lists {len(rows)} of the {wrong.sum()} clips with a wrong answer, of {len(clips)} clips."
        )
    posed = rows if len(rows) <= POSES else rows[wrong[rows]]
    if len(posed) > POSES:
        notes.append(
            f"Without poses: {wrong.sum()} clips have a wrong answer, and a report holds {POSES} poses."
        )
        posed = posed[:0]
    elif len(posed) < len(rows):
        notes.append(f"Only wrong clips have poses: a report holds {POSES}.")
    poses, failed = _poses([(n, clips[n]) for n in posed])
    if failed:
        notes.append(f"{len(failed)} of {len(posed)} clips have no pose to show; the first: {failed[0]}")
    return {
        "format": 1,
        "title": title,
        **lines,
        "tables": list(tables),
        "answers": [answer.of(rows) for answer in answers],
        "clips": [
            {
                "id": clips[n].id,
                "signer": clips[n].signer,
                "language": clips[n].language,
                "text": clips[n].text,
                "pose": poses.get(int(n)),
            }
            for n in rows
        ],
        "drawing": DRAWING,
        "note": " ".join(notes),
    }


def _poses(clips: Iterable[tuple[int, ShownClip]]) -> tuple[dict[int, dict[str, Any]], list[str]]:
    """The drawn pose of each clip by its number, and the reasons why others have none."""
    poses: dict[int, dict[str, Any]] = {}
    failed: list[str] = []
    for number, clip in clips:
        try:
            poses[int(number)] = drawn_clip(clip)
        except UserError as error:
            failed.append(f"{clip.id}: {error}")
    return poses, failed


def drawn_clip(clip: ShownClip) -> dict[str, Any]:
    """The pose of a clip for the player (see drawn_pose). Raises UserError if there is none."""
    if clip.path is None:
        raise UserError("its file is not known.")
    if clip.path.suffix.lower() != ".pose":
        raise UserError(f"{clip.path.name} holds features, not a pose.")
    return drawn_pose(read_clip(clip.path, clip.span))


def evaluation_view(results: Results, answers: Answers, clips: Sequence[ShownClip]) -> dict[str, Any]:
    """The view of the evaluation of a config (results.json)."""
    keys = ("split", "config", "checkpoint", "command", "seed")
    origin = [f"{key}: {results[key]}" for key in keys if results.get(key)]
    lines: dict[str, Sequence[str]] = {
        "facts": [facts(results), *results.get("notes", ()), *origin],
        "warnings": list(results.get("warnings", ())),
    }
    tables = [{"title": "Metrics", "header": list(METRICS_HEADER), "rows": metrics_rows(results)}]
    return make_view(name_of(results), lines, tables, [answers], clips)

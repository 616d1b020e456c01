"""Write the report of a table as Markdown, with figures of lengths, classes and some clips."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from mmpt.datasets.table_check import NO_SPLIT, TableReport
from mmpt.evaluators.reports.tables import escape_markdown
from mmpt.pose.clip import PoseClip
from mmpt.pose.components import FINGERS, HANDS, POSE
from mmpt.pose.normalization import apply_frame, shoulder_frame
from mmpt.pose.reader import read_clip
from mmpt.signwriting import Sign
from mmpt.signwriting.glyphs import sign_uri
from mmpt.utils.figures import save_figure
from mmpt.utils.files import write_json, write_text
from mmpt.utils.logging import some_of
from mmpt.utils.output_kinds import TABLE_CHECK
from mmpt.utils.outputs import replace_output

_COLOURS = {"train": "#2f6db3", "valid": "#d08a2e", "test": "#3a8f5c", NO_SPLIT: "#8a8a8a"}
_SHOWN = 12
_LISTED = 50
_SIGNS = 200
_VIEW, _NECK = (3.0, 3.0), (1.5, 1.2)
_BODY = [[15, 13, 11, 12, 14, 16], [11, 23, 24, 12], [0, 11], [0, 12]]


def save_page(folder: Path, report: TableReport, force: bool = False) -> list[Path]:
    """Write check.md, check.json, lengths.png and, for poses, clips.png into `folder`; returns the files.

    force: see replace_output.
    """
    with replace_output(folder, TABLE_CHECK, checked(report.table.path), force) as fresh:
        pictures = [_lengths(fresh / "lengths.png", report)]
        poses = any(file.suffix == ".pose" for file in report.files)
        if poses and any(clip.error is None for clip in report.clips):
            pictures.append(_clips(fresh / "clips.png", report))
        names = [picture.name for picture in pictures]
        write_text(fresh / "check.md", page(report, names))
        write_json(fresh / "check.json", report.as_json())
    return [folder / name for name in ("check.md", "check.json", *names)]


def checked(table: Path) -> dict[str, str]:
    """What a page is of."""
    return {"table": table.name}


def page(report: TableReport, pictures: Sequence[str] = ()) -> str:
    """The report in Markdown."""
    parts = [f"# {escape_markdown(report.table.path.name)}: {report.verdict}\n", splits_table(report) + "\n"]
    for title, lines in (("Errors", report.errors), ("Warnings", report.warnings)):
        if lines:
            more = [f"- and {len(lines) - _LISTED} more: see check.json"] if len(lines) > _LISTED else []
            listed = [f"- {escape_markdown(line)}" for line in lines[:_LISTED]]
            parts.append("\n".join([f"## {title}\n", *listed, *more]) + "\n")
    parts += [f"![{Path(name).stem}]({name})\n" for name in pictures]
    if any(report.signs):
        parts.append(signs_table(report) + "\n")
    return "\n".join(parts)


def splits_table(report: TableReport) -> str:
    """Statistics of each split, as a Markdown table."""
    header = "| split | clips | classes | clips a class | signers | frames min / median / max | unreadable | "
    header += "no right hand | no left hand | no hand | frames per second |"
    lines = [header, "|---" + "|---:" * 10 + "|"]
    for split, counts in report.splits.items():
        least, most = counts["clips_a_class"]
        shortest, middle, longest = counts["frames"]
        cells = [counts["clips"], counts["classes"], f"{least}-{most}", counts["signers"] or "?"]
        cells += [f"{shortest} / {middle:g} / {longest}", counts["unreadable"]]
        cells += [counts[f"without_{what}"] for what in ("right_hand", "left_hand", "hands")]
        cells.append(some_of(list(counts["fps"]), 4) or "?")
        lines.append(f"| {split} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def signs_table(report: TableReport) -> str:
    """The texts with their signs, drawn, in Markdown; the first rows if there are many."""
    rows = zip(report.table.rows, report.signs)
    first = {(row.text, tuple(signs)): row.line for row, signs in reversed(list(rows)) if signs}
    shown = sorted(first.items(), key=lambda item: item[1])[:_SIGNS]
    some = f"The first {len(shown)} of {len(first)} texts with signs.\n\n" if len(shown) < len(first) else ""
    lines = ["| line | text | signs |", "|---:|---|---|"]
    for (text, signs), line in shown:
        lines.append(f"| {line} | {escape_markdown(text)} | {' '.join(map(_image, signs))} |")
    return f"## Signs\n\n{some}" + "\n".join(lines)


def _image(sign: Sign) -> str:
    """A sign as an HTML image, with its FSW as alternative text."""
    return f'<img alt="{sign.fsw}" title="{sign.fsw}" src="{sign_uri(sign)}">'


def _lengths(path: Path, report: TableReport) -> Path:
    """Plot the lengths of the clips and the clips of each class, by split."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = report.table.rows
    by_split = {
        split: [n for n, row in enumerate(rows) if (row.split or NO_SPLIT) == split]
        for split in report.splits
    }
    readable = [clip.error is None for clip in report.clips]
    edges = _whole_bins(np.array([clip.frames for clip in report.clips])[readable])
    for split, chosen in by_split.items():
        lengths = [report.clips[n].frames for n in chosen if readable[n]]
        left.hist(lengths, edges, histtype="step", color=_COLOURS[split], label=f"{split} ({len(lengths)})")
        counts = sorted(Counter(rows[n].text for n in chosen).values(), reverse=True)
        positions = np.arange(len(counts) + 1) + 0.5
        right.stairs(counts, positions, color=_COLOURS[split], label=f"{split} ({len(counts)})")
    for axes, x, y in ((left, "frames", "clips"), (right, "classes, most clips first", "clips")):
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    return save_figure(figure, path, dpi=110)


def _whole_bins(lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Edges of at most 25 bins that contain equally many integers each."""
    if not len(lengths):
        return np.array([-0.5, 0.5])
    step = -(-int(np.ptp(lengths) + 1) // 24)
    return np.arange(lengths.min(), lengths.max() + step + 1, step) - 0.5


def _clips(path: Path, report: TableReport) -> Path:
    """Plot the middle frames of clips that are evenly spread over the table."""
    readable = [n for n, clip in enumerate(report.clips) if clip.error is None]
    shown = np.linspace(0, len(readable) - 1, min(_SHOWN, len(readable))).round().astype(int)
    columns = -(-_SHOWN // 2)
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    axes = figure.subplots()  # one for all clips: twelve take most of the time of a check
    for place, i in enumerate(shown):
        row = report.table.rows[readable[i]]
        clip = read_clip(report.files[readable[i]], row.span)
        corner = np.array([place % columns * 3.2, place // columns * 3.7])
        _draw(axes, clip, corner)
        text = " ".join(row.text.split())
        title = f"{text[:24]}\n{row.id[:24]} ({row.split or '-'})"
        axes.text(corner[0] + _VIEW[0] / 2, corner[1] - 0.1, title, ha="center", va="bottom", fontsize=7)
    axes.set_axis_off()
    axes.set_xlim(0, columns * 3.2 - 0.2)
    axes.set_ylim(6.7, -0.7)
    axes.set_aspect("equal")
    figure.suptitle("middle frames of clips; right hand blue, left hand orange", fontsize=8)
    return save_figure(figure, path, dpi=110)


def _draw(axes: Axes, clip: PoseClip, corner: NDArray[np.float64]) -> None:
    """Draw the middle frame as lines, as seen by the camera, with the shoulders one unit apart.

    corner: the upper left one of a rectangle of the size _VIEW, which cuts off what lies outside.
    """
    clip = apply_frame(clip, *shoulder_frame(clip))
    frame = len(clip) // 2
    parts = [(POSE, _BODY, "#8a8a8a"), (HANDS[0], FINGERS, "#d08a2e"), (HANDS[1], FINGERS, "#2f6db3")]
    lines, colours = [], []
    for component, chains, colour in parts:
        if component not in clip.layout.components:
            continue
        data, confidence = clip.component(component)
        for chain in chains:
            there = [point for point in chain if point < data.shape[1] and confidence[frame, point]]
            lines.append(data[frame, there, :2] + _NECK + corner)
            colours.append(colour)
    view = Rectangle(tuple(corner), *_VIEW, transform=axes.transData)
    drawn = axes.add_collection(LineCollection(lines, colors=colours, linewidths=1), autolim=False)
    drawn.set_clip_path(view)  # add_collection would replace a rectangle by that of the axes

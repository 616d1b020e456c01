"""How two extractions of the same videos differ, and whether their poses can be mixed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmpt.pose.clip import PoseClip
from mmpt.pose.facts import PARTS, pose_files
from mmpt.pose.normalization import shoulder_frame
from mmpt.pose.reader import PoseFile, read_file
from mmpt.utils.errors import UserError
from mmpt.utils.text import counted

LIMITS = {"median": 0.01, "p90": 0.05, "one_sided": 0.05, "fps": 0.05}
"""Poses can be mixed up to these: distances of body and hands in shoulder widths, the share of frames in
which only one sees a part, the relative difference of the frame rates. The face is not judged."""
JUDGED = ("body", "left hand", "right hand")


@dataclass(frozen=True)
class PartDifference:
    """One part of one clip, over the points that both have.

    points: how many. px, p90_px: median and 90th percentile of the distance in the image plane, in pixels of
    A; None if no frame shows a point in both. only_a, only_b: share of frames in which one alone sees it.
    """

    points: int
    px: float | None
    p90_px: float | None
    only_a: float
    only_b: float


@dataclass(frozen=True)
class ClipDifference:
    """Two files of one video. fps, frames: of A and B. by_time: whether frames were aligned by time.

    compared: frames of A that have one of B. scaled: whether the images differ in size. depth: whether A and
    B have z. shoulders: mean width in A, in pixels; None if no frame shows both.
    """

    name: str
    fps: tuple[float, float]
    frames: tuple[int, int]
    compared: int
    by_time: bool
    scaled: bool
    depth: tuple[bool, bool]
    shoulders: float | None
    parts: dict[str, PartDifference]


def match(a: Path, b: Path) -> tuple[list[tuple[str, Path, Path]], list[Path]]:
    """(name, file of A, file of B) of two files, or of two folders by relative path; and the unmatched files.

    Raises UserError if one is a folder and the other is not, or if nothing matches.
    """
    for path in (a, b):
        if not path.exists():
            raise UserError(f"{path} does not exist; expected two files or two folders")
    if a.is_dir() != b.is_dir():
        raise UserError(f"{a} and {b}: one is a folder, the other is not; expected two files or two folders")
    if not a.is_dir():
        return [(a.name, a, b)], []
    ours, theirs = ({file.relative_to(folder): file for file in pose_files(folder)} for folder in (a, b))
    pairs = [(name.as_posix(), ours[name], theirs[name]) for name in ours if name in theirs]
    if not pairs:
        raise UserError(
            f"no file of {a} has the name of a file of {b}; expected the same names in both folders"
        )
    alone = [
        file
        for one, other in ((ours, theirs), (theirs, ours))
        for name, file in one.items()
        if name not in other
    ]
    return pairs, alone


def compare_files(name: str, a: Path, b: Path, person: str = "first") -> ClipDifference:
    """Compare two files. Raises UserError, which names the file, for one that cannot be read."""
    return compare(name, read_file(a, person), read_file(b, person))


def compare(name: str, a: PoseFile, b: PoseFile) -> ClipDifference:
    """Compare two extractions of one video.

    Frames are compared one by one if there are equally many or the rates are equal (but for the fraction that
    pose-format before 0.2 does not store), else each frame of the slower one with the nearest in time of the
    other. Pixels of B are scaled to the image of A if the files say both sizes.
    """
    rows_a, rows_b, by_time = _align(a.clip, b.clip)
    one, other = a.clip.frames(rows_a), b.clip.frames(rows_b)
    scale, scaled = np.ones(2, np.float32), False
    if min(a.width, a.height, b.width, b.height) > 0:
        scale = np.array([a.width / b.width, a.height / b.height], np.float32)
        scaled = bool((scale != 1).any())
    parts = {part: _part(one, other, component, scale) for part, component in PARTS.items()}
    try:
        shoulders = 1 / shoulder_frame(a.clip, axes=2)[1]
    except UserError:
        shoulders = None
    return ClipDifference(
        name,
        (a.clip.fps, b.clip.fps),
        (len(a.clip), len(b.clip)),
        len(rows_a),
        by_time,
        scaled,
        (a.clip.depth, b.clip.depth),
        shoulders,
        {part: difference for part, difference in parts.items() if difference is not None},
    )


def _align(a: PoseClip, b: PoseClip) -> tuple[np.ndarray, np.ndarray, bool]:
    """Frames of A, the frames of B that they are compared with, and whether they were found by time."""
    same_rate = int(a.fps) == int(b.fps) or round(a.fps) == round(b.fps)
    if len(a) == len(b) or same_rate:
        rows = np.arange(min(len(a), len(b)))
        return rows, rows, False
    if a.fps > b.fps:
        rows_b, rows_a, _ = _align(b, a)
        return rows_a, rows_b, True
    nearest = np.round(np.arange(len(a)) * b.fps / a.fps).astype(np.intp)
    rows = np.flatnonzero(nearest < len(b))
    return rows, nearest[rows], True


def _part(a: PoseClip, b: PoseClip, component: str, scale: np.ndarray) -> PartDifference | None:
    """None if they have no point of the part in common."""
    shared = [point for point in a.points if point[0] == component and point in b.layout]
    if not shared:
        return None
    in_a, in_b = ([clip.layout.index(*point) for point in shared] for clip in (a, b))
    here_a, here_b = a.present[:, in_a], b.present[:, in_b]
    apart = np.linalg.norm(a.data[:, in_a, :2] - b.data[:, in_b, :2] * scale, axis=2)[here_a & here_b]
    median, p90 = np.percentile(apart, [50, 90]).tolist() if len(apart) else (None, None)
    sees_a, sees_b = here_a.any(axis=1), here_b.any(axis=1)
    only_a, only_b = (sees_a & ~sees_b).mean(), (sees_b & ~sees_a).mean()
    return PartDifference(len(shared), median, p90, float(only_a), float(only_b))


def summary(clips: Sequence[ClipDifference]) -> dict[str, Any]:
    """Several comparisons as JSON values: the median over the clips of each value.

    only_a and only_b are shares of all compared frames.
    """
    return {
        "clips": len(clips),
        "frames": [sum(clip.frames[side] for clip in clips) for side in (0, 1)],
        "other frame count": sum(clip.frames[0] != clip.frames[1] for clip in clips),
        "other fps": sum(_other_rate(clip) for clip in clips),
        "aligned by time": sum(clip.by_time for clip in clips),
        "other image size": sum(clip.scaled for clip in clips),
        "only one has z": sum(clip.depth[0] != clip.depth[1] for clip in clips),
        "parts": {part: _part_summary(part, clips) for part in PARTS if any(part in c.parts for c in clips)},
    }


def _other_rate(clip: ClipDifference) -> bool:
    a, b = clip.fps
    return abs(a - b) > LIMITS["fps"] * max(a, b)


def _part_summary(part: str, clips: Sequence[ClipDifference]) -> dict[str, Any]:
    having = [(clip, clip.parts[part]) for clip in clips if part in clip.parts]
    measured = [
        (clip.shoulders, each.px, each.p90_px)
        for clip, each in having
        if each.px is not None and each.p90_px is not None
    ]
    widths = [(px / shoulders, p90 / shoulders) for shoulders, px, p90 in measured if shoulders]
    frames = np.array([clip.compared for clip, _ in having])
    sided = np.array([(each.only_a, each.only_b) for _, each in having])
    worst = (
        max(having, key=lambda pair: pair[1].px or 0.0)[0].name if any(px for _, px, _ in measured) else None
    )
    return {
        "points": min(each.points for _, each in having),
        "px": _median([px for _, px, _ in measured]),
        "p90_px": _median([p90 for _, _, p90 in measured]),
        "median": _median([median for median, _ in widths]),
        "p90": _median([p90 for _, p90 in widths]),
        "only_a": float(np.average(sided[:, 0], weights=frames)),
        "only_b": float(np.average(sided[:, 1], weights=frames)),
        "worst": worst,
    }


def _median(values: Sequence[float | None]) -> float | None:
    return float(np.median(np.array(values, dtype=float))) if values else None


def why_not_mixed(found: dict[str, Any], needs_depth: bool = True) -> list[str]:
    """Why poses of A and B should not be mixed; empty if they can be (see LIMITS).

    needs_depth: whether it matters if only one has z.
    """
    reasons = []
    for part in JUDGED:
        each = found["parts"].get(part)
        if each is None:
            reasons.append(f"{part}: no point in common")
            continue
        for key, what in (("median", "median"), ("p90", "90th percentile")):
            if each[key] is not None and each[key] > LIMITS[key]:
                reasons.append(f"{part}: {what} {each[key]:.3f} shoulder widths (at most {LIMITS[key]:g})")
        sided = max(each["only_a"], each["only_b"])
        if sided > LIMITS["one_sided"]:
            reasons.append(
                f"{part}: only one sees it in {sided:.1%} of frames (at most {LIMITS['one_sided']:.0%})"
            )
    if all((found["parts"].get(part) or {}).get("median") is None for part in JUDGED):
        reasons.append("no distance in shoulder widths could be measured")
    if found["other fps"]:
        reasons.append(
            f"in {counted(found['other fps'], 'clip')} the frame rates differ by more than "
            f"{LIMITS['fps']:.0%}"
        )
    if found["only one has z"] and needs_depth:
        reasons.append(
            f"in {counted(found['only one has z'], 'clip')} only one has z "
            "(pose_layout: canonical needs none)"
        )
    return reasons


def table(found: dict[str, Any]) -> str:
    """A summary as text."""
    a, b = found["frames"]
    notes = [f"{counted(found[key], 'clip')}: {key}" for key in _NOTES if found[key]]
    lines = [
        f"{counted(found['clips'], 'clip')}, {a} frames in A, {b} in B"
        + "".join(f"; {note}" for note in notes)
    ]
    lines.append(f"{'part':<11} points  median px  p90 px  median sw  p90 sw  only A  only B  largest in")
    for part, each in found["parts"].items():
        px, p90_px = (_number(each[key], ".2f") for key in ("px", "p90_px"))
        median, p90 = (_number(each[key], ".4f") for key in ("median", "p90"))
        row = f"{each['points']:>6}  {px:>9}  {p90_px:>6}  {median:>9}  {p90:>6}"
        sided = f"{each['only_a']:>6.1%}  {each['only_b']:>6.1%}"
        lines.append(f"{part:<11} {row}  {sided}  {each['worst'] or '-'}")
    return "\n".join(lines)


_NOTES = ("other frame count", "other fps", "aligned by time", "other image size", "only one has z")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)

"""What pose files hold: layout, frame rate, people, and how often each part of the body is there."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmpt.pose.clip import Point, PoseClip
from mmpt.pose.components import FACE, LEFT_HAND, POSE, RIGHT_HAND
from mmpt.pose.estimators import estimator_of
from mmpt.pose.normalization import depth_to_scale
from mmpt.pose.preparation import PosePreparation
from mmpt.pose.reader import PoseFile, read_file
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import files_under
from mmpt.utils.text import counted

PARTS = {"body": POSE, "face": FACE, "left hand": LEFT_HAND, "right hand": RIGHT_HAND}


@dataclass(frozen=True)
class PartFacts:
    """points: of the layout. frames: that show any. confidence: mean of the present points, or None."""

    points: int
    frames: int
    confidence: float | None


@dataclass(frozen=True)
class PoseFacts:
    """Facts of one file.

    components: the estimator's points in each. width, height: of the image in pixels, 0 if unknown. people:
    most people of a frame. crowded: frames with several people. depth: unit of z, "pixels", "fraction of the
    width" or "none". parts: of the points that are read (see mmpt.pose.estimators).

    With a model: landmarks: those of its landmarks that the file has. seen: share of its landmarks that a
    frame shows, on average. refused: why it cannot read the file, or None.
    """

    path: str
    version: float
    estimator: str
    components: dict[str, int]
    fps: float
    frames: int
    width: int
    height: int
    people: int
    crowded: int
    depth: str
    parts: dict[str, PartFacts]
    landmarks: int | None = None
    seen: float | None = None
    refused: str | None = None

    @property
    def layout(self) -> str:
        """The estimator, and its components with their points."""
        components = ", ".join(f"{name} {count}" for name, count in self.components.items())
        return f"{self.estimator}: {components}"


@dataclass(frozen=True)
class Reads:
    """What a model reads: its landmarks, and how clips are prepared for it."""

    landmarks: Collection[Point]
    prepare: PosePreparation

    def refuses(self, clip: PoseClip) -> str | None:
        """Why it cannot read a clip; None if it can."""
        try:
            self.prepare.clip(clip)
        except UserError as error:
            return str(error)
        return None


def read_facts(path: Path, model: Reads | None = None) -> PoseFacts:
    """The facts of a file. Raises UserError, which names the file."""
    file = read_file(path, model.prepare.person if model else "first")
    clip, stored = file.clip, file.stored
    estimator = estimator_of(stored.points)
    wanted = model.landmarks if model else ()
    has = [clip.layout.index(*point) for point in wanted if point in clip.layout]
    seen = float(clip.present[:, has].sum()) / (len(clip) * len(wanted)) if wanted else None
    return PoseFacts(
        path=str(path),
        version=file.version,
        estimator="MediaPipe Holistic" if estimator is None else estimator.title,
        components={name: len(stored.columns(name)) for name in stored.components},
        fps=clip.fps,
        frames=len(clip),
        width=file.width,
        height=file.height,
        people=int(file.counts.max()),
        crowded=int((file.counts > 1).sum()),
        depth=_depth(clip),
        parts={part: _part(file, name) for part, name in PARTS.items() if name in clip.layout.components},
        landmarks=len(has) if model else None,
        seen=seen,
        refused=model.refuses(clip) if model else None,
    )


def try_facts(path: Path, model: Reads | None = None) -> PoseFacts | str:
    """read_facts, or the error message."""
    try:
        return read_facts(path, model)
    except UserError as error:
        return str(error)


def pose_files(path: Path) -> list[Path]:
    """The file itself, or the .pose files under a folder, at any depth, sorted.

    Raises MissingDataError if a folder has none.
    """
    if not path.is_dir():
        return [path]
    files = sorted(file for file in files_under(path, skip=path) if file.suffix.lower() == ".pose")
    if not files:
        raise MissingDataError(f"{path}: there are no .pose files in it; expected a file or a folder of them")
    return files


def _part(file: PoseFile, component: str) -> PartFacts:
    confidence = file.clip.component(component)[1]
    there = confidence != 0
    mean = float(confidence[there].mean(dtype=np.float64)) if there.any() else None
    return PartFacts(confidence.shape[1], int(there.any(axis=1).sum()), mean)


def _depth(clip: PoseClip) -> str:
    if not (clip.depth and clip.data[..., 2].any()):
        return "none"
    return "pixels" if depth_to_scale(clip) else "fraction of the width"


def summary(facts: Sequence[PoseFacts], model: Reads | None = None) -> dict[str, Any]:
    """Facts of several files together, as JSON values.

    Counts are of files: {"25": 3} under "fps" are three files of 25 frames per second. The parts' frames are
    a share of all frames, their confidence is the mean over the frames that show them.
    """
    frames = sum(file.frames for file in facts)
    found: dict[str, Any] = {
        "files": len(facts),
        "frames": frames,
        "seconds": round(sum(file.frames / file.fps for file in facts), 2),
        "layout": _count(file.layout for file in facts),
        "fps": _count(f"{file.fps:.4g}" for file in facts),
        "image": _count(f"{file.width} x {file.height}" for file in facts),
        "version": _count(f"{file.version:g}" for file in facts),
        "z": _count(file.depth for file in facts),
        "people": _count(str(file.people) for file in facts),
        "frames with several people": sum(file.crowded for file in facts),
        "parts": {
            part: _part_summary([f.parts[part] for f in facts if part in f.parts], frames) for part in PARTS
        },
        "files without": {
            part: sum(1 for file in facts if part not in file.parts or not file.parts[part].frames)
            for part in PARTS
        },
    }
    if model is not None:
        found["model"] = {
            "landmarks": len(model.landmarks),
            "files that have": _count(str(file.landmarks) for file in facts),
            "seen": sum((file.seen or 0.0) * file.frames for file in facts) / max(frames, 1),
            "refused": _count(file.refused for file in facts if file.refused),
        }
    return found


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _part_summary(parts: Sequence[PartFacts], frames: int) -> dict[str, Any]:
    seen = sum(part.frames for part in parts)
    trust = sum((part.confidence or 0.0) * part.frames for part in parts)
    return {
        "points": _count(str(part.points) for part in parts),
        "frames": seen / max(frames, 1),
        "confidence": trust / seen if seen else None,
    }


def as_json(facts: PoseFacts) -> dict[str, Any]:
    """The facts of one file as JSON values."""
    return {**asdict(facts), "seconds": facts.frames / facts.fps}


_MIXED = ("layout", "fps", "image", "version", "z", "people")


def table(name: str, found: dict[str, Any]) -> str:
    """A summary as text; what differs between the files is called mixed."""
    lines = [f"{name}: {counted(found['files'], 'file')}, {found['frames']} frames, {found['seconds']:.1f} s"]
    for key in _MIXED:
        shown = [
            f"{value} ({counted(count, 'file')})" if len(found[key]) > 1 else value
            for value, count in found[key].items()
        ]
        lines.append(f"  {key:<10}  {'mixed: ' if len(shown) > 1 else ''}{'; '.join(shown)}")
    if found["frames with several people"]:
        lines.append(
            f"  {counted(found['frames with several people'], 'frame shows', 'frames show')} several people: "
            "see dataset.person"
        )
    lines.append(f"  {'part':<10}  points  frames  confidence  files without")
    for part, facts in found["parts"].items():
        trust = "-" if facts["confidence"] is None else f"{facts['confidence']:.3f}"
        points = "/".join(facts["points"]) or "-"
        row = f"{points:>6}  {facts['frames']:6.1%}  {trust:>10}  {found['files without'][part]:>13}"
        lines.append(f"  {part:<10}  {row}")
    if model := found.get("model"):
        files = "; ".join(
            f"{has} in {counted(count, 'file')}" for has, count in model["files that have"].items()
        )
        lines.append(
            f"  of the model's {model['landmarks']} landmarks: {files}; a frame shows {model['seen']:.1%}"
        )
        lines += [
            f"  the model refuses {counted(n, 'file')}: {reason}" for reason, n in model["refused"].items()
        ]
    return "\n".join(lines)

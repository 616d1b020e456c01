"""What pose files hold: layout, frame rate, people, and how often each part of the body is there."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmpt.pose.clip import Point, PoseClip
from mmpt.pose.components import FACE, LEFT_HAND, POSE, RIGHT_HAND
from mmpt.pose.normalization import depth_to_scale
from mmpt.pose.reader import PoseFile, read_file
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import files_under

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

    components: points of each. width, height: of the image in pixels, 0 if unknown. people: most people of a
    frame. crowded: frames with several people. depth: unit of z, "pixels", "fraction of the width" or "none".
    landmarks: of the model, that the file has. seen: share of them that a frame shows, on average.
    """

    path: str
    version: float
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

    @property
    def layout(self) -> str:
        """The components and their points."""
        return ", ".join(f"{name} {count}" for name, count in self.components.items())


def read_facts(path: Path, wanted: Collection[Point] = ()) -> PoseFacts:
    """The facts of a file. wanted: the landmarks of a model. Raises UserError, which names the file."""
    file = read_file(path)
    clip = file.clip
    has = [clip.layout.index(*point) for point in wanted if point in clip.layout]
    return PoseFacts(
        path=str(path),
        version=file.version,
        components={name: len(clip.layout.columns(name)) for name in clip.layout.components},
        fps=clip.fps,
        frames=len(clip),
        width=file.width,
        height=file.height,
        people=int(file.counts.max()),
        crowded=int((file.counts > 1).sum()),
        depth=_depth(clip),
        parts={part: _part(file, name) for part, name in PARTS.items() if name in clip.layout.components},
        landmarks=len(has) if wanted else None,
        seen=float(clip.present[:, has].mean()) * len(has) / len(wanted) if has else 0.0 if wanted else None,
    )


def try_facts(path: Path, wanted: Collection[Point] = ()) -> PoseFacts | str:
    """read_facts, or the error message."""
    try:
        return read_facts(path, wanted)
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


def summary(facts: Sequence[PoseFacts], landmarks: int | None = None) -> dict[str, Any]:
    """Facts of several files together, as JSON values. landmarks: of the model, None without one.

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
    if landmarks is not None:
        found["model"] = {
            "landmarks": landmarks,
            "files that have": _count(str(file.landmarks) for file in facts),
            "seen": sum((file.seen or 0.0) * file.frames for file in facts) / max(frames, 1),
        }
    return found


def _count(values: Any) -> dict[str, int]:
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
    lines = [f"{name}: {_files(found['files'])}, {found['frames']} frames, {found['seconds']:.1f} s"]
    for key in _MIXED:
        shown = [
            f"{value} ({_files(count)})" if len(found[key]) > 1 else value
            for value, count in found[key].items()
        ]
        lines.append(f"  {key:<10}  {'mixed: ' if len(shown) > 1 else ''}{'; '.join(shown)}")
    if found["frames with several people"]:
        lines.append(
            f"  {found['frames with several people']} frames show several people: see dataset.person"
        )
    lines.append(f"  {'part':<10}  points  frames  confidence  files without")
    for part, facts in found["parts"].items():
        trust = "-" if facts["confidence"] is None else f"{facts['confidence']:.3f}"
        points = "/".join(facts["points"]) or "-"
        row = f"{points:>6}  {facts['frames']:6.1%}  {trust:>10}  {found['files without'][part]:>13}"
        lines.append(f"  {part:<10}  {row}")
    if model := found.get("model"):
        files = "; ".join(f"{has} in {_files(count)}" for has, count in model["files that have"].items())
        lines.append(
            f"  of the model's {model['landmarks']} landmarks: {files}; a frame shows {model['seen']:.1%}"
        )
    return "\n".join(lines)


def _files(count: int) -> str:
    return f"{count} file{'s' if count != 1 else ''}"

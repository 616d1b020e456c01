"""Poses of any known estimator -> `.pose` files, in the estimator's own points or in Holistic's."""

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from pose_format import Pose
from pose_format.pose_header import PoseHeaderComponent

from mmpt.pose.clip import PoseLayout
from mmpt.pose.components import (
    CANONICAL,
    CANONICAL_POINTS,
    FULL_BODY,
    HANDS,
    component_points,
)
from mmpt.pose.estimators import Estimator, estimator_of, points_of
from mmpt.pose.frames import clip_confidence
from mmpt.pose.people import choose_people
from mmpt.pose.reader import read_pose
from mmpt.pose.tool_json import is_frame_folder, read_clip_file, read_frame_folder
from mmpt.pose.writer import pose_of
from mmpt.utils.errors import UserError
from mmpt.utils.files import atomic_write, files_under
from mmpt.utils.text import nfc

log = logging.getLogger(__name__)

OWN = "own"
LEAST_CONFIDENCE = {"openpose_137": 0.2, "openpose_135": 0.2}
"""Default of min_confidence by estimator: OpenPose's own limit for drawing a hand."""
OTHER_LEAST_CONFIDENCE = 0.3
"""That of the others: mmpose's own limit for drawing a point."""


@dataclass(frozen=True)
class Conversion:
    """How clips are converted.

    layout: own (the estimator's points), canonical or holistic (Holistic's points, those missing that the
    estimator lacks). min_confidence: points below it are missing; None: the default of the estimator, and 0
    for MediaPipe Holistic. fps, width, height: of clips whose file does not say. person: which of several
    people, see choose_people. frame_files: a folder is one clip, a JSON file per frame.
    """

    layout: str = OWN
    min_confidence: float | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    person: str = "tracked"
    frame_files: bool = False

    def __call__(self, source: Path) -> "Converted":
        """Convert a file or a folder of frames. Raises UserError, which names it."""
        try:
            return self._converted(self._read(source))
        except UserError as error:
            message = str(error)
            raise UserError(message if message.startswith(str(source)) else f"{source}: {message}") from None

    def _read(self, source: Path) -> "_Clip":
        if source.suffix.lower() == ".pose" and not source.is_dir():
            return self._sized(_read_pose_file(source))
        people = (
            read_frame_folder(source, of_openpose=not self.frame_files)
            if source.is_dir()
            else read_clip_file(source)
        )
        about = (people.fps, people.width, people.height)
        parts = people.estimator.parts
        return self._sized(_Clip(people.estimator, parts, people.data, people.confidence, about))

    def _sized(self, clip: "_Clip") -> "_Clip":
        """The clip with frame rate and image size, of the file or of the options. Raises UserError."""
        found = []
        for name, said in zip(("fps", "width", "height"), clip.about):
            given = getattr(self, name)
            if said is None and given is None:
                raise UserError(f"it does not say its {_MEANING[name]}: give --{name}")
            if said is not None and given is not None and abs(said - given) > 1e-3 * given:
                raise UserError(f"its {_MEANING[name]} is {said:g}, not {given:g}: leave out --{name}")
            found.append(given if said is None else said)
        return replace(clip, about=(*found,))

    def _converted(self, clip: "_Clip") -> "Converted":
        choice = choose_people(clip.data, clip.confidence, self.person)
        data, confidence = choice.take(clip.data), choice.take(clip.confidence)
        least = self.min_confidence
        if least is None:
            name = clip.estimator.name if clip.estimator else ""
            least = LEAST_CONFIDENCE.get(name, OTHER_LEAST_CONFIDENCE if name else 0.0)
        unsure = (confidence < least) & (confidence > 0)
        confidence = np.where(unsure, 0, confidence)
        data = np.where((confidence > 0)[..., None], data, 0)
        if not confidence.any():
            raise UserError(
                f"no point has a confidence of at least {least:g}: lower --min-confidence"
                if unsure.any()
                else "nobody is there in any frame"
            )
        facts = Facts(
            clip.estimator.title if clip.estimator else "MediaPipe Holistic",
            len(data),
            int((choice.counts > 1).sum()),
            int((choice.counts == 0).sum()),
            int(((choice.counts > 0) & (choice.person < 0)).sum()),
            float(unsure.mean()),
            _hands(clip, confidence),
        )
        parts, data, confidence = _in_layout(clip, data, confidence, self.layout)
        return Converted(_bytes(parts, data, confidence, clip.about), facts)


@dataclass(frozen=True)
class Facts:
    """What was found in a clip.

    several, empty: frames with several people, with nobody. left_out: frames in which nobody overlaps with
    the tracked person. unsure: share of the points below the least confidence. hands: component of Holistic
    -> frames that show the hand.
    """

    estimator: str
    frames: int
    several: int
    empty: int
    left_out: int
    unsure: float
    hands: dict[str, int]

    def __str__(self) -> str:
        hands = ", ".join(f"{name.partition('_')[0].lower()} {count}" for name, count in self.hands.items())
        people = f", several people in {self.several}" if self.several else ""
        nobody = f", nobody in {self.empty}" if self.empty else ""
        if self.left_out:
            nobody += f", nobody near the tracked person in {self.left_out}, which are empty now"
        return (
            f"{self.estimator}, {self.frames} frames{people}{nobody}; hands seen in: {hands or 'none'}; "
            f"{100 * self.unsure:.1f} % of the points below the least confidence"
        )


@dataclass(frozen=True)
class Converted:
    """content: the bytes of a `.pose` file."""

    content: bytes
    facts: Facts

    def write(self, target: Path) -> bool:
        """Write the file, unless it is there with the same content; whether it was written.

        Raises UserError if another file is there.
        """
        if target.is_symlink() or target.exists():
            if target.is_file() and target.read_bytes() == self.content:
                return False
            raise UserError(f"{target} exists and differs: move it away, or give another --out")
        with atomic_write(target) as temporary:
            temporary.write_bytes(self.content)
        return True


def find_clips(source: Path, skip: Path, frame_files: bool = False) -> list[tuple[Path, str]]:
    """(clip, name of its output) of a file or folder, sorted.

    A clip is a `.pose` or `.json` file, or a folder of frames. skip: a folder that is not searched. Raises
    UserError if there is none.
    """
    if source.is_dir() and (frame_files or is_frame_folder(source)):
        return [(source, f"{source.resolve().name}.pose")]
    if not source.is_dir():
        return [(source, f"{source.stem}.pose")]
    files = list(files_under(source, skip=skip))
    of_frames = [folder for folder in {path.parent for path in files} if is_frame_folder(folder)]
    found = [(folder, f"{folder.relative_to(source).as_posix()}.pose") for folder in of_frames]
    found += [
        (path, path.relative_to(source).with_suffix(".pose").as_posix())
        for path in files
        if path.suffix.lower() in (".pose", ".json") and path.parent not in of_frames
    ]
    if not found:
        raise UserError(f"{source}: no .pose or .json file, and no folder of OpenPose's *_keypoints.json")
    return sorted(found)


def outputs(sources: Sequence[Path], out: Path, frame_files: bool = False) -> list[tuple[Path, Path]]:
    """(clip, its `.pose` file) of all sources. out: a `.pose` file for one clip, else a folder.

    Raises UserError if two clips have the same output, or if `out` is a folder of the sources.
    """
    found = [pair for source in sources for pair in find_clips(source, out, frame_files)]
    if out.suffix.lower() == ".pose" and not out.is_dir():
        if len(found) > 1:
            raise UserError(f"--out {out} is one file, for {len(found)} clips: give a folder")
        return [(found[0][0], out)]
    for source in sources:
        if source.is_dir() and out.is_dir() and source.samefile(out):
            raise UserError(f"--out {out} is the folder of the sources: give another")
    targets: dict[str, Path] = {}
    for clip, name in found:
        if targets.setdefault(nfc(name).lower(), clip) != clip:
            raise UserError(f"{targets[nfc(name).lower()]} and {clip} would both be written to {out / name}")
    return [(clip, out / name) for clip, name in found]


_MEANING = {"fps": "frame rate", "width": "image width", "height": "image height"}
_About = tuple[float | None, ...]


@dataclass(frozen=True, eq=False)
class _Clip:
    """All people of a clip: [T, people, P, 2 or 3], [T, people, P]; about: fps, width, height."""

    estimator: Estimator | None
    parts: Sequence[PoseHeaderComponent]
    data: np.ndarray
    confidence: np.ndarray
    about: _About

    @cached_property
    def mapped(self) -> tuple[np.ndarray, PoseLayout]:
        """The columns of the points that Holistic has, and their layout (see Estimator.mapping)."""
        layout = PoseLayout.of(points_of(self.parts))
        return self.estimator.mapping(layout) if self.estimator else (np.arange(len(layout)), layout)


def _read_pose_file(path: Path) -> _Clip:
    """A `.pose` file that read_pose accepts, unmapped. Raises UserError."""
    read_pose(path)  # checks it
    pose = Pose.read(path.read_bytes())
    size = pose.header.dimensions
    confidence = np.array(pose.body.confidence, np.float32)
    clip_confidence(confidence, confidence == 0)
    data = np.where((confidence > 0)[..., None], np.ma.getdata(pose.body.data), 0).astype(np.float32)
    about = (float(pose.body.fps), size.width or None, size.height or None)
    parts = pose.header.components
    return _Clip(estimator_of(points_of(parts)), parts, data, confidence, about)


def _hands(clip: _Clip, confidence: np.ndarray) -> dict[str, int]:
    """Hand of Holistic -> frames that show it."""
    columns, layout = clip.mapped
    names = [name for name in HANDS if name in layout.components]
    return {name: int(confidence[:, columns[layout.columns(name)]].any(axis=1).sum()) for name in names}


def _in_layout(
    clip: _Clip, data: np.ndarray, confidence: np.ndarray, layout: str
) -> tuple[Sequence[PoseHeaderComponent], np.ndarray, np.ndarray]:
    if layout == OWN:
        return clip.parts, data, confidence
    columns, there = clip.mapped
    if layout == CANONICAL:
        wanted = {
            name: [point for point in CANONICAL_POINTS[name] if (name, point) in there]
            for name in FULL_BODY
            if name in there.components
        }
    else:
        wanted = {name: list(component_points(name, None)) for name in FULL_BODY}
    points = [(name, point) for name, names in wanted.items() for point in names]
    shape = (len(data), len(points))
    mapped = np.zeros((*shape, data.shape[-1]), np.float32), np.zeros(shape, np.float32)
    for column, point in enumerate(points):
        if point in there:
            source = columns[there.index(*point)]
            mapped[0][:, column], mapped[1][:, column] = data[:, source], confidence[:, source]
    form = "XYZC" if data.shape[-1] == 3 else "XYC"
    parts = [PoseHeaderComponent(name, names, [], [], form) for name, names in wanted.items() if names]
    return parts, *mapped


def _bytes(
    parts: Sequence[PoseHeaderComponent], data: np.ndarray, confidence: np.ndarray, about: _About
) -> bytes:
    fps, width, height = (float(value or 0) for value in about)
    buffer = io.BytesIO()
    pose_of(parts, data, confidence, fps, round(width), round(height)).write(buffer)
    return buffer.getvalue()

"""JSON files of pose estimators -> arrays of all people in the estimator's own points.

OpenPose writes a file per frame into a folder. mmpose (RTMW, DWPose, HRNet; `instance_info`), Sapiens, and
the lists of COCO and AlphaPose (`image_id`) have all frames in one file. Files are untrusted.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmpt.pose.clip import LARGEST
from mmpt.pose.estimators import ESTIMATORS, Estimator
from mmpt.utils.errors import UserError
from mmpt.utils.files import UNREADABLE, check_regular, parse_json
from mmpt.utils.text import printable

log = logging.getLogger(__name__)

MAX_BYTES = 512 << 20
MAX_FRAMES = 1 << 20
_MAX_NUMBERS = 1 << 28
"""Numbers of all people in all frames: 1 GB."""

_FRAME_FILE = re.compile(r"(?:.*\D)?(\d+)(_keypoints)?\.json", re.IGNORECASE)
_OPENPOSE_PARTS = (
    "pose_keypoints_2d",
    "face_keypoints_2d",
    "hand_left_keypoints_2d",
    "hand_right_keypoints_2d",
)
_COCO_PARTS = {"keypoints": 17, "foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21}
"""The lists of COCO-WholeBody's annotations, and how many points each has."""
_OF_COUNT = {
    len(ESTIMATORS[name].points): ESTIMATORS[name]
    for name in ("openpose_137", "coco_wholebody_133", "alphapose_136", "sapiens_308")
}
_EXPECTED = (
    "expected a folder of OpenPose's files *_keypoints.json, or the JSON of mmpose (instance_info), "
    "AlphaPose or COCO (a list with image_id and keypoints)"
)


@dataclass(frozen=True, eq=False)
class People:
    """All people of a clip.

    data: float32 [T, people, P, 2] in pixels. confidence: float32 [T, people, P] in [0, 1], 0 where a point
    is missing. fps, width, height: None where the file does not say.
    """

    estimator: Estimator
    data: np.ndarray
    confidence: np.ndarray
    fps: float | None = None
    width: float | None = None
    height: float | None = None


class _Frames(dict[int, list[np.ndarray]]):
    """Number of the frame -> people [P, 3]: x, y, confidence. All have as many points, P = `points`."""

    points = 0

    def add(self, number: int, people: list[Any], where: str) -> None:
        """Add people, still in the words of the file. Raises UserError, which begins with `where`."""
        try:
            for person in people:
                self._add(number, _person(person))
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        self.setdefault(number, [])

    def _add(self, number: int, points: np.ndarray) -> None:
        if (count := len(points)) not in _OF_COUNT:
            known = ", ".join(f"{count} ({each.title})" for count, each in _OF_COUNT.items())
            raise UserError(f"a person has {count} points; expected {known}")
        self.points = self.points or count
        if count != self.points:
            raise UserError(f"a person has {count} points, and those before have {self.points}")
        self.setdefault(number, []).append(points)


def is_frame_folder(folder: Path) -> bool:
    """Whether a folder holds one clip, a JSON file per frame, as OpenPose names them."""
    return any(path.name.lower().endswith("_keypoints.json") for path in folder.iterdir())


def frame_files(folder: Path, of_openpose: bool = True) -> dict[int, Path]:
    """Number of the frame -> its file. Raises UserError if two have the same number, or there is none."""
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        match = _FRAME_FILE.fullmatch(path.name)
        if match is None or (of_openpose and match[2] is None):
            continue
        number = int(match[1]) if len(match[1]) < 19 else -1
        if number < 0 or found.setdefault(number, path) != path:
            raise UserError(
                f"{path.name} and {found[number].name} are both frame {number}: a folder holds one clip"
                if number >= 0
                else f"{path.name}: the number of its frame is too large"
            )
    if not found:
        raise UserError("it has no file whose name ends with a frame number and .json")
    return found


def read_frame_folder(folder: Path, of_openpose: bool = True) -> People:
    """A clip with a JSON file per frame, in the order of their numbers. Raises UserError."""
    frames = _Frames()
    for number, path in frame_files(folder, of_openpose).items():
        try:
            people = _of_one_frame(_load(path))
        except UserError as error:
            raise UserError(f"{path.name}: {error}") from None
        frames.add(number, people, path.name)
    return _stacked(frames, {})


def read_clip_file(path: Path) -> People:
    """A clip in one JSON file. Raises UserError."""
    tree = _load(path)
    if isinstance(tree, dict) and "people" in tree:
        raise UserError("this is one frame of OpenPose: give the folder of all frames of the clip")
    listed, about = _listed_frames(tree)
    frames = _Frames()
    for number, people in listed:
        frames.add(number, people, f"frame {number}")
    return _stacked(frames, about)


def _load(path: Path) -> Any:
    try:
        check_regular(path)
        if (size := path.stat().st_size) > MAX_BYTES:
            raise UserError(f"it has {size:,} bytes; at most {MAX_BYTES:,} are read")
        return parse_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{UNREADABLE} ({error.strerror or error})") from None
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"this is not JSON ({error}); {_EXPECTED}") from None


def _of_one_frame(tree: Any) -> list[Any]:
    """The people of a file of one frame: of OpenPose, mmpose or Sapiens."""
    people: Any = None
    if isinstance(tree, dict):
        people = tree.get("people", tree.get("instance_info"))
    elif isinstance(tree, list):
        people = tree
    if not isinstance(people, list):
        raise UserError(f"it has no list of people; {_EXPECTED}")
    return people


def _listed_frames(tree: Any) -> tuple[list[tuple[int, list[Any]]], Mapping[str, Any]]:
    """(number of the frame, people) of a file of all frames, and what it says of the video."""
    about: Mapping[str, Any] = {}
    images: dict[str, Any] = {}
    if isinstance(tree, dict):
        metadata = tree.get("metadata")
        about = metadata if isinstance(metadata, dict) else {}
        if isinstance(tree.get("images"), list):
            images = {str(entry.get("id")): entry for entry in tree["images"] if isinstance(entry, dict)}
            about = next(iter(images.values()), {})
        tree = tree.get("instance_info", tree.get("annotations", tree.get("frames")))
    if not (isinstance(tree, list) and tree and all(isinstance(entry, dict) for entry in tree)):
        raise UserError(f"it has no list of frames; {_EXPECTED}")
    if all("instances" in entry for entry in tree):
        frames = [
            (_number(entry.get("frame_id", index)), entry["instances"]) for index, entry in enumerate(tree)
        ]
    elif all("image_id" in entry for entry in tree):
        frames = [(_number(_image_name(entry["image_id"], images)), [entry]) for entry in tree]
        clips = {_clip_name(_image_name(entry["image_id"], images)) for entry in tree}
        others = [name for image in images if _clip_name(name := _image_name(image, images)) in clips]
        frames += [(_number(name), []) for name in others]
    elif all("keypoints" in entry for entry in tree):
        frames = [(0, tree)]  # of one image
    else:
        raise UserError(f"its entries have neither instances, image_id nor keypoints; {_EXPECTED}")
    if not all(isinstance(people, list) for _, people in frames):
        raise UserError(f"the instances of a frame are not a list; {_EXPECTED}")
    return frames, about


def _image_name(image: Any, images: Mapping[str, Any]) -> Any:
    """The file name of a COCO image, whose number orders the frames; its id if there is none."""
    entry = images.get(str(image))
    return entry.get("file_name", image) if entry else image


def _clip_name(image: Any) -> str:
    """The name of an image without the number of its frame."""
    return re.sub(r"\d+(\D*)$", r"\1", str(image))


def _number(value: Any) -> int:
    """A frame's number, or the last number in the name of its image."""
    digits = re.findall(r"\d+", value) if isinstance(value, str) else []
    number = int(digits[-1]) if digits and len(digits[-1]) < 19 else value
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise UserError(f"got {str(value)[:40]!r} for a frame's number; expected a whole number from 0")
    return number


def _person(person: Any) -> np.ndarray:
    """[P, 3] of one person in any of the formats. Raises UserError."""
    if not isinstance(person, dict):
        raise UserError(f"a person is {type(person).__name__}; expected its keypoints")
    if any(part in person for part in _OPENPOSE_PARTS):
        return _openpose(person)
    if "keypoints" not in person:
        keys = printable(", ".join(person)) or "no key"
        raise UserError(f"a person has {keys}; expected keypoints, or {_OPENPOSE_PARTS[0]} of OpenPose")
    points = _numbers(person.get("keypoints"), "keypoints")
    if points.ndim == 2:
        scores = _numbers(person.get("keypoint_scores"), "keypoint_scores")
        if points.shape[1] != 2 or scores.shape != points.shape[:1]:
            raise UserError(
                f"keypoints {list(points.shape)} and keypoint_scores {list(scores.shape)}; expected [P, 2] "
                "and [P]"
            )
        return _checked(np.column_stack([points, scores]), "keypoints", "keypoint_scores")
    if any(part in person for part in _COCO_PARTS if part != "keypoints"):
        return np.concatenate([_part(person.get(part), part, count) for part, count in _COCO_PARTS.items()])
    return _triples(points, "keypoints")


def _openpose(person: Mapping[str, Any]) -> np.ndarray:
    """The four lists of OpenPose; one that is empty (its network did not run) is missing."""
    parts = []
    for part in ESTIMATORS["openpose_137"].parts:
        value, count = person.get(part.name), len(part.points)
        if value is None or value == []:
            value = np.zeros(3 * count, np.float32)
        parts.append(_part(value, part.name, count))
    return np.concatenate(parts)


def _part(value: Any, name: str, count: int) -> np.ndarray:
    points = _triples(value, name)
    if len(points) != count:
        raise UserError(f"{name} has {len(points)} points; expected {count}")
    return points


def _triples(value: Any, name: str) -> np.ndarray:
    numbers = value if isinstance(value, np.ndarray) else _numbers(value, name)
    if numbers.ndim != 1 or len(numbers) % 3:
        raise UserError(
            f"{name} has the shape {list(numbers.shape)}; expected x, y, confidence of each point"
        )
    return _checked(numbers.reshape(-1, 3), name, name)


def _checked(points: np.ndarray, name: str, scores: str) -> np.ndarray:
    """Points [P, 3] of finite numbers. Those without confidence may be anything."""
    confidence = points[:, 2]
    seen = (np.abs(points[:, :2]) <= LARGEST).all(axis=1) | (confidence <= 0)
    for fine, of in ((np.isfinite(confidence), f"{scores}: the confidence of"), (seen, f"{name}:")):
        if not fine.all():
            raise UserError(f"{of} point {fine.argmin()}, counted from 0, is NaN, infinite or too large")
    return points


def _numbers(value: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(value if isinstance(value, list) else None)
    except (ValueError, OverflowError):
        array = np.asarray(None)
    if array.dtype.kind not in "iuf":
        raise UserError(f"{name} is missing, or not a list of numbers")
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _stacked(frames: _Frames, about: Mapping[str, Any]) -> People:
    if not frames.points:
        raise UserError("no frame shows a person")
    first, last = min(frames), max(frames)
    if first > 1:  # tools count from 0 or from 1
        log.warning("the JSON begins with frame %d: the pose has no frames before it", first)
    shape = (last - first + 1, max(map(len, frames.values())), frames.points)
    if shape[0] > MAX_FRAMES or 3 * shape[0] * shape[1] * shape[2] > _MAX_NUMBERS:
        raise UserError(
            f"{shape[0]:,} frames of up to {shape[1]} people are too many; give parts of the recording"
        )
    if gaps := shape[0] - len(frames):
        log.warning("%d of %d frames are not in the JSON: they are empty", gaps, shape[0])
    values = np.zeros((*shape, 3), np.float32)
    for number, people in frames.items():
        for index, person in enumerate(people):
            values[number - first, index] = person
    confidence = np.clip(values[..., 2], 0, 1)
    here = confidence > 0
    data = np.where(here[..., None], values[..., :2], 0)
    if here.any() and np.abs(data).max() <= 1:
        raise UserError("all coordinates are within 0 and 1; expected pixels (OpenPose: --keypoint_scale 0)")
    sizes = (_positive(about.get(name), name) for name in ("fps", "width", "height"))
    return People(_OF_COUNT[frames.points], data, confidence, *sizes)


def _positive(value: Any, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < 65536:
        raise UserError(f"its {name} is {str(value)[:40]}; expected a number from 1 to 65535")
    return float(value)

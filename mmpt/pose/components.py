"""Names of MediaPipe Holistic's components and points, and the selection by `pose_components`."""

import difflib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from mmpt.pose.clip import Point, PoseClip, PoseLayout
from mmpt.utils.errors import UserError

POSE = "POSE_LANDMARKS"
FACE = "FACE_LANDMARKS"
LEFT_HAND = "LEFT_HAND_LANDMARKS"
RIGHT_HAND = "RIGHT_HAND_LANDMARKS"
WORLD = "POSE_WORLD_LANDMARKS"

FULL_BODY = (POSE, FACE, LEFT_HAND, RIGHT_HAND)
HOLISTIC = (*FULL_BODY, WORLD)
HANDS = (LEFT_HAND, RIGHT_HAND)
REDUCED_FACE = "reduced_face"

PoseComponents = str | Sequence[str] | None
"""The YAML value: None = full body, "reduced_face", or a list of component names."""

_SIDES = ("LEFT", "RIGHT")
_LIMBS = (
    "SHOULDER",
    "ELBOW",
    "WRIST",
    "PINKY",
    "INDEX",
    "THUMB",
    "HIP",
    "KNEE",
    "ANKLE",
    "HEEL",
    "FOOT_INDEX",
)
_FINGERS = ("INDEX_FINGER", "MIDDLE_FINGER", "RING_FINGER", "PINKY")

POSE_POINTS: tuple[str, ...] = (
    "NOSE",
    *(f"{side}_EYE{part}" for side in _SIDES for part in ("_INNER", "", "_OUTER")),
    *(f"{side}_EAR" for side in _SIDES),
    *(f"MOUTH_{side}" for side in _SIDES),
    *(f"{side}_{joint}" for joint in _LIMBS for side in _SIDES),
)

HAND_POINTS: tuple[str, ...] = (
    "WRIST",
    *(f"THUMB_{joint}" for joint in ("CMC", "MCP", "IP", "TIP")),
    *(f"{finger}_{joint}" for finger in _FINGERS for joint in ("MCP", "PIP", "DIP", "TIP")),
)

LEG_POINTS: tuple[str, ...] = tuple(
    f"{side}_{joint}" for joint in ("KNEE", "ANKLE", "HEEL", "FOOT_INDEX") for side in _SIDES
)
"""Points 25 to 32, which the published features hide; the hips are kept."""

FACE_SIZES = (468, 478)
"""Points of MediaPipe's face mesh without and with the irises."""

_CONTOURS = """
    0 7 10 13 14 17 21 33 37 39 40 46 52 53 54 55 58 61 63 65 66 67 70 78 80 81 82 84 87 88 91 93 95 103
    105 107 109 127 132 133 136 144 145 146 148 149 150 152 153 154 155 157 158 159 160 161 162 163 172
    173 176 178 181 185 191 234 246 249 251 263 267 269 270 276 282 283 284 285 288 291 293 295 296 297
    300 308 310 311 312 314 317 318 321 323 324 332 334 336 338 356 361 362 365 373 374 375 377 378 379
    380 381 382 384 385 386 387 388 389 390 397 398 400 402 405 409 415 454 466
"""
REDUCED_FACE_POINTS: tuple[str, ...] = tuple(_CONTOURS.split())
"""The 128 face points of `reduced_face`: contours of lips, eyes, brows and oval, in the published order."""

COMPONENT_POINTS: dict[str, int] = {POSE: 33, LEFT_HAND: 21, RIGHT_HAND: 21, WORLD: 33}


def component_names(pose_components: PoseComponents) -> tuple[str, ...]:
    """The selected components, in order. Raises UserError for an unknown name."""
    if pose_components is None or pose_components == REDUCED_FACE:
        return FULL_BODY
    names = (pose_components,) if isinstance(pose_components, str) else tuple(pose_components)
    if not names:
        raise UserError(
            f"pose_components is an empty list; give names ({', '.join(HOLISTIC)}), "
            f"{REDUCED_FACE!r}, or null for the full body"
        )
    for name in names:
        if name not in HOLISTIC or isinstance(pose_components, str):
            near = difflib.get_close_matches(str(name), (*HOLISTIC, REDUCED_FACE), n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]!r}?" if near and near[0] != name else ""
            raise UserError(
                f"pose_components: {name!r} is not known.{hint} Expected null (full body), {REDUCED_FACE!r}, "
                f"or a list of {', '.join(HOLISTIC)}."
            )
    if len(set(names)) != len(names):
        raise UserError(f"pose_components names a component twice: {', '.join(names)}")
    return names


def n_points(pose_components: PoseComponents, n_face: int = 468) -> int:
    """Number of selected points; `n_face`: points of the whole face. Raises UserError."""
    n_face = len(REDUCED_FACE_POINTS) if pose_components == REDUCED_FACE else n_face
    return sum(COMPONENT_POINTS.get(name, n_face) for name in component_names(pose_components))


def feature_dim(pose_components: PoseComponents, n_face: int = 468) -> int:
    """Dimension of the published features (x, y, z): full 1629 or 1659, reduced face 609, one hand 63."""
    return 3 * n_points(pose_components, n_face)


def select_components(clip: PoseClip, pose_components: PoseComponents, n_face: int | None = None) -> PoseClip:
    """The selected points, in config order.

    `n_face` (468 or 478) is the number of face points if the whole face is selected, so that a model trained
    with 468 can read a file with irises (478); None takes all that the file has. Raises UserError if the clip
    lacks a point.
    """
    key = (
        pose_components
        if pose_components is None or isinstance(pose_components, str)
        else tuple(pose_components)
    )
    columns, layout = _selection(clip.layout, key, n_face)
    return clip.select(columns, layout)


@lru_cache(maxsize=256)
def _selection(
    layout: PoseLayout, pose_components: str | tuple[str, ...] | None, n_face: int | None
) -> tuple[np.ndarray, PoseLayout]:
    columns: list[int] = []
    for name in component_names(pose_components):
        if name not in layout.components:
            raise UserError(
                f"there is no component {name}, which pose_components selects; the pose has "
                f"{', '.join(layout.components)}"
            )
        columns.extend(_component_columns(layout, name, pose_components == REDUCED_FACE, n_face))
    points: list[Point] = [layout.points[i] for i in columns]
    return np.array(columns, dtype=np.intp), PoseLayout.of(points)


def selected_points(pose_components: PoseComponents, n_face: int) -> list[Point]:
    """All selected points, in order. n_face: points of the whole face. Raises UserError."""
    reduced = pose_components == REDUCED_FACE
    return [
        (name, point)
        for name in component_names(pose_components)
        for point in _component_points(name, reduced, n_face)
    ]


def _component_points(name: str, reduced: bool, n_face: int) -> Sequence[str]:
    if name != FACE:
        return POSE_POINTS if name in (POSE, WORLD) else HAND_POINTS
    return REDUCED_FACE_POINTS if reduced else [str(i) for i in range(n_face)]


def _component_columns(layout: PoseLayout, name: str, reduced: bool, n_face: int | None) -> list[int]:
    if name == FACE and not reduced and n_face is None:
        return layout.columns(name).tolist()
    wanted = _component_points(name, reduced, n_face or FACE_SIZES[0])
    missing = [point for point in wanted if (name, point) not in layout]
    if missing:
        hint = "; set another face_points or pose_components, or" if name == FACE else ":"
        raise UserError(
            f"{name} has {len(layout.columns(name))} points and lacks {len(missing)} of the "
            f"{len(wanted)} selected ones (the first: {missing[0]}){hint} estimate the pose with MediaPipe "
            "Holistic, unreduced"
        )
    return [layout.index(name, point) for point in wanted]

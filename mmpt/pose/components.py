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

FINGERS: list[list[int]] = [[0, *range(start, start + 4)] for start in range(1, 21, 4)]
"""Indices of HAND_POINTS: thumb to little finger, each from the wrist to its tip."""

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

FACE_68: tuple[int, ...] = (*range(27), *range(36, 68))
"""Of the 68 face points of iBUG, COCO-WholeBody and OpenPose: contour, brows, eyes, mouth; not the nose."""

_FACE_68_IN_MESH = """
    162 234 93 58 172 136 149 148 152 377 378 365 397 288 323 454 389
    70 63 105 66 107 336 296 334 293 300
    33 160 158 133 153 144 362 385 387 263 373 380
    61 39 37 0 267 269 291 405 314 17 84 181 78 82 13 312 308 317 14 87
"""
HOLISTIC_LAYOUT, CANONICAL = "holistic", "canonical"
"""Values of `pose_layout`."""

CANONICAL_POINTS: dict[str, tuple[str, ...]] = {
    POSE: (
        "NOSE",
        *(f"{side}_{joint}" for joint in ("EYE", "EAR", *_LIMBS[:3], "HIP") for side in _SIDES),
    ),
    FACE: tuple(_FACE_68_IN_MESH.split()),
    LEFT_HAND: HAND_POINTS,
    RIGHT_HAND: HAND_POINTS,
}
"""The points of `pose_layout: canonical`, which Holistic and the other estimators have.

Face: the mesh points of FACE_68, by the correspondence in general use (as in LatentSync); the outer ends of
the brows are 70 and 300, the neighbours of its 71 and 301, because the reduced face has them.
"""

COMPONENT_POINTS: dict[str, int] = {POSE: 33, LEFT_HAND: 21, RIGHT_HAND: 21, WORLD: 33}


def visible_hands(clip: PoseClip) -> list[str]:
    """The hands of which a clip shows a point."""
    return [name for name in HANDS if name in clip.layout.components and clip.component(name)[1].any()]


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


def component_points(
    name: str, pose_components: PoseComponents, n_face: int = 468, layout: str = HOLISTIC_LAYOUT
) -> tuple[str, ...]:
    """The selected points of a component; `n_face`: points of the whole face."""
    if layout == CANONICAL:
        return CANONICAL_POINTS[name]
    if name != FACE:
        return POSE_POINTS if name in (POSE, WORLD) else HAND_POINTS
    return REDUCED_FACE_POINTS if pose_components == REDUCED_FACE else tuple(map(str, range(n_face)))


def select_components(
    clip: PoseClip,
    pose_components: PoseComponents,
    n_face: int | None = None,
    layout: str = HOLISTIC_LAYOUT,
) -> PoseClip:
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
    columns, selected = _selection(clip.layout, key, n_face, layout)
    return clip.select(columns, selected)


@lru_cache(maxsize=256)
def _selection(
    there: PoseLayout, pose_components: str | tuple[str, ...] | None, n_face: int | None, layout: str
) -> tuple[np.ndarray, PoseLayout]:
    columns: list[int] = []
    for name in component_names(pose_components):
        if name not in there.components:
            raise UserError(
                f"there is no component {name}, which pose_components selects; the pose has "
                f"{', '.join(there.components)}"
            )
        if name == FACE and n_face is None and layout != CANONICAL and pose_components != REDUCED_FACE:
            columns.extend(there.columns(name).tolist())
            continue
        wanted = component_points(name, pose_components, n_face or FACE_SIZES[0], layout)
        _require_points(there, name, wanted, layout)
        columns.extend(there.index(name, point) for point in wanted)
    points: list[Point] = [there.points[i] for i in columns]
    return np.array(columns, dtype=np.intp), PoseLayout.of(points)


def selected_points(
    pose_components: PoseComponents, n_face: int, layout: str = HOLISTIC_LAYOUT
) -> list[Point]:
    """All selected points, in order. n_face: points of the whole face. Raises UserError."""
    return [
        (name, point)
        for name in component_names(pose_components)
        for point in component_points(name, pose_components, n_face, layout)
    ]


def _require_points(there: PoseLayout, name: str, wanted: Sequence[str], layout: str) -> None:
    missing = [point for point in wanted if (name, point) not in there]
    if not missing:
        return
    others = ["face_points"] if name == FACE and layout != CANONICAL else []
    others += ["pose_components"]
    if layout != CANONICAL and all((name, point) in there for point in CANONICAL_POINTS.get(name, ("-",))):
        others += ["pose_layout: canonical, whose points it has"]
    raise UserError(
        f"{name} has {len(there.columns(name))} points and lacks {len(missing)} of the "
        f"{len(wanted)} selected ones (the first: {missing[0]}); set another {' or '.join(others)}, or "
        "estimate the pose with MediaPipe Holistic, unreduced"
    )

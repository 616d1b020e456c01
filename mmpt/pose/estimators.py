"""Poses of other estimators than MediaPipe Holistic: their points, and which points of Holistic they are.

A file of one of them is read as the points of Holistic that all estimators have (`CANONICAL_POINTS`), under
Holistic's names, so that mirroring, normalisation, augmentation and features are the same for all. Components
and points are named as pose-format names them; Sapiens, which pose-format does not know, has numbers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from pose_format.pose_header import PoseHeaderComponent
from pose_format.utils.alphapose import get_alphapose_components
from pose_format.utils.alphapose_133 import get_alphapose_133_components
from pose_format.utils.cocowholebody133_header import cocowholebody_components
from pose_format.utils.openpose import OpenPose_Components
from pose_format.utils.openpose_135 import OpenPose_Components as OpenPose135_Components

from mmpt.pose.clip import Point, PoseLayout
from mmpt.pose.components import (
    CANONICAL_POINTS,
    FACE,
    FACE_68,
    FULL_BODY,
    HAND_POINTS,
    LEFT_HAND,
    POSE,
    RIGHT_HAND,
)
from mmpt.utils.errors import UserError


@dataclass(frozen=True, eq=False)
class Estimator:
    """A pose estimator whose points are not those of Holistic. Its poses are 2-D.

    name: the value of `--from`. title: for messages. parts: its components. sources: canonical point of
    Holistic -> the estimator's point.
    """

    name: str
    title: str
    parts: tuple[PoseHeaderComponent, ...]
    sources: Mapping[Point, Point]

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """(component, point) of all its points, in order."""
        return points_of(self.parts)

    @lru_cache(maxsize=64)  # noqa: B019 (the estimators live as long as the program)
    def mapping(self, layout: PoseLayout) -> tuple[np.ndarray, PoseLayout]:
        """(columns, canonical layout) for a pose of this estimator: `data[:, columns]` has that layout.

        A component that the pose lacks is missing in the layout too. Raises UserError if nothing is left.
        """
        found = {target: layout.index(*source) for target, source in self.sources.items() if source in layout}
        if not found:
            raise UserError(f"it has none of the points of {self.title} that MediaPipe Holistic has too")
        return np.fromiter(found.values(), np.intp), PoseLayout.of(tuple(found))


def points_of(parts: Iterable[PoseHeaderComponent]) -> tuple[Point, ...]:
    """(component, point) of all points of some components, in order."""
    return tuple((part.name, point) for part in parts for point in part.points)


def estimator_of(points: Sequence[Point]) -> Estimator | None:
    """The estimator that has all these points; None if there is none."""
    wanted = set(points)
    return next((each for each in ESTIMATORS.values() if wanted and wanted <= set(each.points)), None)


def estimator_named_like(components: Sequence[str]) -> Estimator | None:
    """The estimator that has all components of these names, whatever their points."""
    wanted = set(components)
    named = ((each, {part.name for part in each.parts}) for each in ESTIMATORS.values())
    return next((each for each, names in named if wanted and wanted <= names), None)


def _estimator(
    name: str, title: str, parts: Sequence[PoseHeaderComponent], sources: Mapping[str, Sequence[Point]]
) -> Estimator:
    """sources: component of Holistic -> the estimator's points, in the order of CANONICAL_POINTS."""
    pairs = {
        (component, point): source
        for component in FULL_BODY
        if component in sources
        for point, source in zip(CANONICAL_POINTS[component], sources[component], strict=True)
    }
    return Estimator(name, title, tuple(parts), pairs)


def _four_parts(name: str, title: str, parts: Sequence[PoseHeaderComponent]) -> Estimator:
    """An estimator whose components are the body, a face that begins with the 68 points, and the hands."""
    body, face, left, right = parts

    def numbered(part: PoseHeaderComponent, count: int) -> list[Point]:
        return [(part.name, point) for point in part.points[:count]]

    face_68 = numbered(face, 68)
    return _estimator(
        name,
        title,
        parts,
        {
            POSE: [(body.name, _body_point(point, body.points)) for point in CANONICAL_POINTS[POSE]],
            FACE: [face_68[i] for i in FACE_68],
            LEFT_HAND: numbered(left, len(HAND_POINTS)),
            RIGHT_HAND: numbered(right, len(HAND_POINTS)),
        },
    )


def _body_point(point: str, names: Sequence[str]) -> str:
    """The name of LEFT_SHOULDER among `names`: LShoulder or left_shoulder."""
    side, _, joint = point.rpartition("_")
    short = side[:1] + joint.capitalize()
    return short if short in names else point.lower()


def _openpose_135() -> Estimator:
    """One component; the hands have no wrist of their own, so it is that of the body."""
    (part,) = OpenPose135_Components
    names = [(part.name, point) for point in part.points]
    wrists = {side: (part.name, f"{side}Wrist") for side in "LR"}
    return _estimator(
        "openpose_135",
        "OpenPose 135",
        [part],
        {
            POSE: [(part.name, _body_point(point, part.points)) for point in CANONICAL_POINTS[POSE]],
            FACE: [names[65 + i] for i in FACE_68],
            LEFT_HAND: [wrists["L"], *names[25:45]],
            RIGHT_HAND: [wrists["R"], *names[45:65]],
        },
    )


def _sapiens_308() -> Estimator:
    """Numbers as in the list of 308 points of Sapiens (Goliath): hands from the fingertip to the base.

    Its 238 face points have no contour, so the face is not mapped.
    """
    part = PoseHeaderComponent("SAPIENS_308", [str(i) for i in range(308)], [], [], "XYC")

    def hand(start: int) -> list[int]:
        fingers = range(start, start + 20, 4)
        return [start + 20, *(first + joint for first in fingers for joint in (3, 2, 1, 0))]

    right, left = hand(21), hand(42)
    body = [*range(9), left[0], right[0], 9, 10]
    numbers = {POSE: body, LEFT_HAND: left, RIGHT_HAND: right}
    return _estimator(
        "sapiens_308",
        "Sapiens 308",
        [part],
        {component: [(part.name, str(i)) for i in chosen] for component, chosen in numbers.items()},
    )


ESTIMATORS: dict[str, Estimator] = {
    each.name: each
    for each in (
        _four_parts("coco_wholebody_133", "COCO-WholeBody 133", cocowholebody_components()),
        _four_parts("openpose_137", "OpenPose 137", OpenPose_Components),
        _openpose_135(),
        _four_parts("alphapose_133", "AlphaPose 133", get_alphapose_133_components()),
        _four_parts("alphapose_136", "AlphaPose 136", get_alphapose_components()),
        _sapiens_308(),
    )
}
"""The known estimators by name."""

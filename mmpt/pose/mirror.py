"""Mirror clips, so that a left-handed signer becomes a right-handed one."""

from functools import lru_cache

import numpy as np

from mmpt.pose.clip import Point, PoseClip, PoseLayout
from mmpt.pose.components import FACE, RIGHT_HAND
from mmpt.utils.errors import UserError

# MediaPipe's face mesh numbers the left half and the midline first (0 to 247), then the right half in the
# same order (248 to 467). Only the irises (468 to 477) are numbered in a circle. Found by matching the mean
# face of the fingerspelling lexicon with its mirror image.
_MIDLINE = {0, 1, 2, 4, 5, 6, *range(8, 20), 94, 151, 152, 164, 168, 175, 195, 197, 199, 200}
_HALF = [i for i in range(248) if i not in _MIDLINE] + [468, 469, 470, 471, 472]
_OTHER_HALF = [*range(248, 468), 473, 476, 475, 474, 477]
FACE_MIRROR: dict[str, str] = {str(a): str(b) for a, b in zip(_HALF, _OTHER_HALF, strict=True)}
FACE_MIRROR |= {b: a for a, b in FACE_MIRROR.items()}
"""Face point -> the point on the other side, without the points on the midline."""


def mirrored_point(point: Point) -> Point:
    """The name of a point's mirror image: LEFT and RIGHT exchanged, face points by symmetry."""
    component, name = point
    if component == FACE:
        return component, FACE_MIRROR.get(name, name)
    return _swap(component), _swap(name)


def mirror(clip: PoseClip) -> PoseClip:
    """Mirror a clip: x negated, left and right points exchanged. Twice is the identity.

    Works on raw (pixel) and on normalised coordinates. Raises UserError if a counterpart is missing.
    """
    columns = mirror_columns(clip.layout)
    data = clip.data.take(columns, axis=1)
    data[..., 0] = 0 - data[..., 0]  # not -x, so that a missing point stays +0
    return clip.with_data(data, clip.confidence.take(columns, axis=1))


@lru_cache(maxsize=256)
def mirror_columns(layout: PoseLayout) -> np.ndarray:
    """Source column of each column of the mirrored clip, intp [P]. Raises UserError."""
    partners = [mirrored_point(point) for point in layout.points]
    for point, partner in zip(layout.points, partners, strict=True):
        if partner not in layout:
            raise UserError(
                f"cannot mirror: the pose has {'/'.join(point)} but not {'/'.join(partner)}. Mirroring needs "
                f"both hands and both sides among the points"
            )
    return np.array([layout.index(*partner) for partner in partners], dtype=np.intp)


def right_hand_is_idle(clip: PoseClip) -> bool:
    """Whether the right hand is never visible or never moves, SignCLIP's test for left-handedness."""
    if RIGHT_HAND not in clip.layout.components:
        return False
    data, confidence = clip.component(RIGHT_HAND)
    here = (confidence != 0).any(axis=1)
    return not here.any() or (len(data) > 0 and not np.ptp(data, axis=0).any())


def _swap(name: str) -> str:
    return "_".join({"LEFT": "RIGHT", "RIGHT": "LEFT"}.get(part, part) for part in name.split("_"))

"""Poses reduced to what a player in the browser draws: upper body, hands and contours of the face."""

import base64
import math
import zlib
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt.pose.clip import Point, PoseClip, PoseLayout
from mmpt.pose.components import FACE, FINGERS, HAND_POINTS, LEFT_HAND, POSE, POSE_POINTS, RIGHT_HAND
from mmpt.utils.errors import UserError

SIZE = 1000
"""Units of the longer side of the picture."""
MISSING = -32768
_FRAMES, _FPS = 500, 30

_BODY = [[11, 12], [11, 13, 15], [12, 14, 16], [11, 23, 24, 12]]
_HEAD = [[7, 0, 8]]  # where there is no face
_HAND = [*FINGERS, [5, 9, 13, 17]]
_FACE = [
    [10, 297, 284, 389, 454, 361, 397, 379, 400, 152, 176, 150, 172, 132, 234, 162, 54, 67, 10],
    [61, 37, 267, 291, 321, 314, 84, 91, 61],
    [78, 13, 308, 14, 78],
    [33, 160, 158, 133, 153, 144, 33],
    [362, 385, 387, 263, 373, 380, 362],
    [70, 63, 105, 66, 107],
    [336, 296, 334, 293, 300],
]


def _named() -> list[tuple[str, list[list[Point]]]]:
    """The lines of each part, as names of points; a part is drawn in one colour."""

    def lines(component: str, chains: list[list[int]], names: tuple[str, ...] | None) -> list[list[Point]]:
        return [[(component, names[i] if names else str(i)) for i in chain] for chain in chains]

    return [
        ("body", lines(POSE, _BODY, POSE_POINTS)),
        ("head", lines(POSE, _HEAD, POSE_POINTS)),
        ("face", lines(FACE, _FACE, None)),
        ("left", lines(LEFT_HAND, _HAND, HAND_POINTS)),
        ("right", lines(RIGHT_HAND, _HAND, HAND_POINTS)),
    ]


_PARTS = _named()
_POINTS = list(dict.fromkeys(point for _, chains in _PARTS for chain in chains for point in chain))
_CUT = {(POSE, f"{side}_HIP") for side in ("LEFT", "RIGHT")}  # may lie outside, so that hands are large
_NUMBER = {point: number for number, point in enumerate(_POINTS)}

DRAWING: dict[str, Any] = {
    "points": len(_POINTS),
    "missing": MISSING,
    "parts": [
        {"part": part, "chains": [[_NUMBER[point] for point in chain] for chain in chains]}
        for part, chains in _PARTS
    ],
}
"""How a player joins the points of a drawn pose: {"points", "missing", "parts": [{"part", "chains"}]}."""


def drawn_pose(clip: PoseClip) -> dict[str, Any]:
    """A clip for the player: {"frames", "fps", "width", "height", "data"}.

    data: base64 of the zlib-compressed int16 [frames, points, 2] in the order of DRAWING, little-endian, each
    frame after the first as the difference (modulo 2^16) to the one before. Coordinates are units of a
    picture of width x height, whose longer side is SIZE; a point that is not there is MISSING. World
    landmarks are left out. Long clips and high frame rates keep every n-th frame. Raises UserError if no
    point is there.
    """
    step = max(1, round(clip.fps / _FPS), math.ceil(len(clip) / _FRAMES))
    clip = clip.frames(slice(None, None, step))
    columns, known = _selection(clip.layout)
    there = clip.present[:, columns] & known
    if there[:, _columns_of("face")].any():
        there[:, _columns_of("head")] = False
    if not there.any():
        raise UserError("the pose shows no point of the body, the hands or the face in any frame.")
    xy = clip.data[:, columns, :2].astype(np.float64)
    framing = np.array([point not in _CUT for point in _POINTS])
    corner, extent = _picture(xy, there & framing if (there & framing).any() else there)
    scale = SIZE / extent.max()
    units = np.clip(np.rint((xy - corner) * scale), MISSING + 1, 32767)
    units = np.where(there[..., None], units, MISSING).astype("<i2")
    units[1:] = units[1:] - units[:-1]  # wraps
    width, height = (max(1, round(side)) for side in extent * scale)
    data = base64.b64encode(zlib.compress(units.tobytes(), 9)).decode()
    return {"frames": len(units), "fps": clip.fps / step, "width": width, "height": height, "data": data}


def _picture(
    xy: NDArray[np.float64], there: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corner and size of the part of the image that is drawn: all points but a few far ones."""
    points = xy[there]
    low, high = np.percentile(points, [0.5, 99.5], axis=0)
    size = np.maximum(high - low, 1e-6)
    size = np.maximum(size, size.max() / 2)  # no narrower than 1 : 2
    return (low + high) / 2 - 0.56 * size, 1.12 * size


@lru_cache(maxsize=256)
def _selection(layout: PoseLayout) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The column of each drawn point (0 if the layout lacks it), and which points the layout has.

    A face point that the layout lacks, as those of other estimators do, is drawn at the one before it in its
    line, so that the line does not break.
    """
    where = {point: layout.index(*point) for point in _POINTS if point in layout}
    for chain in dict(_PARTS)["face"]:
        there = [point for point in chain if point in layout]
        last = there[-1 if chain[0] == chain[-1] else 0] if there else None
        for point in chain:
            last = point if point in layout else last
            if last is not None:
                where.setdefault(point, where[last])
    known = np.array([point in where for point in _POINTS])
    return np.array([where.get(point, 0) for point in _POINTS], dtype=np.intp), known


def _columns_of(part: str) -> list[int]:
    return sorted({_NUMBER[point] for chain in dict(_PARTS)[part] for point in chain})

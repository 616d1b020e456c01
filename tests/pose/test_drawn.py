"""Poses reduced for the player: what the browser decodes is the clip, to half a unit."""

import base64
import json
import zlib
from typing import Any

import numpy as np
import pytest

from mmpt.pose.clip import PoseClip
from mmpt.pose.components import CANONICAL_POINTS, FACE, LEFT_HAND, POSE, RIGHT_HAND
from mmpt.pose.drawn import DRAWING, MISSING, SIZE, drawn_pose
from mmpt.utils.errors import UserError
from tests.pose.pose_fakes import fake_clip, without


def decoded(pose: dict[str, Any]) -> np.ndarray:
    """int16 [frames, points, 2], as player.js computes it."""
    steps = np.frombuffer(zlib.decompress(base64.b64decode(pose["data"])), "<i2")
    values = steps.reshape(pose["frames"], DRAWING["points"], 2).astype(np.int64).cumsum(axis=0)
    return ((values + 2**15) % 2**16 - 2**15).astype(np.int16)


def line(part: str, number: int = 0) -> list[int]:
    return next(entry for entry in DRAWING["parts"] if entry["part"] == part)["chains"][number]


def clip_of(values: dict[tuple[str, str], list[float]], frames: int = 4, fps: float = 25.0) -> PoseClip:
    """A clip with these points (x, y) in every frame, and none other."""
    full = fake_clip(frames)
    data, confidence = np.zeros_like(full.data), np.zeros_like(full.confidence)
    for point, xy in values.items():
        data[:, full.index(*point), :2] = xy
        confidence[:, full.index(*point)] = 1
    return PoseClip(data, confidence, fps, full.layout)


def test_drawn_pose_keeps_the_places_of_the_points() -> None:
    clip = clip_of({(POSE, "LEFT_SHOULDER"): [300, 100], (POSE, "RIGHT_SHOULDER"): [100, 100],
                    (POSE, "LEFT_ELBOW"): [300, 300], (RIGHT_HAND, "WRIST"): [100, 300]})  # fmt: skip
    pose = drawn_pose(clip)
    json.dumps(pose, allow_nan=False)
    values = decoded(pose)
    left, right = line("body")
    elbow, wrist = line("body", 1)[1], line("right")[0]
    across = values[0, left].astype(float) - values[0, right]
    down = values[0, elbow].astype(float) - values[0, left]
    assert across[0] == pytest.approx(down[1], abs=1) and across[1] == down[0] == 0
    assert tuple(values[0, wrist]) == (values[0, right][0], values[0, elbow][1])
    assert (values == values[0]).all() and max(pose["width"], pose["height"]) == SIZE
    there = {left, right, elbow, wrist}
    assert all((values[:, n] == MISSING).all() for n in range(DRAWING["points"]) if n not in there)
    assert all(values[0, n].min() >= 0 and values[0, n].max() <= SIZE for n in there)


def test_lines_of_a_face_with_fewer_points_do_not_break() -> None:
    full = fake_clip(n_face=468, missing=0)
    points = [point for point in full.points if point[0] != FACE or point[1] in CANONICAL_POINTS[FACE]]
    clip = full.select(np.array([full.index(*point) for point in points]), full.layout.of(points))
    values = decoded(drawn_pose(clip))
    contour = line("face")
    assert (values[:, contour] != MISSING).all() and len(set(contour)) == 18
    assert len({tuple(values[0, n]) for n in contour}) == 7  # the points that it has
    assert tuple(values[0, contour[0]]) == tuple(values[0, contour[-4]])  # across the forehead: 10 at 162
    assert (values[:, line("face", 3)] != MISSING).all()


@pytest.mark.parametrize("frames", [1, 2, 97])
def test_drawn_pose_round_trip_with_missing_points(frames: int) -> None:
    clip = fake_clip(frames, missing=0.4)
    values = decoded(drawn_pose(clip))
    number = line("left")[3]
    data, confidence = clip.component(LEFT_HAND)
    assert ((values[:, number, 0] == MISSING) == (confidence[:, 3] == 0)).all()
    there = confidence[:, 3] != 0
    if there.sum() > 2:  # an affine image of the clip, rounded
        drawn, given = values[there, number].astype(float), data[there, 3, :2]
        slope = np.ptp(drawn, axis=0) / np.ptp(given, axis=0)
        np.testing.assert_allclose(drawn - drawn[0], (given - given[0]) * slope, atol=1.5)
        assert slope[0] == pytest.approx(slope[1], rel=0.05)


def test_drawn_pose_head_is_drawn_where_there_is_no_face() -> None:
    clip = fake_clip(missing=0, n_face=468)
    assert (decoded(drawn_pose(clip))[:, line("head")] == MISSING).all()
    assert (decoded(drawn_pose(without(clip, FACE)))[:, line("head")] != MISSING).all()


def test_drawn_pose_far_points_do_not_make_the_rest_small() -> None:
    clip = fake_clip(200, missing=0)
    data = clip.data.copy()
    data[7, clip.index(RIGHT_HAND, "WRIST")] = 1e7
    values = decoded(drawn_pose(clip.with_data(data)))
    assert values[7, line("right")[0]].max() == 32767
    assert np.ptp(np.delete(values, 7, axis=0)[:, line("left")[1], 0]) > 100


@pytest.mark.parametrize(("frames", "fps", "step"), [(60, 25, 1), (60, 60, 2), (1001, 30, 3), (40, 0.5, 1)])
def test_drawn_pose_of_long_and_fast_clips_keeps_every_nth_frame(frames: int, fps: float, step: int) -> None:
    clip = fake_clip(frames, missing=0)
    pose = drawn_pose(PoseClip(clip.data, clip.confidence, fps, clip.layout))
    assert pose["frames"] == -(-frames // step) and pose["fps"] == fps / step


def test_drawn_pose_without_any_point_is_an_error() -> None:
    with pytest.raises(UserError, match="no point of the body"):
        drawn_pose(clip_of({}))


def test_drawing_names_each_point_once() -> None:
    used = {n for part in DRAWING["parts"] for chain in part["chains"] for n in chain}
    assert used == set(range(DRAWING["points"]))

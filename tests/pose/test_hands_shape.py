"""What the fingers do, beside the palm's frame."""

from itertools import pairwise

import numpy as np
import pytest

from mmpt.pose.components import HAND_POINTS
from mmpt.pose.hands import PALM_SHAPE_DIM, palm_frame, palm_shape

BEND = slice(79, 94)
HELD = slice(110, 173)
INVARIANT = [*range(63), *range(69, 110)]


@pytest.fixture
def hand():
    return np.random.default_rng(0).normal(size=(4, 21, 3)).astype(np.float32)


def everything(hand):
    return np.ones(hand.shape[:2], dtype=bool)


def test_palm_shape_equals_brute_force(hand):
    shape = palm_shape(hand, everything(hand))
    assert shape.shape == (4, PALM_SHAPE_DIM) and shape.dtype == np.float32
    np.testing.assert_array_equal(shape[:, :69], palm_frame(hand, everything(hand)))
    for t, points in enumerate(hand.astype(np.float64)):
        length = np.linalg.norm(points[9] - points[0])
        tips = [
            HAND_POINTS.index(f"{name}_TIP")
            for name in ("THUMB", "INDEX_FINGER", "MIDDLE_FINGER", "RING_FINGER", "PINKY")
        ]
        spread = [
            np.linalg.norm(points[a] - points[b]) / length for i, a in enumerate(tips) for b in tips[i + 1 :]
        ]
        bend = []
        for finger in range(5):
            chain = points[[0, *range(4 * finger + 1, 4 * finger + 5)]]
            bones = [(b - a) / np.linalg.norm(b - a) for a, b in pairwise(chain)]
            bend += [float(a @ b) for a, b in pairwise(bones)]
        reach = [np.linalg.norm(points[4] - points[j]) / length for j in range(5, 21)]
        held = ((points - points[0]) / length).ravel()
        np.testing.assert_allclose(shape[t, 69:], [*spread, *bend, *reach, *held], atol=2e-5)


def test_palm_shape_is_invariant_to_rotation_translation_and_scale(hand):
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    moved = (3 * hand @ turn.T + 7).astype(np.float32)
    one, other = palm_shape(hand, everything(hand)), palm_shape(moved, everything(hand))
    np.testing.assert_allclose(other[:, INVARIANT], one[:, INVARIANT], atol=1e-4)
    turned = one[:, HELD].reshape(4, 21, 3) @ turn.T
    np.testing.assert_allclose(other[:, HELD].reshape(4, 21, 3), turned, atol=1e-4)


def test_palm_shape_of_missing_points_is_zero(hand):
    present = everything(hand)
    present[1] = False
    present[2, 8] = False  # the index finger's tip
    hand[~present] = 0
    shape = palm_shape(hand, present)
    assert not shape[1].any() and np.isfinite(shape).all()
    spread_with_index = [69, 73, 74, 75]
    assert not shape[2, spread_with_index].any() and not shape[2, BEND][5]
    assert shape[2, BEND][3:5].all()

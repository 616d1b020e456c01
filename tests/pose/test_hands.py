import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.pose.components import RIGHT_HAND, select_components
from mmpt.pose.hands import INDEX_MCP, MIDDLE_MCP, PALM, PINKY_MCP, normalize_hand, palm_frame
from mmpt.pose.reader import read_pose
from tests.pose.pose_fakes import assert_masked, fake_clip, layout

HAND = layout(RIGHT_HAND)


def hand_clip(**kwargs):
    return fake_clip(layout=HAND, **kwargs)


def rotation(seed: int) -> np.ndarray:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


@pytest.fixture(scope="module")
def real(request):
    data_dir = request.getfixturevalue("data_dir")
    return select_components(read_pose(data_dir / "pose" / "4_17_1_cam2.pose"), [RIGHT_HAND])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.floats(0.01, 100), place=st.floats(-100, 100))
def test_palm_frame_is_invariant_to_position_and_size(seed, size, place):
    clip = hand_clip(frames=6, seed=seed % 17, missing=0.2)
    turn = rotation(seed)
    hand = clip.data.astype(np.float64)
    before = palm_frame(hand, clip.present)
    after = palm_frame(hand @ turn * size + place * clip.present[..., None], clip.present)
    np.testing.assert_allclose(after[:, :63], before[:, :63], atol=1e-4)
    for part in (slice(63, 66), slice(66, 69)):  # and the directions turn with the hand
        np.testing.assert_allclose(after[:, part], before[:, part] @ turn, atol=1e-4)


def test_palm_frame_values(real):
    seen = real.present.all(axis=1)
    out = palm_frame(real.data, real.present)
    joints = out[seen, :63].reshape(-1, 21, 3)
    np.testing.assert_allclose(joints[:, 0], 0, atol=1e-6)
    np.testing.assert_allclose(joints[:, MIDDLE_MCP], np.tile([0, 1, 0], (len(joints), 1)), atol=1e-5)
    # a rigid frame: distances between joints are those of the hand, in palm lengths
    hand = real.data[seen]
    palm = np.linalg.norm(hand[:, MIDDLE_MCP] - hand[:, 0], axis=1)
    for a, b in ((4, 8), (12, 20), (INDEX_MCP, PINKY_MCP)):
        ours = np.linalg.norm(joints[:, a] - joints[:, b], axis=1)
        np.testing.assert_allclose(ours, np.linalg.norm(hand[:, a] - hand[:, b], axis=1) / palm, rtol=1e-4)
    directions = out[seen, 63:].reshape(-1, 2, 3)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=2), 1, atol=1e-5)
    np.testing.assert_allclose((directions[:, 0] * directions[:, 1]).sum(axis=1), 0, atol=1e-5)
    assert not out[~seen].any() and (~seen).sum() == 1


def test_palm_frame_of_degenerate_hands_is_zero():
    clip = hand_clip(frames=6, missing=0)
    hand, present = clip.data.copy(), clip.present.copy()
    hand[0] = 1  # all in one place
    hand[1, MIDDLE_MCP] = hand[1, 0]  # no length
    hand[2, [INDEX_MCP, PINKY_MCP]] = hand[2, 0] + np.array([[1], [2]]) * (
        hand[2, MIDDLE_MCP] - hand[2, 0]
    )  # flat
    present[3, INDEX_MCP] = False
    present[4, 8] = False
    with np.errstate(all="raise"):
        out = palm_frame(hand, present)
    assert np.isfinite(out).all()
    assert not out[:4].any()
    assert not out[4, 24:27].any() and out[4, 27:30].all()
    assert out[5, 63:].any()


@pytest.mark.parametrize("missing", [0.0, 0.4, 1.0])
def test_normalized_hand_is_masked_and_finite(missing):
    clip = hand_clip(frames=20, seed=3, missing=missing)
    out = normalize_hand(clip)
    assert_masked(out)
    np.testing.assert_array_equal(out.present, clip.present)
    if missing < 1:
        assert out.data[out.present].min(axis=0) == pytest.approx(0)
        frames = out.present[:, 0]
        lengths = np.linalg.norm(out.data[frames, 0] - out.data[frames, MIDDLE_MCP], axis=1)
        np.testing.assert_allclose(lengths, 100, rtol=1e-4)


def test_a_degenerate_hand_becomes_missing():
    clip = hand_clip(frames=5, missing=0)
    clip.data[0] = 3
    clip.data[1, MIDDLE_MCP] = clip.data[1, 0]
    clip.data[2, PALM, 1:] = 0  # all on one line
    clip.confidence[3, PINKY_MCP] = 0
    clip.data[3, PINKY_MCP] = 0
    out = normalize_hand(clip)
    assert_masked(out)
    assert out.present.any(axis=1).tolist() == [False, False, False, False, True]


def test_palm_frame_of_a_hand_that_is_nearly_flat_is_zero():
    """The middle knuckle almost along the palm's normal: rounding would decide which way the palm faces."""
    clip = hand_clip(frames=1, missing=0)
    hand, present = clip.data.copy(), clip.present.copy()
    hand[0, PALM] = 0
    hand[0, INDEX_MCP], hand[0, PINKY_MCP] = (1, 0, 0), (0, 1, 0)
    hand[0, MIDDLE_MCP] = (1e-4, 0, 1)  # the normal is (0, 0, 1)
    assert not palm_frame(hand, present).any()
    hand[0, MIDDLE_MCP] = (0.01, 0, 1)
    assert palm_frame(hand, present).any()

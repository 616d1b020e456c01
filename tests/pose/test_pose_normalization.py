import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.pose.components import LEFT_HAND, POSE, RIGHT_HAND, select_components
from mmpt.pose.hands import normalize_hand
from mmpt.pose.normalization import hide_legs, normalize_shoulders, scale_depth, shoulder_frame
from mmpt.pose.reader import read_pose
from mmpt.utils.errors import UserError
from tests.pose.pose_fakes import assert_masked, fake_clip, layout

FIXTURES = ("2_10_1_cam2", "4_17_1_cam2", "5_2_1_cam2")


def check_reference(folder, name):
    clip = hide_legs(normalize_shoulders(read_pose(folder / f"{name}.pose")))
    hand = select_components(clip, [RIGHT_HAND])
    ours = {
        "full": select_components(clip, None),
        "right_hand": hand,
        "reduced_face": select_components(clip, "reduced_face"),
        "right_hand_normalized3d": normalize_hand(hand),
    }
    with np.load(folder / f"{name}_features.npz", allow_pickle=False) as reference:
        assert set(reference.files) == set(ours)
        for key, made in ours.items():
            tolerance = 2e-3 if key == "right_hand_normalized3d" else 1e-5
            np.testing.assert_allclose(
                made.data.reshape(len(made), -1), reference[key], atol=tolerance, rtol=0
            )


def test_the_published_features_of_a_real_pose(data_dir):
    check_reference(data_dir / "pose", "4_17_1_cam2")


@pytest.mark.parametrize("name", FIXTURES)
def test_the_published_features_of_all_reference_poses(shared_reference, name):
    check_reference(shared_reference / "pose", name)


def test_shoulders_become_origin_and_unit():
    clip = normalize_shoulders(fake_clip(missing=0.5))
    right, left = (clip.data[:, clip.index(POSE, name)] for name in ("RIGHT_SHOULDER", "LEFT_SHOULDER"))
    np.testing.assert_allclose(((right + left) / 2).mean(axis=0), 0, atol=1e-6)
    assert np.linalg.norm(right - left, axis=1).mean() == pytest.approx(1, abs=1e-6)
    assert_masked(clip)


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(0.1, 1000), shift=st.floats(-500, 500))
def test_normalization_is_invariant_to_size_and_position(scale, shift):
    clip = fake_clip(frames=5)
    moved = (clip.data * scale + shift) * clip.present[..., None]
    there = normalize_shoulders(clip.with_data(moved.astype(np.float32))).data
    np.testing.assert_allclose(there, normalize_shoulders(clip).data, atol=5e-3)


def test_normalization_does_not_change_its_input():
    clip = fake_clip()
    before = clip.data.copy(), clip.confidence.copy()
    for step in (normalize_shoulders, hide_legs, scale_depth):
        step(clip)
    normalize_hand(select_components(clip, [LEFT_HAND]))
    np.testing.assert_array_equal(clip.data, before[0])
    np.testing.assert_array_equal(clip.confidence, before[1])


def test_frames_without_a_shoulder_are_ignored():
    clip = fake_clip(frames=4)
    clip.data[1:, clip.index(POSE, "LEFT_SHOULDER")] = 0
    clip.confidence[1:, clip.index(POSE, "LEFT_SHOULDER")] = 0
    centre, scale = shoulder_frame(clip)
    first_centre, first_scale = shoulder_frame(clip.frames(slice(0, 1)))
    np.testing.assert_allclose(centre, first_centre)
    assert scale == first_scale


def test_legs_are_hidden_and_hips_stay():
    clip = hide_legs(fake_clip(missing=0))
    hidden = {
        name for component, name in clip.points if not clip.confidence[:, clip.index(component, name)].any()
    }
    assert hidden == {f"{s}_{p}" for s in ("LEFT", "RIGHT") for p in ("KNEE", "ANKLE", "HEEL", "FOOT_INDEX")}
    assert_masked(clip)


def test_no_shoulders_in_the_layout():
    with pytest.raises(UserError, match=r"no shoulders.*RIGHT_HAND_LANDMARKS"):
        normalize_shoulders(fake_clip(layout=layout(RIGHT_HAND)))


def test_shoulders_never_seen():
    clip = fake_clip()
    clip.confidence[:, clip.index(POSE, "RIGHT_SHOULDER")] = 0
    with pytest.raises(UserError, match="both shoulders"):
        normalize_shoulders(clip)


def test_shoulders_that_coincide():
    clip = fake_clip()
    clip.data[:, clip.index(POSE, "RIGHT_SHOULDER")] = clip.data[:, clip.index(POSE, "LEFT_SHOULDER")]
    with pytest.raises(UserError, match="coincide"):
        normalize_shoulders(clip)


def test_impossible_coordinates_are_refused():
    clip = fake_clip()
    clip.data[0, clip.index(POSE, "NOSE")] = 3e38
    for name in ("LEFT_SHOULDER", "RIGHT_SHOULDER"):
        clip.data[:, clip.index(POSE, name)] *= 1e-4
    with pytest.raises(UserError, match="impossible for a body"):
        normalize_shoulders(clip)


def test_scale_depth_is_applied_once(data_dir):
    raw = read_pose(data_dir / "pose" / "4_17_1_cam2.pose")
    scaled = scale_depth(raw)
    np.testing.assert_allclose(scaled.data[..., 2], raw.data[..., 2] * 500, rtol=1e-6)
    np.testing.assert_array_equal(scaled.data[..., :2], raw.data[..., :2])
    np.testing.assert_array_equal(scale_depth(scaled).data, scaled.data)
    # and that is right: fingers are as long as they are, however the hand is turned
    seen = raw.component(RIGHT_HAND)[1][:, 0] > 0
    spread = {}
    for name, clip in (("raw", raw), ("scaled", scaled)):
        data = clip.component(RIGHT_HAND)[0][seen]
        length = np.linalg.norm(np.diff(data[:, 5:9], axis=1), axis=2).sum(axis=1)
        spread[name] = length.std() / length.mean()
    assert spread["scaled"] < spread["raw"]


def test_scale_depth_without_an_image_width():
    clip = fake_clip(missing=0)
    clip.data[..., 2] *= 1e-3
    unknown = type(clip)(clip.data, clip.confidence, 25.0, clip.layout, 0.0)
    with pytest.raises(UserError, match="width"):
        scale_depth(unknown)


def test_scale_depth_compares_with_the_longer_side():
    """z extends 2 % as far as x and 20 % as far as y: it is a fraction of the width, and is scaled."""
    clip = fake_clip(frames=3, missing=0)
    points = clip.data.shape[1]
    clip.data[..., 0] = np.linspace(0, 400, points)
    clip.data[..., 1] = np.linspace(0, 40, points)
    clip.data[..., 2] = np.linspace(0, 8, points)
    scaled = scale_depth(clip)
    np.testing.assert_allclose(scaled.data[..., 2], clip.data[..., 2] * clip.width, rtol=1e-6)

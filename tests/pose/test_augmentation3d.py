import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.config.dataset_options import PoseAugmentation
from mmpt.pose.augmentation3d import (
    STEPS,
    TIME_STEPS,
    augment3d,
    bend_fingers,
    change_speed,
    crop_time,
    drop_frames,
    drop_hand,
    drop_joints,
    jitter_bones,
    linear_matrix,
    offset_joints,
    resample,
    rotation_matrix,
    warp_time,
)
from mmpt.pose.components import HANDS, LEFT_HAND, RIGHT_HAND
from mmpt.pose.hands import PALM, palm_frame
from tests.pose.pose_fakes import assert_masked, fake_clip, layout

# window_jitter is for the window that is cut before: see tests/processors/test_pose_video.py
OTHERS = {"probability", "window_jitter"}
OPTIONS = [f.name for f in dataclasses.fields(PoseAugmentation) if f.name not in OTHERS]
ALL = PoseAugmentation(**dict.fromkeys(OPTIONS, 0.2))


def rng(seed=0):
    return np.random.default_rng(seed)


def moments(n=20):
    return np.arange(n, dtype=float)


def test_augment3d_is_off_by_default():
    clip = fake_clip()
    assert not PoseAugmentation().active()
    assert augment3d(clip, PoseAugmentation(), rng()) is clip


def test_every_option_has_a_step():
    assert {*STEPS, *TIME_STEPS, "rotation", "scale", "stretch", "shear"} == set(OPTIONS)


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_changes_the_clip_and_keeps_the_mask(option):
    clip = fake_clip(frames=20, missing=0.3)
    before = clip.data.copy()
    options = PoseAugmentation(**{option: 0.4})
    assert options.active()
    one, same = (augment3d(clip, options, rng(3)) for _ in range(2))
    assert_masked(one)
    assert len(one) >= 1 and one.layout is clip.layout
    np.testing.assert_array_equal(one.data, same.data)
    outs = [augment3d(clip, options, rng(seed)) for seed in range(8)]
    assert any(len(o) != len(clip) or not np.array_equal(o.data, clip.data) for o in outs)
    np.testing.assert_array_equal(clip.data, before)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), frames=st.integers(1, 12), missing=st.sampled_from([0.0, 0.3, 1.0]))
def test_all_augment3d_steps_together(seed, frames, missing):
    clip = fake_clip(frames=frames, seed=seed % 13, missing=missing)
    tip = clip.index(RIGHT_HAND, "INDEX_FINGER_TIP")
    clip.data[:, tip], clip.confidence[:, tip] = 0, 0
    out = augment3d(clip, ALL, rng(seed))
    assert_masked(out)
    assert not out.data[:, tip].any()
    assert len(out) >= 1


def test_augment3d_probability():
    options = dataclasses.replace(ALL, probability=0.25)
    clip = fake_clip(frames=3)
    generator = rng()
    changed = sum(augment3d(clip, options, generator) is not clip for _ in range(600))
    assert 110 < changed < 190
    assert augment3d(clip, dataclasses.replace(ALL, probability=0), generator) is clip


def test_rotation_matrices_are_orthogonal():
    generator = rng()
    for _ in range(20):
        matrix = rotation_matrix(0.5, generator)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1)
    clip = fake_clip(layout=layout(RIGHT_HAND), missing=0.2)
    turned = augment3d(clip, PoseAugmentation(rotation=0.5, scale=0.3), generator)
    before, after = (palm_frame(c.data, c.present) for c in (clip, turned))
    np.testing.assert_allclose(after[:, :63], before[:, :63], atol=1e-4)
    assert np.abs(after[:, 63:] - before[:, 63:]).max() > 0.05


def test_rotation_std():
    generator = rng()
    angles = [np.arcsin(-rotation_matrix(0.3, generator)[0, 2]) for _ in range(3000)]
    assert np.std(angles) == pytest.approx(0.3, rel=0.05)


def test_scale_shear_and_stretch():
    generator = rng()
    factor = linear_matrix(PoseAugmentation(scale=0.5), generator)
    np.testing.assert_allclose(factor, factor[0, 0] * np.eye(3))
    stretch = linear_matrix(PoseAugmentation(stretch=0.5), generator)
    assert not stretch[~np.eye(3, dtype=bool)].any() and len(set(np.diag(stretch))) == 3
    shear = linear_matrix(PoseAugmentation(shear=0.5), generator)
    np.testing.assert_array_equal(np.diag(shear), 1)
    assert shear[~np.eye(3, dtype=bool)].all()


def bones(clip):
    fingers = clip.component(RIGHT_HAND)[0][:, 1:].reshape(-1, 5, 4, 3)
    return np.diff(fingers, axis=2)


def test_bone_length_factors_are_constant_over_the_clip():
    clip = fake_clip(missing=0)
    out = jitter_bones(clip, 0.3, rng())
    ratio = bones(out) / bones(clip)
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1, ..., :1], ratio.shape), rtol=1e-2)
    assert ratio.reshape(len(clip), -1).std(axis=1).min() > 0.1
    np.testing.assert_array_equal(out.data[:, :33], clip.data[:, :33])
    palm = clip.layout.columns(RIGHT_HAND)[list(PALM)]
    np.testing.assert_array_equal(out.data[:, palm], clip.data[:, palm])


def test_finger_bend_keeps_bone_lengths():
    clip = fake_clip(missing=0)
    out = bend_fingers(clip, 0.5, rng())
    np.testing.assert_allclose(
        np.linalg.norm(bones(out), axis=-1), np.linalg.norm(bones(clip), axis=-1), rtol=1e-4
    )
    assert np.abs(bones(out) - bones(clip)).max() > 0.1
    # the same bend in each frame, as the hand sees it
    still = clip.with_data(clip.data[:1] + rng(1).normal(size=(len(clip), 1, 3)))
    still = bend_fingers(still.with_data(still.data.astype(np.float32)), 0.5, rng())
    hand, confidence = still.component(RIGHT_HAND)
    frames = palm_frame(hand, confidence != 0)
    np.testing.assert_allclose(frames, np.broadcast_to(frames[:1], frames.shape), atol=1e-3)


@pytest.mark.parametrize("step", [jitter_bones, bend_fingers, offset_joints])
def test_a_single_missing_joint_stays_missing(step):
    clip = fake_clip(missing=0)
    tip = clip.index(RIGHT_HAND, "INDEX_FINGER_TIP")
    clip.data[:, tip], clip.confidence[:, tip] = 0, 0
    assert_masked(step(clip, 0.3, rng()))


def test_joint_dropout_spares_the_palm():
    clip = fake_clip(missing=0)
    out = drop_joints(clip, 0.9, rng())
    dropped = ~out.present.any(axis=0)
    assert dropped.sum() > 20
    for hand in HANDS:
        assert not dropped[clip.layout.columns(hand)[list(PALM)]].any()
    assert not dropped[:33].any()
    assert (out.present == out.present[:1]).all()


def test_hand_dropout_needs_two_hands():
    clip = fake_clip(missing=0)
    lost = {tuple(drop_hand(clip, 1.0, rng(i)).component(h)[1].any() for h in HANDS) for i in range(20)}
    assert lost == {(True, False), (False, True)}
    gone = clip.confidence.copy()
    gone[:, clip.layout.columns(LEFT_HAND)] = 0
    one = clip.with_data(clip.data * (gone[..., None] > 0), gone)
    assert drop_hand(one, 1.0, rng()) is one


def test_time_crop_keeps_at_least_one_frame():
    generator = rng()
    lengths = set()
    for _ in range(200):
        kept = crop_time(moments(), 0.5, generator)
        np.testing.assert_array_equal(np.diff(kept), 1)
        lengths.add(len(kept))
    assert min(lengths) >= 11 and max(lengths) == 20 and len(lengths) > 5
    assert len(crop_time(moments(1), 0.9, generator)) == 1


def test_frame_dropout():
    generator = rng()
    kept = [len(drop_frames(moments(), 0.3, generator)) for _ in range(300)]
    assert np.mean(kept) == pytest.approx(14, abs=0.5)
    assert len(drop_frames(moments(), 0.999, generator)) >= 1


def test_time_speed_keeps_the_ends():
    generator = rng()
    for _ in range(50):
        new = change_speed(moments(), 0.5, generator)
        assert 5 <= len(new) <= 80
        assert new[0] == 0 and (len(new) == 1 or new[-1] == 19)
        assert (np.diff(new) > 0).all()


def test_time_warp_keeps_order_length_and_ends():
    generator = rng()
    for _ in range(50):
        new = warp_time(moments(), 0.5, generator)
        assert len(new) == 20 and new[0] == 0 and new[-1] == 19
        assert (np.diff(new) >= 0).all()
    for n in (1, 2):
        np.testing.assert_allclose(warp_time(moments(n), 0.5, generator), moments(n))


def test_resample_interpolates_and_keeps_gaps():
    clip = fake_clip(frames=4, missing=0)
    gone = clip.confidence.copy()
    gone[2, clip.layout.columns(RIGHT_HAND)] = 0
    clip = clip.with_data(clip.data * (gone[..., None] > 0), gone)
    out = resample(clip, np.array([0.25, 1.25, 1.75, 2.6, 3.0]))
    np.testing.assert_allclose(out.data[0], 0.75 * clip.data[0] + 0.25 * clip.data[1], atol=1e-6)
    hand = clip.layout.columns(RIGHT_HAND)
    assert out.present[:, hand].all(axis=1).tolist() == [True, True, False, True, True]
    np.testing.assert_allclose(out.data[1, hand], clip.data[1, hand], atol=1e-5)
    np.testing.assert_allclose(out.data[3, hand], clip.data[3, hand], atol=1e-5)
    np.testing.assert_allclose(out.data[4], clip.data[3])
    assert_masked(out)
    assert resample(clip, moments(4)) is clip

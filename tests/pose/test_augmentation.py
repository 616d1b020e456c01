"""The published augmentations, against pose-format's own."""

import numpy as np
import pytest

from mmpt.config.dataset_options import PoseAugmentations
from mmpt.pose.augmentation import (
    Augmenter,
    augment2d,
    augment2d_matrix,
    augment_temporal,
    flip,
    interpolate,
)
from mmpt.pose.mirror import mirror
from tests.pose.pose_fakes import as_pose, assert_masked, fake_clip


class Draws:
    """A stand-in for the two kinds of generator: gives the same numbers to pose-format and to us."""

    def __init__(self, *values):
        self.values = list(values)

    def normal(self, loc=0.0, scale=1.0, size=None):
        value = loc + scale * self.values.pop(0)
        return value if size is None else np.array([value])


@pytest.mark.parametrize("draws", [(0.3, -0.7, 1.1), (-2.0, 1.5, -0.4), (0.0, 0.0, 0.0)])
def test_augment2d_equals_pose_format(monkeypatch, draws):
    clip = fake_clip()
    with monkeypatch.context() as patched:
        patched.setattr(np.random, "normal", Draws(*draws).normal)
        theirs = as_pose(clip).augment2d().body.data.filled(0)[:, 0]
    ours = augment2d(clip, Draws(*draws))
    np.testing.assert_allclose(ours.data, theirs, atol=1e-6)
    assert_masked(ours)


def test_augment2d_is_distributed_as_published():
    rng = np.random.default_rng(0)
    matrices = np.stack([augment2d_matrix(rng) for _ in range(4000)])
    np.testing.assert_array_equal(matrices[:, 2], np.tile([0, 0, 1], (4000, 1)))
    determinants = np.linalg.det(matrices[:, :2, :2])  # shear and rotation keep areas
    assert determinants.mean() == pytest.approx(1, abs=0.02)
    assert determinants.std() == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("fps", [11, 25, 40])
def test_interpolation_equals_pose_format(seed, fps):
    clip = fake_clip(frames=9, seed=seed, missing=0.45)
    theirs = as_pose(clip).interpolate(fps, kind="linear").body
    ours = interpolate(clip, fps)
    assert ours.fps == theirs.fps == fps
    np.testing.assert_allclose(ours.data, theirs.data.filled(0)[:, 0], atol=1e-5)
    np.testing.assert_allclose(ours.confidence, theirs.confidence[:, 0], atol=1e-5)
    assert_masked(ours)


def test_interpolation_of_a_real_clip_closes_gaps_only_inside(data_dir):
    clip = fake_clip(frames=5, missing=0)
    clip.confidence[[0, 2], 40:61] = 0
    clip.data[[0, 2], 40:61] = 0
    out = interpolate(clip, 50)
    there = (out.confidence[:, 45] != 0).tolist()
    assert there == [False] * 3 + [True] * 7
    assert (out.confidence[:, 0] != 0).all()


@pytest.mark.parametrize(
    ("frames", "fps", "seen", "there"), [(16, 10, 9, 3), (26, 20, 15, 12), (28, 30, 9, 11)]
)
def test_interpolation_keeps_a_point_of_one_frame_at_its_time(frames, fps, seen, there):
    """Frame 9 of 0 ... 15 is at the time of frame 3 of 0 ... 5."""
    clip = fake_clip(frames=frames, missing=0)
    others = np.arange(frames) != seen
    clip.confidence[others, 3], clip.data[others, 3] = 0, 0
    out = interpolate(clip, fps)
    assert np.flatnonzero(out.confidence[:, 3]).tolist() == [there]
    np.testing.assert_array_equal(out.data[there, 3], clip.data[seen, 3])


def test_interpolation_keeps_at_least_one_frame():
    assert len(interpolate(fake_clip(frames=3), 1)) == 1


def test_temporal_follows_the_ratio_and_the_limit():
    clip = fake_clip(frames=10)
    assert len(augment_temporal(clip, Draws(1.0), 256)) == 12  # ratio 1.2: 30 fps
    assert augment_temporal(clip, Draws(1.0), 12) is clip  # it would reach the limit
    assert len(augment_temporal(clip, Draws(1.0), 13)) == 12
    clip = fake_clip(frames=201)
    for ratio in (1.26, 1.261, 1.27):  # 31.5, 31.525 and 31.75 fps become 32: 257 frames
        assert augment_temporal(clip, Draws((ratio - 1) / 0.2), 256) is clip
    clip, single = fake_clip(frames=10), fake_clip(frames=1)
    assert augment_temporal(single, Draws(1.0), 256) is single
    assert len(augment_temporal(clip, Draws(-9.0), 256)) == 1  # a ratio below 0


def gaussian_noise(clip, rng):
    options = PoseAugmentations(gaussian_noise=True)
    return Augmenter(options, flip_chance=0, max_video_len=256)(clip, rng, options.augment3d)


def test_gaussian_noise_is_small_and_keeps_the_mask():
    clip = fake_clip(frames=60)
    out = gaussian_noise(clip, np.random.default_rng(0))
    assert_masked(out)
    assert (out.data - clip.data)[clip.present].std() == pytest.approx(0.001, rel=0.05)


def test_flip_probability():
    clip = fake_clip()
    rng = np.random.default_rng(0)
    flipped = sum(flip(clip, rng, 0.3) is not clip for _ in range(1000))
    assert 250 < flipped < 350
    np.testing.assert_array_equal(flip(clip, rng, 1.0).data, mirror(clip).data)


@pytest.mark.parametrize(
    "step", [augment2d, gaussian_noise, lambda c, r: augment_temporal(c, r, 99), lambda c, r: flip(c, r, 0.5)]
)
def test_augmentation_is_deterministic_and_does_not_change_its_input(step):
    clip = fake_clip()
    before = clip.data.copy()
    one, same = (step(clip, np.random.default_rng(5)) for _ in range(2))
    others = [step(clip, np.random.default_rng(seed)) for seed in range(6)]
    np.testing.assert_array_equal(one.data, same.data)
    assert any(len(o) != len(one) or not np.array_equal(o.data, one.data) for o in others)
    np.testing.assert_array_equal(clip.data, before)

"""pose_layout: canonical, the points that all estimators have, in 2-D."""

import dataclasses

import numpy as np
import pytest

from mmpt.config.dataset_options import PoseAugmentation, PoseOptions
from mmpt.pose.components import CANONICAL_POINTS, FACE, LEFT_HAND, POSE, RIGHT_HAND
from mmpt.pose.estimators import ESTIMATORS
from mmpt.pose.hands import palm_axes_2d, palm_frame, palm_shape
from mmpt.pose.reader import from_pose
from mmpt.processors.pose_video import PoseProcessor
from mmpt.utils.errors import UserError
from scripts.relabel_lexicon import relabelled
from tests.pose.pose_fakes import fake_clip, layout

WITH_FACE = [name for name in ESTIMATORS if name not in ("sapiens_308", "openpose_135")]
"""Those with all canonical points; OpenPose 135 has one wrist for a hand and the body."""


def canonical(training: bool = False, **options) -> PoseProcessor:
    return PoseProcessor(PoseOptions(pose_layout="canonical", **options), training=training)


def features(processor: PoseProcessor, clip, mirror: bool = False) -> np.ndarray:
    return processor.features(processor.prepare.clip(clip, mirror))


SETTINGS = [
    {},
    {"pose_components": [RIGHT_HAND]},
    {"pose_components": [RIGHT_HAND], "hand_frame": "palm"},
    {"pose_components": [POSE, LEFT_HAND, RIGHT_HAND], "hand_frame": "palm_shape", "presence": True},
    {"pose_components": [FACE, RIGHT_HAND], "velocity": True, "clip_frames": 5},
    {"pose_components": [LEFT_HAND], "flip_pose": "right"},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", WITH_FACE)
def test_features_do_not_depend_on_the_estimator(settings, name):
    """z scales nothing and is in no feature: a clip in 3-D gives what its points in 2-D give."""
    clip, processor = fake_clip(n_face=478), canonical(**settings)
    other = from_pose(relabelled(clip, name, 400))
    assert clip.depth and not other.depth
    for mirror in (False, True):
        found = features(processor, clip, mirror)
        np.testing.assert_allclose(features(processor, other, mirror), found, atol=1e-5)
        assert found.shape[1] == processor.feature_dim and np.isfinite(found).all() and found.any()


def test_coordinates_by_hand():
    clip = fake_clip(n_face=468, missing=0)
    found = features(canonical(), clip)
    left, right = (clip.data[:, clip.index(POSE, f"{side}_SHOULDER"), :2] for side in ("LEFT", "RIGHT"))
    scale = 1 / np.linalg.norm(left - right, axis=1).mean()
    centre = ((left + right) / 2).mean(axis=0)
    columns = [clip.index(part, point) for part in CANONICAL_POINTS for point in CANONICAL_POINTS[part]]
    expected = (clip.data[:, columns, :2] - centre) * scale
    np.testing.assert_allclose(found, expected.reshape(len(clip), -1), atol=1e-5)
    assert found.shape[1] == 2 * (13 + 59 + 21 + 21) == canonical().feature_dim


def test_palm_in_the_image_plane_by_hand():
    rng = np.random.default_rng(0)
    hand, present = rng.normal(size=(5, 21, 2)), np.ones((5, 21), dtype=bool)
    found = palm_frame(hand, present)
    for t, points in enumerate(hand):
        up = points[9] - points[0]
        length = max(np.linalg.norm(up), np.linalg.norm(points[5] - points[17]))
        up = up / np.linalg.norm(up)
        across = np.array([up[1], -up[0]])
        moved = points - points[0]
        expected = np.stack([moved @ across, moved @ up], axis=1) / length
        np.testing.assert_allclose(found[t], [*expected.ravel(), *up], atol=1e-5)
    shape = palm_shape(hand, present)
    np.testing.assert_array_equal(shape[:, :44], found)
    tips = hand[:, [4, 8]]
    _, length = palm_axes_2d(hand)
    apart = np.linalg.norm(tips[:, 0] - tips[:, 1], axis=1)
    np.testing.assert_allclose(shape[:, 44], apart / length, rtol=1e-5)
    np.testing.assert_allclose(
        shape[:, 85:], ((hand - hand[:, :1]) / length[:, None, None]).reshape(5, -1), atol=1e-5
    )


@pytest.mark.parametrize("angle", [0.3, 2.0, 4.5])
def test_palm_is_invariant_to_rotation_in_the_image_translation_and_scale(angle):
    hand, present = np.random.default_rng(1).normal(size=(5, 21, 2)), np.ones((5, 21), dtype=bool)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    one, other = palm_shape(hand, present), palm_shape(7 * hand @ turn.T - 3, present)
    invariant = [*range(42), *range(44, 85)]
    np.testing.assert_allclose(other[:, invariant], one[:, invariant], atol=1e-4)
    np.testing.assert_allclose(other[:, 42:44], one[:, 42:44] @ turn.T, atol=1e-5)


def test_palm_of_missing_and_degenerate_hands_is_zero_and_bounded():
    hand, present = np.random.default_rng(1).normal(size=(5, 21, 2)), np.ones((5, 21), dtype=bool)
    present[0], present[1, 17], present[2, 8] = False, False, False
    hand[3, 9] = hand[3, 0]  # points at the camera
    hand[4] = 5
    for made in (palm_frame, palm_shape):
        found = made(hand, present)
        assert not found[[0, 1, 3, 4]].any() and np.isfinite(found).all()
        assert not found[2, 16:18].any() and found[2, :16].any()
    hand[3, 9] = hand[3, 0] + 0.05 * np.linalg.norm(hand[3, 17] - hand[3, 5])  # nearly
    reach = np.linalg.norm(hand[3] - hand[3, 0], axis=1).max() / np.linalg.norm(hand[3, 17] - hand[3, 5])
    assert 0 < np.abs(palm_frame(hand, present)[3]).max() <= max(reach, 1) + 1e-5


def test_augment3d_rotates_a_clip_by_its_depth_before_z_is_dropped():
    """A turn about y moves x by z: the clip in 3-D changes in other ways than its picture can."""
    clip = fake_clip(missing=0)
    processor = canonical(True, pose_components=[RIGHT_HAND], augment3d=PoseAugmentation(rotation=0.5))
    flat = from_pose(relabelled(clip, "coco_wholebody_133", 400))
    deep, plain = (
        processor.features(processor.prepare.clip(one), np.random.default_rng(0)) for one in (clip, flat)
    )
    assert deep.shape == plain.shape == (12, 42) and np.abs(deep - plain).max() > 0.1
    picture = features(canonical(pose_components=[RIGHT_HAND]), clip).reshape(-1, 2)
    _, residual, *_ = np.linalg.lstsq(picture, plain.reshape(-1, 2), rcond=None)
    assert residual.max() < 1e-6, "without depth, a turn is a linear map of the picture"
    _, residual, *_ = np.linalg.lstsq(picture, deep.reshape(-1, 2), rcond=None)
    assert residual.max() > 1e-2


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_holistic_config_refuses_a_clip_without_depth(name):
    clip = from_pose(relabelled(fake_clip(n_face=468), name, 400))
    with pytest.raises(UserError, match=r"2-D, without the depth.*pose_layout: canonical") as caught:
        PoseProcessor(PoseOptions()).prepare.clip(clip)
    assert "\n" not in str(caught.value)


def test_points_that_are_missing_are_named():
    clip = from_pose(relabelled(fake_clip(), "sapiens_308", 400))
    with pytest.raises(UserError, match="no component FACE_LANDMARKS, which pose_components selects"):
        canonical().prepare.clip(clip)
    assert canonical(pose_components=[POSE, LEFT_HAND]).prepare.clip(clip).data.shape[1] == 34
    reduced = fake_clip(layout=layout(POSE, RIGHT_HAND))
    with pytest.raises(UserError, match="no component LEFT_HAND_LANDMARKS"):
        canonical(pose_components=[LEFT_HAND]).prepare.clip(reduced)
    some = reduced.select(np.arange(20, 54), layout(POSE, RIGHT_HAND).of(reduced.points[20:]))
    with pytest.raises(UserError, match="no shoulders"):
        canonical(pose_components=[RIGHT_HAND]).prepare.clip(some)


def test_holistic_points_that_are_missing_name_the_canonical_layout():
    clip = fake_clip(n_face=468)
    points = [(part, point) for part, names in CANONICAL_POINTS.items() for point in names]
    small = clip.select(np.array([clip.index(*point) for point in points]), clip.layout.of(points))
    assert canonical().prepare.clip(small).data.shape[1] == len(points)
    with pytest.raises(UserError, match="pose_layout: canonical, whose points it has"):
        PoseProcessor(PoseOptions()).prepare.clip(small)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"normalize_hand": True, "pose_components": [RIGHT_HAND]}, "normalize_hand is in 3-D"),
        ({"pose_components": "reduced_face"}, "reduced_face is another face"),
        ({"pose_components": ["POSE_WORLD_LANDMARKS"]}, "POSE_WORLD_LANDMARKS. is in 3-D"),
        ({"face_points": 468}, "face_points is for the whole face"),
    ],
)
def test_options_of_holistic_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        canonical(**options)


def test_the_layout_is_in_the_key_of_the_cache_and_in_the_fingerprint():
    from mmpt.config.compare import embedding_settings
    from mmpt.config.schema import DatasetConfig, ModelConfig

    keys = [PoseProcessor(PoseOptions(pose_layout=each)).prepare.key() for each in ("holistic", "canonical")]
    assert "pose_layout" not in keys[0] and keys[1]["pose_layout"] == "canonical"
    needed = {"meta_processor": "a", "video_processor": "b", "max_video_len": 3, "max_len": 4}
    found = [
        embedding_settings(DatasetConfig(**needed, **given), ModelConfig())
        for given in ({}, {"pose_layout": "holistic"}, {"pose_layout": "canonical"})
    ]
    assert found[0] == found[1] and found[2].pop("pose_layout") == "canonical" and found[2] == found[0]


def test_a_clip_without_image_width_is_read():
    """Only z needs it, which is in no feature."""
    clip = fake_clip(missing=0)
    clip.data[..., 2] *= 1e-3
    unknown = from_pose(relabelled(clip, "coco_wholebody_133", 400))
    processor = canonical(pose_components=[RIGHT_HAND], hand_frame="palm")
    found = features(processor, dataclasses.replace(clip, width=0.0))
    np.testing.assert_allclose(found, features(processor, unknown), atol=1e-5)

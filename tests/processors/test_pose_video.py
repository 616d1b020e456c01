import dataclasses
import json

import numpy as np
import pytest
from pose_format import Pose

from mmpt.config import DatasetConfig
from mmpt.config.dataset_options import PoseAugmentation, PoseOptions
from mmpt.pose.clip import PoseClip
from mmpt.pose.components import LEFT_HAND, POSE, RIGHT_HAND
from mmpt.pose.features import PER_HAND, PerHand
from mmpt.pose.reader import from_pose, read_pose
from mmpt.pose.span import Span
from mmpt.pose.store import StoreRequest
from mmpt.processors.example import VIDEO_PROCESSORS
from mmpt.processors.pose_video import PoseProcessor
from mmpt.utils.errors import UserError
from tests.pose.pose_fakes import fake_clip, layout, write_pose

PUBLISHED = {
    "full": {},
    "right_hand": {"pose_components": [RIGHT_HAND]},
    "reduced_face": {"pose_components": "reduced_face"},
    "right_hand_normalized3d": {"pose_components": [RIGHT_HAND], "normalize_hand": True},
}
AUGMENTED = {
    "augment2d": True,
    "augment_temporal": True,
    "gaussian_noise": True,
    "augment3d": PoseAugmentation(rotation=0.3, time_crop=0.3),
}


def make(training: bool = False, max_video_len: int = 256, **options) -> PoseProcessor:
    return PoseProcessor(PoseOptions(**options), training=training, max_video_len=max_video_len)


def config(**kwargs) -> DatasetConfig:
    needed = {
        "meta_processor": "any",
        "video_processor": "PoseProcessor",
        "max_video_len": 256,
        "max_len": 32,
    }
    return DatasetConfig(**(needed | kwargs))


@pytest.fixture(scope="module")
def pose(data_dir):
    return data_dir / "pose" / "4_17_1_cam2.pose"


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_features(data_dir, pose, name):
    features = make(**PUBLISHED[name])(pose)
    assert features.dtype == np.float32
    with np.load(data_dir / "pose" / "4_17_1_cam2_features.npz", allow_pickle=False) as reference:
        tolerance = 2e-3 if "3d" in name else 1e-5
        np.testing.assert_allclose(features, reference[name], atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", ["PoseProcessor", "RWTHFSPoseProcessor", "SignCLIPPoseProcessor"])
def test_published_names(name):
    assert VIDEO_PROCESSORS.get(name) is PoseProcessor


@pytest.mark.parametrize(
    "settings",
    [
        *PUBLISHED.values(),
        {"face_points": 478},
        {"pose_components": [RIGHT_HAND], "hand_frame": "palm"},
        {"pose_components": [POSE, RIGHT_HAND, LEFT_HAND], "hand_frame": "palm"},
        {"pose_components": [LEFT_HAND, RIGHT_HAND], "velocity": True, "presence": True},
        {"pose_components": [RIGHT_HAND], "hand_frame": "palm", "velocity": True, "presence": True},
    ],
)
def test_features_have_feature_dim(pose, settings):
    processor = make(**({"face_points": 468} | settings))
    assert processor(pose).shape == (23, processor.feature_dim)


def test_feature_dim():
    assert make().feature_dim == 1629
    assert make(pose_components=[RIGHT_HAND], hand_frame="palm").feature_dim == 69
    both = make(pose_components=[LEFT_HAND, RIGHT_HAND], hand_frame="palm", velocity=True, presence=True)
    assert both.feature_dim == 2 * 138 + 2


def test_vfeat_dim_decides_between_468_and_478_face_points(pose):
    for width in (1629, 1659):
        assert PoseProcessor.from_config(config(), False, width)(pose).shape[1] == width
    assert PoseProcessor.from_config(config(), False)(pose).shape[1] == 1659
    assert PoseProcessor.from_config(config(pose_components="reduced_face"), False, 609)(pose).shape[1] == 609


def test_features_of_a_missing_hand_are_zero(pose):
    clip = read_pose(pose)
    gone = ~clip.component(RIGHT_HAND)[1].any(axis=1)
    assert gone.sum() == 1
    for settings in (
        {},
        {"normalize_hand": True},
        {"hand_frame": "palm"},
        {"velocity": True, "presence": True},
    ):
        processor = make(pose_components=[RIGHT_HAND], training=True, **AUGMENTED, **settings)
        plain = processor(pose)
        assert not plain[gone].any() and plain[~gone].any(axis=1).all()
        for seed in range(4):
            assert np.isfinite(processor(pose, np.random.default_rng(seed))).all()


def test_presence_and_velocity(pose):
    plain = make(pose_components=[RIGHT_HAND])(pose)
    out = make(pose_components=[RIGHT_HAND], velocity=True, presence=True)(pose)
    here = plain.any(axis=1)
    np.testing.assert_array_equal(out[:, :63], plain)
    np.testing.assert_array_equal(out[:, 126], here)
    moving = here[1:] & here[:-1]
    np.testing.assert_allclose(out[1:, 63:126][moving], np.diff(plain, axis=0)[moving], atol=1e-6)
    assert not out[0, 63:126].any() and not out[1:, 63:126][~moving].any()


def tips_and_nose(clip: PoseClip, hand: str) -> np.ndarray:
    nose = clip.data[:, clip.index(POSE, "NOSE"), :1]
    return np.concatenate([clip.data[:, clip.index(hand, "THUMB_TIP"), :1], nose], axis=1)


def test_several_numbers_for_each_hand_follow_velocity(monkeypatch):
    monkeypatch.setitem(PER_HAND, "presence", PerHand(tips_and_nose, size=2, points=((POSE, "NOSE"),)))
    components = [POSE, LEFT_HAND, RIGHT_HAND]
    processor = make(pose_components=components, velocity=True, presence=True)
    clip = processor.prepare.clip(fake_clip())
    out = processor.features(clip)
    assert out.shape[1] == processor.feature_dim == 2 * 225 + 4
    expected = np.concatenate([tips_and_nose(clip, hand) for hand in (LEFT_HAND, RIGHT_HAND)], axis=1)
    np.testing.assert_array_equal(out[:, -4:], expected)
    coordinates = np.zeros_like(out)
    coordinates[0, 99] = 1  # the first of the left hand, behind the body
    assert not processor.blank(coordinates)
    coordinates[0, 98:100] = 1, 0
    assert processor.blank(coordinates)


@pytest.mark.parametrize(
    ("part", "point", "settings"),
    [
        (POSE, "NOSE", {"pose_components": [RIGHT_HAND]}),
        (POSE, "MOUTH_LEFT", {"pose_layout": "canonical"}),
        (POSE, "MOUTH_LEFT", {"pose_layout": "canonical", "pose_components": [POSE, RIGHT_HAND]}),
    ],
)
def test_numbers_for_each_hand_need_their_landmarks(part, point, settings, monkeypatch):
    monkeypatch.setitem(PER_HAND, "presence", PerHand(tips_and_nose, points=((part, point),)))
    with pytest.raises(UserError, match=f"presence: True needs {part} {point}, which pose_components"):
        make(presence=True, **settings)
    make(**settings)
    make(presence=True)


def test_velocity_does_not_depend_on_frame_rate_or_sampling():
    """One second of a hand that crosses the picture, filmed at 25 and at 100 frames a second."""
    found = []
    for fps in (25, 100):
        clip = dataclasses.replace(fake_clip(frames=fps + 1, missing=0), fps=float(fps))
        clip.data[:] = clip.data[:1]
        clip.data[:, clip.component_slice(RIGHT_HAND), 0] += np.linspace(0, 10, fps + 1)[:, None]
        for settings in ({}, {"clip_frames": 11}, {"clip_frames": 6, "clip_window": [0.25, 0.75]}):
            processor = make(pose_components=[RIGHT_HAND], velocity=True, **settings)
            velocity = processor.features(processor.prepare.clip(clip))[1:, 63::3]
            np.testing.assert_allclose(velocity, velocity[0, 0], rtol=1e-3)
            (batched, _) = processor.features_of([processor.prepare.clip(clip)] * 2)
            np.testing.assert_array_equal(batched[1:, 63::3], velocity)
            found.append(float(velocity[0, 0]))
    assert found[0] > 0
    np.testing.assert_allclose(found, found[0], rtol=1e-3)


@pytest.mark.parametrize(
    "share, settings",
    [
        (None, {"augment_temporal": True, "augment_temporal_chance": None}),
        (0.0, {"augment_temporal": True, "augment_temporal_chance": 0.0}),
        (0.3, {"augment_temporal": True, "augment_temporal_chance": 0.3}),
        (0.0, {"augment3d": {"probability": 0.0, "window_jitter": 0.2}, "clip_frames": 5}),
        (0.3, {"augment3d": {"probability": 0.3, "window_jitter": 0.2}, "clip_frames": 5}),
        (0.3, {"augment3d": {"probability": 0.3, "window_jitter": 0.2, "rotation": 0.5}, "clip_frames": 5}),
        (1.0, {"augment3d": {"window_jitter": 0.2}, "clip_frames": 5}),
    ],
)
def test_fraction_of_augmented_clips(pose, share, settings):
    """None: all; some stay as they are by chance."""
    if "augment3d" in settings:
        settings = settings | {"augment3d": PoseAugmentation(**settings["augment3d"]), "scale_depth": True}
    processor = make(pose_components=[RIGHT_HAND], training=True, **settings)
    clip = processor.prepare(pose)
    plain = processor.features(clip)
    changed = 0
    for seed in range(200):
        out = processor.features(clip, np.random.default_rng(seed))
        changed += out.shape != plain.shape or not np.array_equal(out, plain)
    if share is None:
        assert changed > 150
    else:
        assert abs(changed / 200 - share) <= (0.1 if 0 < share < 1 else 0)


def test_augmentation_only_in_training_with_a_generator(pose):
    plain = make(pose_components=[RIGHT_HAND])(pose)
    for training in (True, False):
        processor = make(pose_components=[RIGHT_HAND], training=training, **AUGMENTED)
        np.testing.assert_array_equal(processor(pose), plain)
        augmented = processor(pose, np.random.default_rng(0))
        assert np.array_equal(augmented, plain) is not training
        np.testing.assert_array_equal(augmented, processor(pose, np.random.default_rng(0)))
        assert augmented.dtype == np.float32


@pytest.mark.parametrize(
    "settings", [{"augment2d": True}, {"gaussian_noise": True}, {"augment_temporal": True}]
)
def test_each_published_augmentation_does_something(pose, settings):
    processor = make(pose_components=[RIGHT_HAND], training=True, **settings)
    clip = processor.prepare(pose)
    before = clip.data.copy()
    outs = [processor.features(clip, np.random.default_rng(seed)) for seed in range(5)]
    assert any(len(o) != len(clip) or not np.array_equal(o, before.reshape(len(clip), -1)) for o in outs)
    np.testing.assert_array_equal(clip.data, before)


def test_augment_temporal_chance(pose):
    processor = make(
        pose_components=[RIGHT_HAND], training=True, augment_temporal=True, augment_temporal_chance=0.2
    )
    clip, rng = processor.prepare(pose), np.random.default_rng(0)
    changed = sum(processor.augmenter(clip, rng, PoseAugmentation()) is not clip for _ in range(500))
    assert 70 < changed < 130


def test_a_left_handed_signer_is_mirrored(pose):
    processor = make(pose_components=[RIGHT_HAND])
    mirrored = processor(pose, mirror=True)
    np.testing.assert_allclose(
        mirrored.reshape(-1, 21, 3),
        make(pose_components=[LEFT_HAND])(pose).reshape(-1, 21, 3) * [-1, 1, 1],
        atol=1e-6,
    )


def test_flip_pose_right_mirrors_only_an_idle_right_hand(pose):
    clip = read_pose(pose)
    processor = make(pose_components=[RIGHT_HAND], flip_pose="right")
    np.testing.assert_array_equal(
        processor.prepare.clip(clip).data, make(pose_components=[RIGHT_HAND])(pose).reshape(-1, 21, 3)
    )
    gone = clip.confidence.copy()
    gone[:, clip.layout.columns(RIGHT_HAND)] = 0
    left = clip.with_data(clip.data * (gone[..., None] > 0), gone)
    out = processor.prepare.clip(left)
    np.testing.assert_allclose(
        out.data, make(pose_components=[LEFT_HAND]).prepare.clip(left).data * [-1, 1, 1]
    )
    assert out.data.any()


def test_flip_pose_probability_in_training(pose):
    processor = make(pose_components=[LEFT_HAND, RIGHT_HAND], training=True, flip_pose=0.5)
    clip, rng = processor.prepare(pose), np.random.default_rng(0)
    assert 60 < sum(processor.augmenter(clip, rng, PoseAugmentation()) is not clip for _ in range(200)) < 140


def test_prepare_a_pose_in_memory(pose):
    processor = make(pose_components=[RIGHT_HAND])
    clip = processor.prepare.clip(from_pose(Pose.read(pose.read_bytes())))
    np.testing.assert_array_equal(processor.features(clip), processor(pose))


def test_prepare_key_is_pinned(tmp_path):
    """A change here makes users rebuild their caches."""
    processor = make(pose_components=[RIGHT_HAND], hand_frame="palm", flip_pose="right")
    assert json.dumps(processor.prepare.key(), sort_keys=True) == (
        '{"face_points": null, "flip_to_right": true, "normalize_hand": false, '
        '"pose_components": ["RIGHT_HAND_LANDMARKS"], "processor": "PoseProcessor", "scale_depth": true, '
        '"version": 1}'
    )
    spans, mirrored = [None, Span(0, 5, "frames")], [False, True]
    request = StoreRequest(
        ["/a", "/b"], processor.prepare.key(), processor.prepare, tmp_path, mirrored, spans
    )
    assert request.target.name == "61b27c4782f8112ae9beead617142df1.poses"


def test_prepare_key_depends_on_the_preparation_only():
    base = make()
    for same in ({"augment2d": True}, {"training": True}, {"velocity": True}, {"max_video_len": 3}):
        assert make(**same).prepare.key() == base.prepare.key()
    others = [
        {"pose_components": [RIGHT_HAND]},
        {"pose_components": [RIGHT_HAND], "normalize_hand": True},
        {"pose_components": [RIGHT_HAND], "hand_frame": "palm"},
        {"scale_depth": True},
        {"face_points": 468},
        {"flip_pose": "right"},
    ]
    keys = {json.dumps(make(**other).prepare.key(), sort_keys=True) for other in [{}, *others]}
    assert len(keys) == 7


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"flip_pose": "left"}, "flip_pose: got 'left'"),
        ({"flip_pose": 1.5}, "from 0 to 1"),
        ({"flip_pose": 0.5, "pose_components": [RIGHT_HAND]}, "both hands"),
        ({"hand_frame": "wrist"}, "expected null or one of palm"),
        ({"hand_frame": "palm", "pose_components": [POSE]}, "hand_frame: 'palm' needs a hand"),
        ({"presence": True, "pose_components": [POSE]}, "presence: True needs a hand"),
        ({"hand_frame": "palm", "normalize_hand": True, "pose_components": [RIGHT_HAND]}, "keep one"),
        ({"face_points": 470}, "468 or 478"),
        ({"max_video_len": 0}, "max_video_len"),
        ({"pose_components": ["RIGHT_HAND"]}, "RIGHT_HAND_LANDMARKS"),
    ],
)
def test_contradicting_options_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        make(**settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"anonym_pose": True}, "pose-anonymization"), ({"preprocess": "sign-vq"}, "sign-vq")],
)
def test_unsupported_options_name_the_package(settings, said):
    with pytest.raises(UserError, match=said):
        PoseProcessor.from_config(config(**settings), False)


def test_normalize_hand_without_effect_warns(pose, caplog):
    processor = make(normalize_hand=True, pose_components=[LEFT_HAND])
    assert "no effect" in caplog.text
    np.testing.assert_array_equal(processor(pose), make(pose_components=[LEFT_HAND])(pose))


def test_rotation_without_scale_depth_warns(caplog):
    turn = PoseAugmentation(rotation=0.3)
    make(training=True, augment3d=turn, scale_depth=True)
    make(training=False, augment3d=turn)
    assert not caplog.text
    make(training=True, augment3d=turn)
    assert "scale_depth" in caplog.text


def test_an_unusable_pose_names_its_file(tmp_path, pose):
    path = tmp_path / "hands only.pose"
    with open(path, "wb") as file:
        Pose.read(pose.read_bytes()).get_components([RIGHT_HAND]).write(file)
    with pytest.raises(UserError, match=r"hands only\.pose: there are no shoulders"):
        make(pose_components=[RIGHT_HAND]).prepare(path)


def test_options_come_from_the_config():
    given = {
        "pose_components": [LEFT_HAND, RIGHT_HAND],
        "hand_frame": "palm",
        "velocity": True,
        "presence": True,
        "flip_pose": 0.2,
        "augment2d": True,
        "augment_temporal": True,
        "augment_temporal_chance": 0.3,
        "gaussian_noise": True,
        "augment3d": PoseAugmentation(rotation=0.1),
        "max_video_len": 77,
    }
    processor = PoseProcessor.from_config(config(**given), True, 278)
    assert processor.training and processor.augmenter.flip_chance == 0.2 and processor.prepare.scale_depth
    assert processor.augmenter.max_video_len == 77
    for name in set(given) - {"max_video_len"}:
        assert getattr(processor.options, name) == given[name]


def test_clip_window_with_clip_frames(pose):
    whole = make(pose_components=[RIGHT_HAND])
    windowed = make(pose_components=[RIGHT_HAND], clip_window=[0.25, 0.75], clip_frames=5)
    clip = whole.prepare(pose)
    frames = whole.features(clip)
    moments = np.linspace(0.25, 0.75, 5) * (len(clip) - 1)
    low = moments.astype(int)
    weight = (moments - low)[:, None]
    expected = frames[low] * (1 - weight) + frames[low + 1] * weight
    np.testing.assert_allclose(windowed.features(windowed.prepare(pose)), expected, atol=1e-5)
    assert windowed.feature_lengths(np.array([len(clip), 3])).tolist() == [5, 5]


def test_clip_window_alone_keeps_the_frame_rate(pose):
    windowed = make(pose_components=[RIGHT_HAND], clip_window=[0.25, 0.75])
    clip = windowed.prepare(pose)
    assert (
        len(windowed.features(clip))
        == windowed.feature_lengths(np.array([len(clip)]))[0]
        == round((len(clip) - 1) / 2) + 1
    )


def test_window_jitter_is_for_training_only(pose):
    options = {"pose_components": [RIGHT_HAND], "clip_window": [0.25, 0.75], "clip_frames": 6}
    jittered = make(**options, training=True, augment3d=PoseAugmentation(window_jitter=0.2))
    plain = make(**options)
    clip = plain.prepare(pose)
    draws = [jittered.features(clip, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert (draws[0] == draws[1]).all() and (draws[0] != draws[2]).any()
    assert all(draw.shape == (6, 63) for draw in draws)
    np.testing.assert_array_equal(jittered.features(clip), plain.features(clip))


@pytest.mark.parametrize("window", [[0.5, 0.5], [0.75, 0.25], [-0.1, 0.5], [0.5], [0.2, 0.5, 0.8]])
def test_invalid_clip_windows_are_refused(window):
    with pytest.raises(UserError, match="clip_window"):
        make(pose_components=[RIGHT_HAND], clip_window=window)


@pytest.mark.parametrize(
    "settings",
    [
        {"hand_frame": "palm_shape", "pose_components": [RIGHT_HAND], "clip_frames": 5, "presence": True},
        {"hand_frame": "palm", "pose_components": [POSE, LEFT_HAND, RIGHT_HAND], "clip_window": [0.25, 0.75]},
        {"hand_frame": "palm", "pose_components": [RIGHT_HAND], "velocity": True},
        {"pose_components": [RIGHT_HAND]},
    ],
)
def test_features_of_equals_features(settings):
    processor = make(**settings)
    clips = [processor.prepare.clip(fake_clip(frames=frames, seed=frames)) for frames in (1, 9, 30, 4)]
    together = processor.features_of(clips)
    assert len(together) == len(clips) and processor.features_of([]) == []
    for clip, features in zip(clips, together):
        np.testing.assert_array_equal(features, processor.features(clip))
    training = make(**settings, augment3d=PoseAugmentation(rotation=0.4, joint_noise=0.1), training=True)
    rngs = [[np.random.default_rng(seed) for seed in range(len(clips))] for _ in range(2)]
    for clip, rng, features in zip(clips, rngs[0], training.features_of(clips, rngs[1])):
        np.testing.assert_array_equal(features, training.features(clip, rng))


@pytest.mark.parametrize("frames", [4, 6, 12, 22, 101])
@pytest.mark.parametrize("moments", [None, 10])
def test_velocity_does_not_depend_on_the_clip_window(frames, moments):
    """A hand that moves by one a frame at 25 fps has a velocity of one, however long the clip is."""
    names = layout(RIGHT_HAND)
    data = np.broadcast_to(np.arange(1, frames + 1, dtype=np.float32)[:, None, None], (frames, 21, 3))
    clip = PoseClip(np.ascontiguousarray(data), np.ones((frames, 21), np.float32), 25.0, names)
    options = {"clip_window": [0.25, 0.75], "clip_frames": moments}
    features = make(pose_components=[RIGHT_HAND], velocity=True, **options).features(clip)
    np.testing.assert_allclose(features[1:, 63:], 1, rtol=1e-5)


def test_window_jitter_never_runs_backwards():
    names = layout(RIGHT_HAND)
    data = np.broadcast_to(np.arange(1, 41, dtype=np.float32)[:, None, None], (40, 21, 3))
    clip = PoseClip(np.ascontiguousarray(data), np.ones((40, 21), np.float32), 25.0, names)
    options = {"clip_window": [0.4, 0.6], "augment3d": PoseAugmentation(window_jitter=0.5), "training": True}
    processor = make(pose_components=[RIGHT_HAND], clip_frames=2, **options)
    drawn = [processor.features(clip, np.random.default_rng(seed))[:, 0] for seed in range(100)]
    assert all(last >= first for first, last in drawn)


@pytest.mark.parametrize("options", [{"velocity": True}, {"presence": True}, {"hand_frame": "palm"}, {}])
def test_vfeat_dim_decides_face_points_with_other_features(options):
    for points in (468, 478):
        width = make(face_points=points, **options).feature_dim
        made = PoseProcessor.from_config(config(**options), training=False, vfeat_dim=width)
        assert made.prepare.face_points == points and made.feature_dim == width


def test_window_jitter_without_effect_warns(caplog):
    make(augment3d=PoseAugmentation(window_jitter=0.1))
    assert "window_jitter has no effect" in caplog.text


def test_augment_temporal_chance_without_effect_warns(caplog):
    make(augment_temporal=True, augment_temporal_chance=0.3)
    assert "no effect" not in caplog.text
    make(augment_temporal_chance=0.3)
    assert "augment_temporal_chance has no effect" in caplog.text


@pytest.mark.parametrize("hidden", [[], [RIGHT_HAND], [LEFT_HAND, RIGHT_HAND], [POSE]])
@pytest.mark.parametrize("scale_depth", [False, True])
@pytest.mark.parametrize(
    "settings",
    [{}, {"pose_components": [RIGHT_HAND]}, {"pose_components": [RIGHT_HAND], "flip_pose": "right"}],
)
def test_a_file_is_prepared_as_the_whole_clip_in_memory(tmp_path, hidden, scale_depth, settings):
    """Also where components that are not selected matter, and with the same error."""
    clip = fake_clip(seed=4)
    seen = clip.confidence.copy()
    for name in hidden:
        seen[:, clip.layout.columns(name)] = 0
    path = write_pose(tmp_path / "a.pose", clip.with_data(clip.data * (seen[..., None] > 0), seen))
    prepare = make(scale_depth=scale_depth, **settings).prepare
    for mirror in (False, True):
        try:
            expected = prepare.clip(read_pose(path), mirror)
        except UserError as error:
            with pytest.raises(UserError) as caught:
                prepare(path, mirror)
            assert str(caught.value) == f"{path}: {error}"
            continue
        found = prepare(path, mirror)
        assert found.points == expected.points
        np.testing.assert_array_equal(found.data, expected.data)
        np.testing.assert_array_equal(found.confidence, expected.confidence)

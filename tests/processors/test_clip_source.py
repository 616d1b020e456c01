"""Opening the clips of a split: unreadable ones stop it or are skipped, before training."""

import numpy as np
import pytest

from mmpt.config.dataset_options import ClipStorage, PoseOptions
from mmpt.pose.components import LEFT_HAND, POSE, RIGHT_HAND
from mmpt.processors.example import Example
from mmpt.processors.npy_video import VideoProcessor
from mmpt.processors.pose_video import PoseProcessor
from mmpt.utils.errors import UserError
from tests.pose.pose_fakes import fake_clip, without, write_pose

SKIP = ClipStorage(on_bad_example="skip")


@pytest.fixture
def examples(tmp_path):
    made = []
    for number in range(8):
        features = np.full((5, 16), number, np.float32)
        if number == 2:
            features[3, 4] = np.nan
        if number == 5:
            features = np.zeros((5, 32), np.float32)
        path = tmp_path / f"{number}.npy"
        np.save(path, features)
        if number == 6:
            path.write_bytes(b"no array")
        made.append(Example(str(number), "a prompt", path))
    return made


def test_open_skips_unreadable_features(examples, caplog):
    clips = VideoProcessor(vfeat_dim=16).open(examples, SKIP)
    assert [example.video_id for example in clips.examples] == ["0", "1", "3", "4", "7"]
    assert clips.lengths().tolist() == [5] * 5
    assert [float(clips.features(n, None)[0, 0]) for n in range(5)] == [0, 1, 3, 4, 7]
    for name, why in (("2.npy", "NaN"), ("5.npy", "feature dimension 32, expected 16"), ("6.npy", "")):
        assert any(name in line and why in line for line in caplog.messages)


def test_open_refuses_a_split_that_is_mostly_unreadable(examples):
    with pytest.raises(UserError, match="7 of 8 clips cannot be read"):
        VideoProcessor(vfeat_dim=32).open(examples, SKIP)


def test_open_names_the_first_clip_of_another_feature_dimension(examples):
    """From the files' headers, before training."""
    good = [examples[n] for n in (0, 1, 3)]
    assert len(VideoProcessor(vfeat_dim=16).open(good, ClipStorage()).examples) == 3
    with pytest.raises(UserError, match=r"5\.npy: feature dimension 32, expected 16"):
        VideoProcessor(vfeat_dim=16).open([*good, examples[5]], ClipStorage())


def test_open_warns_of_clips_without_the_selected_landmarks(tmp_path, caplog):
    paths = [write_pose(tmp_path / f"{n}.pose", fake_clip(frames=6, seed=n, missing=n % 2)) for n in range(4)]
    clips = [Example(f"clip {n}", "a prompt", path) for n, path in enumerate(paths)]
    processor = PoseProcessor(PoseOptions(pose_components=[RIGHT_HAND]))
    storage = ClipStorage(cache_dir=str(tmp_path / "cache"))
    processor.open(clips, storage)
    assert "2 of 4 clips show nothing of RIGHT_HAND_LANDMARKS" in caplog.text
    assert "clip 1, clip 3" in caplog.text
    caplog.clear()
    processor.open(clips[::2], storage)
    assert "show nothing" not in caplog.text


def test_open_warns_of_clips_without_hands_though_a_body_is_there(tmp_path, caplog):
    caplog.set_level("WARNING")  # commands of other tests set it to INFO
    clip = fake_clip(frames=6, missing=0)
    shown = {"both": clip, "left": without(clip, RIGHT_HAND), "none": without(clip, LEFT_HAND, RIGHT_HAND)}
    clips = [Example(name, "a", write_pose(tmp_path / f"{name}.pose", it)) for name, it in shown.items()]
    storage = ClipStorage(cache_dir=str(tmp_path / "cache"))
    PoseProcessor(PoseOptions(pose_components=[POSE, LEFT_HAND, RIGHT_HAND])).open(clips, storage)
    assert "1 of 3 clips show nothing of LEFT_HAND_LANDMARKS or RIGHT_HAND_LANDMARKS" in caplog.text
    assert "signs: none" in caplog.text
    caplog.clear()
    PoseProcessor(PoseOptions(pose_components=[POSE])).open(clips, storage)
    assert not caplog.text

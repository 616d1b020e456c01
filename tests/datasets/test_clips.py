"""Which clips of a split are left out, and that it is known before training."""

import numpy as np
import pytest

from mmpt.datasets.clips import open_clips
from mmpt.pose.components import RIGHT_HAND
from mmpt.processors.example import Example
from mmpt.processors.npy_video import VideoProcessor
from mmpt.processors.pose_video import PoseProcessor
from mmpt.utils.errors import UserError
from tests.pose.pose_fakes import fake_clip, write_pose


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


def test_features_that_cannot_be_used_are_left_out(examples, caplog):
    kept, clips = open_clips(examples, VideoProcessor(), None, "skip", width=16)
    assert [example.video_id for example in kept] == ["0", "1", "3", "4", "7"]
    assert clips.lengths().tolist() == [5] * 5
    assert [float(clips.features(n, None)[0, 0]) for n in range(5)] == [0, 1, 3, 4, 7]
    for name, why in (("2.npy", "NaN"), ("5.npy", "32 numbers a frame, 16 were expected"), ("6.npy", "")):
        assert any(name in line and why in line for line in caplog.messages)


def test_most_clips_must_be_usable(examples):
    with pytest.raises(UserError, match="7 of 8 clips cannot be read"):
        open_clips(examples, VideoProcessor(), None, "skip", width=32)


def test_the_first_clip_of_another_width_is_named(examples):
    """From the files' headers, before anything is trained."""
    good = [examples[n] for n in (0, 1, 3)]
    assert len(open_clips(good, VideoProcessor(), None, "error", width=16)[0]) == 3
    with pytest.raises(UserError, match=r"5\.npy: 32 numbers a frame, 16 were expected"):
        open_clips([*good, examples[5]], VideoProcessor(), None, "error", width=16)


def test_clips_that_show_nothing_of_what_is_read_are_counted(tmp_path, caplog):
    paths = [write_pose(tmp_path / f"{n}.pose", fake_clip(frames=6, seed=n, missing=n % 2)) for n in range(4)]
    clips = [Example(f"clip {n}", "a prompt", path) for n, path in enumerate(paths)]
    processor = PoseProcessor(pose_components=[RIGHT_HAND])
    open_clips(clips, processor, str(tmp_path / "cache"), "error")
    assert "2 of 4 clips show nothing of what the model reads" in caplog.text
    assert "clip 1, clip 3" in caplog.text
    caplog.clear()
    open_clips(clips[::2], processor, str(tmp_path / "cache"), "error")
    assert "show nothing" not in caplog.text

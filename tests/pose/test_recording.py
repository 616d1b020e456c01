"""Parts of a long `.pose` file equal those parts of the whole file."""

import numpy as np
import pytest

from mmpt.pose.clip import PoseClip
from mmpt.pose.reader import read_pose
from mmpt.pose.recording import PoseRecording
from mmpt.utils.errors import UserError
from tests.pose.pose_fakes import as_pose, fake_clip, write_pose


def assert_same(got: PoseClip, expected: PoseClip) -> None:
    assert np.array_equal(got.data, expected.data) and np.array_equal(got.confidence, expected.confidence)
    assert (got.fps, got.width, got.layout, got.depth) == (
        *(expected.fps, expected.width, expected.layout, expected.depth),
    )


@pytest.mark.parametrize("people, person", [(1, "first"), (3, "first"), (3, "largest"), (3, "tracked")])
def test_parts_equal_those_of_the_whole_file(tmp_path, people, person):
    path, pose = tmp_path / "a.pose", as_pose(fake_clip(23), people)
    rng = np.random.default_rng(1)
    pose.body.data = pose.body.data + rng.normal(size=(23, people, 1, 1)).astype(np.float32)
    pose.body.confidence[rng.random((23, people)) < 0.3] = 0
    pose.body.confidence[5, 0, 0] = 1.5  # as interpolation leaves it
    with open(path, "wb") as file:
        pose.write(file)
    whole, recording = read_pose(path, person=person), PoseRecording(path, person)
    assert len(recording) == 23 and recording.fps == 25
    for start, stop in ((0, 23), (0, 1), (22, 23), (4, 11), (11, 17)):
        assert_same(recording.frames(start, stop), whole.frames(slice(start, stop)))


def test_nan_and_other_files_are_refused(tmp_path):
    clip = fake_clip(9)
    clip.data[7, 0, 1] = np.nan
    recording = PoseRecording(write_pose(tmp_path / "nan.pose", clip))
    recording.frames(0, 7)
    with pytest.raises(UserError, match=r"nan.pose, frames 5 to 8: 1 coordinates are NaN, .*frame 2"):
        recording.frames(5, 9)
    content = (tmp_path / "nan.pose").read_bytes()
    for name, wrong in (("cut.pose", content[:-1]), ("no.pose", b"no"), ("empty.pose", b"")):
        (tmp_path / name).write_bytes(wrong)
    for name in ("cut.pose", "no.pose", "empty.pose", "missing.pose", "."):
        with pytest.raises(UserError, match=name):
            PoseRecording(tmp_path / name)
    (tmp_path / "nan.pose").write_bytes(content[:-1000])  # cut while it is read
    with pytest.raises(UserError, match="was changed while it was read"):
        recording.frames(8, 9)

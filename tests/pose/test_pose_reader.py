import logging
import os
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pose_format import Pose
from pose_format.numpy import NumPyPoseBody
from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions

from mmpt.pose import frames as frames_module
from mmpt.pose import reader
from mmpt.pose.clip import PoseClip
from mmpt.pose.components import HOLISTIC, POSE, RIGHT_HAND
from mmpt.pose.normalization import normalize_shoulders, scale_depth
from mmpt.pose.reader import from_pose, read_pose
from mmpt.utils.errors import UserError
from tests.pose.pose_fakes import as_pose, fake_clip, header, write_pose

FUZZ_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))  # more by hand, or by `make fuzz`


@pytest.fixture
def good(tmp_path):
    return write_pose(tmp_path / "good.pose", fake_clip()).read_bytes()


def refused(path, content: bytes | None, said: str):
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        read_pose(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_read_pose_round_trip(tmp_path):
    clip = fake_clip()
    again = read_pose(write_pose(tmp_path / "a name with spaces, ä.pose", clip))
    np.testing.assert_array_equal(again.data, clip.data)
    np.testing.assert_array_equal(again.confidence, clip.confidence)
    assert again.layout is clip.layout and again.fps == 25 and again.width == 500


def test_a_real_file(data_dir):
    path = data_dir / "pose" / "4_17_1_cam2.pose"
    clip = read_pose(path)
    pose = Pose.read(path.read_bytes())
    assert clip.data.shape == (23, 586, 3) and clip.fps == 25
    np.testing.assert_array_equal(clip.data, pose.body.data.filled(0)[:, 0])
    np.testing.assert_array_equal(clip.confidence == 0, pose.body.confidence[:, 0] == 0)


def test_a_pose_in_memory_is_not_changed():
    pose = as_pose(fake_clip())
    before = pose.body.data.copy(), pose.body.confidence.copy()
    clip = from_pose(pose)
    clip.data[:] = 7
    clip.confidence[:] = 7
    np.testing.assert_array_equal(pose.body.data, before[0])
    np.testing.assert_array_equal(pose.body.confidence, before[1])


def test_missing_points_become_zero():
    pose = as_pose(fake_clip(missing=0))
    pose.body.confidence[2, 0, 5] = 0
    pose.body.data.data[2, 0, 5] = np.nan
    pose.body.data.mask[3, 0, 6, 1] = True
    pose.body.confidence[4, 0, 7], pose.body.confidence[4, 0, 8] = -0.2, 1.5  # as interpolation leaves them
    clip = from_pose(pose)
    assert not clip.data[2, 5].any() and clip.confidence[2, 5] == 0
    assert not clip.data[3, 6].any() and clip.confidence[3, 6] == 0
    assert 0 < clip.confidence[4, 7] < 0.01 and clip.confidence[4, 8] == 1 and clip.data[4, 7].all()


def test_of_two_people_the_first_is_read_with_one_warning(tmp_path, caplog):
    frames_module._warned["people"] = 0
    clip = fake_clip()
    path = write_pose(tmp_path / "two.pose", clip, people=2)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            np.testing.assert_array_equal(read_pose(path).data, clip.data)
    assert len(caplog.records) == 1 and "2 people" in caplog.text


def test_not_a_readable_file(tmp_path):
    refused(tmp_path / "none.pose", None, "No such file")
    refused(tmp_path, None, "not a regular file")
    loop = tmp_path / "loop.pose"
    loop.symlink_to(loop)
    refused(loop, None, "cannot be read")
    os.mkfifo(tmp_path / "fifo.pose")
    refused(tmp_path / "fifo.pose", None, "not a regular file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path, good):
    path = tmp_path / "p.pose"
    path.write_bytes(good)
    path.chmod(0)
    refused(path, None, "Permission denied")


def test_a_file_beyond_the_size_limit_is_not_read(tmp_path):
    path = tmp_path / "big.pose"
    with open(path, "wb") as file:
        file.truncate(reader.MAX_BYTES + 1)
    refused(path, None, "bytes")


def test_the_width_is_that_of_the_file(tmp_path):
    """pose-format's focus() changes the header that it shares between files of equal header."""
    path = write_pose(tmp_path / "a.pose", fake_clip())
    Pose.read(path.read_bytes()).focus()
    assert read_pose(path).width == 500


def test_broken_contents(tmp_path, good):
    path = tmp_path / "bad.pose"
    refused(path, b"", "empty")
    refused(path, good[:30], "header")
    refused(path, good[:-1], "truncated")
    refused(path, good[: len(good) // 2], "truncated")
    refused(path, b"\x00" * 64, "components are none")
    refused(path, struct.pack("<f", 0.7) + good[4:], "version 0.7")
    refused(path, struct.pack("<f", float("nan")) + good[4:], "version nan")


def body_at(content: bytes) -> int:
    names = fake_clip().layout
    return len(content) - 12 * len(names) * 16 - 10


@pytest.mark.parametrize("version", [0.0, 0.1])
def test_older_versions_of_the_format(tmp_path, good, version):
    clip, at = fake_clip(), body_at(good)
    content = struct.pack("<f", version) + good[4:at]
    if version:
        content += struct.pack("<HHH", 25, 12, 1) + good[at + 10 :]
    else:
        content += struct.pack("<HH", 25, 12)
        points = np.concatenate([clip.data, clip.confidence[..., None]], axis=2)
        for number, frame in enumerate(points):  # each with its number of people, each of those with an id
            content += struct.pack("<H", 0) if number == 5 else struct.pack("<Hh", 1, 0) + frame.tobytes()
    path = tmp_path / "old.pose"
    path.write_bytes(content)
    read = read_pose(path)
    seen = [i for i in range(12) if version or i != 5]
    np.testing.assert_array_equal(read.data[seen], clip.data[seen])
    assert len(read) == 12 and read.fps == 25
    assert version or not read.present[5].any()


def test_declared_sizes_are_checked_before_memory_is_taken(tmp_path, good):
    path, at = tmp_path / "bomb.pose", body_at(good)
    tracemalloc.start()
    refused(path, good[:at] + struct.pack("<fIH", 25, 2**32 - 1, 65535) + good[at + 10 :], "truncated")
    old = struct.pack("<f", 0) + good[4:at] + struct.pack("<HHH", 25, 65535, 0)
    refused(path, old + b"\0" * 1000, "declares 65535 frames")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_zero_frames_people_and_rates(tmp_path, good):
    path, at = tmp_path / "zero.pose", body_at(good)
    for fps, frames, people, said in [
        (25, 0, 1, "0 frames"),
        (25, 12, 0, "0 people"),
        (0, 12, 1, "frame rate"),
        (float("nan"), 12, 1, "frame rate"),
        (float("inf"), 12, 1, "frame rate"),
    ]:
        refused(path, good[:at] + struct.pack("<fIH", fps, frames, people) + good[at + 10 :], said)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.1e9, -3e38])
def test_numbers_that_are_no_coordinates_are_refused(tmp_path, value):
    clip = fake_clip(missing=0)
    clip.data[3, 4, 1] = value
    refused(write_pose(tmp_path / "nan.pose", clip), None, "1 coordinates are NaN.*frame 3")
    clip = fake_clip(missing=0)
    clip.confidence[3, 4] = value
    refused(write_pose(tmp_path / "conf.pose", clip), None, "confidence")


def test_the_largest_numbers_do_not_overflow(tmp_path):
    clip = fake_clip(missing=0)
    clip.data[:] *= 9e8 / np.abs(clip.data).max()
    large = read_pose(write_pose(tmp_path / "large.pose", clip))
    with np.errstate(over="raise", invalid="raise"):
        assert np.isfinite(normalize_shoulders(scale_depth(large)).data).all()
    clip.confidence[2, 3], clip.data[2, 3] = 0, 3e38  # a missing point may be anything
    assert not read_pose(write_pose(tmp_path / "missing.pose", clip)).data[2, 3].any()


def test_an_unknown_estimator_says_what_is_expected(tmp_path):
    part = PoseHeaderComponent("KINECT", ["Head", "Neck"], [], [], "XYC")
    body = NumPyPoseBody(25, np.ones((3, 1, 2, 2), np.float32), np.ones((3, 1, 2), np.float32))
    path = tmp_path / "kinect.pose"
    with open(path, "wb") as file:
        Pose(PoseHeader(0.2, PoseHeaderDimensions(10, 10), [part]), body).write(file)
    refused(path, None, r"KINECT \(2 points\).*expected a MediaPipe Holistic.*POSE_LANDMARKS.*OpenPose 137")


def test_a_two_dimensional_pose_of_holistic_has_no_depth():
    clip = fake_clip()
    flat = NumPyPoseBody(25, clip.data[:, None, :, :2], clip.confidence[:, None])
    read = from_pose(Pose(header(clip.layout, "XYC"), flat))
    np.testing.assert_array_equal(read.data[..., :2], clip.data[..., :2])
    assert clip.depth and not read.depth and not read.data[..., 2].any() and read.layout is clip.layout


@pytest.mark.parametrize("formats", [("XYZC", "XYC"), ("XYC", "XYZC"), ("XC", "XC")])
def test_components_of_other_dimensions_are_refused(formats):
    clip = fake_clip()
    made = header(clip.layout)
    made.components = made.components[:2]
    for part, form in zip(made.components, formats):
        part.format = form
    with pytest.raises(UserError, match=r"has the format '.*'; expected XYZC or XYC in all components"):
        from_pose(Pose(made, NumPyPoseBody(25, clip.data[:, None], clip.confidence[:, None])))


def test_header_and_frames_that_disagree():
    clip = fake_clip()
    body = NumPyPoseBody(25, clip.data[:, None, 1:], clip.confidence[:, None, 1:])
    with pytest.raises(UserError, match=r"names \d+ points"):
        from_pose(Pose(header(clip.layout), body))


def test_a_good_file_reads_after_a_bad_one(tmp_path, good):
    """pose-format remembers the last header: a broken one must not stick."""
    path = tmp_path / "good.pose"
    path.write_bytes(good)
    for bad in (good[:40], b"\0" * 100, b"\xff" * 5000):
        (tmp_path / "bad.pose").write_bytes(bad)
        with pytest.raises(UserError):
            read_pose(tmp_path / "bad.pose")
        assert read_pose(path).index(POSE, "NOSE") == 0


@settings(
    max_examples=FUZZ_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_fuzz_raises_only_user_errors(tmp_path, good, data):
    path = tmp_path / "fuzz.pose"
    if data.draw(st.booleans()):
        content = data.draw(st.binary(max_size=3000))
    else:
        changed = bytearray(good)
        for _ in range(data.draw(st.integers(1, 4))):
            start = data.draw(st.one_of(st.integers(0, 40), st.integers(0, len(good) - 1)))
            changed[start : start + 4] = data.draw(st.binary(max_size=8))
        content = bytes(changed)
    path.write_bytes(content)
    try:
        clip = read_pose(path)
    except UserError as error:
        assert str(path) in str(error)
    else:
        assert isinstance(clip, PoseClip) and np.isfinite(clip.data).all()


@pytest.mark.parametrize("version", [0.1, 0.2])
def test_read_pose_refuses_bytes_after_the_frames(tmp_path, good, version):
    points = sum(len(component.points) for component in Pose.read(good).header.components)
    path = tmp_path / "two.pose"
    content = good
    if version == 0.1:
        clip = fake_clip()
        start = len(good) - len(clip) * points * 16 - 10
        head = struct.pack("<f", 0.1) + good[4:start] + struct.pack("<HHH", 25, len(clip), 1)
        content = head + good[start + 10 :]
        path.write_bytes(content)
        assert len(read_pose(path)) == len(clip)
    refused(path, content + content, "a second pose or other bytes follow the frames")
    refused(path, content + b"\0", "other bytes follow the frames")


def test_read_recording_sees_a_file_that_was_replaced_under_the_same_time(tmp_path):
    path = write_pose(tmp_path / "a.pose", fake_clip(seed=1))
    first, status = reader.read_recording(path), path.stat()
    write_pose(tmp_path / "b.pose", fake_clip(seed=2))
    os.utime(tmp_path / "b.pose", ns=(status.st_atime_ns, status.st_mtime_ns))
    (tmp_path / "b.pose").replace(path)
    assert not np.array_equal(reader.read_recording(path).data, first.data)


@pytest.mark.parametrize("version", [0.0, 0.1, 0.2])
def test_components_of_a_file_equal_those_of_the_whole_clip(tmp_path, good, version):
    path, at = tmp_path / "a.pose", body_at(good)
    clip = fake_clip(missing=0.5)
    frames = good[at + 10 :]
    if version == 0:
        points = np.concatenate([clip.data, clip.confidence[..., None]], axis=2)
        frames = b"".join(struct.pack("<Hh", 1, 0) + frame.tobytes() for frame in points)
    counts = {0.0: struct.pack("<HH", 25, 12), 0.1: struct.pack("<HHH", 25, 12, 1)}.get(
        version, good[at : at + 10]
    )
    path.write_bytes(struct.pack("<f", version) + good[4:at] + counts + frames)
    whole = read_pose(path)
    for names in ([POSE], [RIGHT_HAND, POSE], [*HOLISTIC, "NOT THERE"]):
        part = read_pose(path, names)
        columns = [i for i, (name, _) in enumerate(whole.points) if name in names]
        assert part.points == tuple(whole.points[i] for i in columns)
        np.testing.assert_array_equal(part.data, whole.data[:, columns])
        np.testing.assert_array_equal(part.confidence, whole.confidence[:, columns])
        assert (part.fps, part.width) == (whole.fps, whole.width)
    with pytest.raises(UserError, match="none of NOT THERE"):
        read_pose(path, ["NOT THERE"])


def test_components_that_are_not_read_are_checked_too(tmp_path):
    pose = as_pose(fake_clip(missing=0))
    pose.body.data.data[3, 0, -1, 1] = np.nan
    path = tmp_path / "a.pose"
    with path.open("wb") as file:
        pose.write(file)
    assert pose.header.components[-1].name != POSE
    with pytest.raises(UserError, match="frame 3"):
        read_pose(path, [POSE])
    pose.body.confidence[3, 0, -1] = 0  # a missing point may be NaN
    with path.open("wb") as file:
        pose.write(file)
    assert np.isfinite(read_pose(path, [POSE]).data).all() and not read_pose(path).data[3, -1].any()


def test_confidences_outside_0_to_1_are_clipped_whatever_is_missing(tmp_path):
    path = tmp_path / "a.pose"
    for value, clipped in ((-0.2, 1e-3), (1e-4, 1e-3), (1.5, 1)):
        pose = as_pose(fake_clip(missing=0.2))
        frame, _, point = np.argwhere(pose.body.confidence > 0)[7]
        pose.body.confidence[frame, 0, point] = value
        missing = np.argwhere(pose.body.confidence == 0)[3]
        pose.body.data.mask[tuple(missing)] = False  # only the confidence says that it is missing
        with path.open("wb") as file:
            pose.write(file)
        for clip in (read_pose(path), from_pose(pose)):
            assert clip.confidence[frame, point] == np.float32(clipped) and clip.data[frame, point].any()
            assert ((clip.confidence == 0) == (pose.body.confidence[:, 0] == 0)).all()


def test_a_version_near_zero_is_refused(tmp_path, good):
    refused(tmp_path / "a.pose", struct.pack("<f", 0.0001) + good[4:], "version 0.0001")

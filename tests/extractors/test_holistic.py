"""MediaPipe Holistic on real videos."""

import shutil
from fractions import Fraction

import numpy as np
import pytest

from mmpt.cli.extract import main
from mmpt.extractors import holistic_legacy
from mmpt.extractors.holistic import HolisticExtractor
from mmpt.extractors.holistic_legacy import LegacyReader
from mmpt.extractors.manifest import read_manifest
from mmpt.extractors.runner import RunOptions, extract_folder
from mmpt.utils.errors import UserError
from tests.extractors.videos import write_video
from tests.pose.pose_fakes import as_pose, fake_clip

pytestmark = pytest.mark.usefixtures("legacy")

POINTS = {
    "POSE_LANDMARKS": 33,
    "FACE_LANDMARKS": 478,
    "LEFT_HAND_LANDMARKS": 21,
    "RIGHT_HAND_LANDMARKS": 21,
    "POSE_WORLD_LANDMARKS": 33,
}


def read_pose(path):
    from pose_format import Pose

    return Pose.read(path.read_bytes())


@pytest.mark.slow
def test_holistic_sample_videos(shared_videos, tmp_path):
    """The figures in the README beside them."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("sign_example.mp4", "pose_test_video.mp4"):
        shutil.copy(shared_videos / name, folder)
    assert extract_folder(HolisticExtractor(), folder, out, RunOptions(2, show_progress=False)).made == 2
    files = read_manifest(out)["files"]
    facts = files["sign_example.mp4"]["facts"]
    assert (facts["frames"], round(facts["fps"], 2), facts["width"], facts["height"]) == (
        133,
        24.17,
        640,
        480,
    )
    assert facts["right_hand"] == pytest.approx(0.98, abs=0.01)
    assert facts["left_hand"] == pytest.approx(0.92, abs=0.01)
    facts = files["pose_test_video.mp4"]["facts"]
    assert (facts["frames"], round(facts["fps"], 2), facts["width"], facts["height"]) == (58, 29.92, 540, 720)
    assert facts["right_hand"] == pytest.approx(0.34, abs=0.02) and facts["left_hand"] == 0
    pose = read_pose(out / "sign_example.pose")
    assert {part.name: len(part.points) for part in pose.header.components} == POINTS
    assert pose.body.data.shape == (133, 1, 586, 3) and pose.body.fps == pytest.approx(24.17, abs=0.01)
    assert (pose.header.dimensions.width, pose.header.dimensions.height) == (640, 480)
    unseen = np.asarray(pose.body.confidence[:, 0, 33 + 478]) == 0
    assert 0.05 < unseen.mean() < 0.12 and not np.asarray(pose.body.data.data)[unseen, 0, 33 + 478].any()


def test_holistic_pose_does_not_depend_on_the_previous_clip(shared_videos, tmp_path):
    """No tracking state is kept between clips, or files would depend on where a run was interrupted."""
    reader = HolisticExtractor(fps=Fraction(12)).reader()
    first, _ = reader.pose(shared_videos / "asl_book.mp4")
    assert len(first.body.data) > 5
    reader.pose(write_video(tmp_path / "a.mp4", 3))
    again, _ = reader.pose(shared_videos / "asl_book.mp4")
    assert np.array_equal(np.asarray(first.body.data), np.asarray(again.body.data))


@pytest.mark.parametrize("policy, status", [("keep", 0), ("skip", 0), ("error", 1)])
def test_holistic_without_a_person(tmp_path, policy, status, capsys):
    write_video(tmp_path / "in" / "grey.mp4", 4)
    arguments = ["pose", "--in", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--no-hand", policy]
    # a new process imports MediaPipe, which takes seconds: for one of them only
    arguments += ["--workers", "1" if policy == "keep" else "0", "--no-refine-face"]
    assert main(arguments) == status
    assert "no person is detected in any" in capsys.readouterr().err
    assert (tmp_path / "out" / "grey.pose").exists() == (policy == "keep")
    record = read_manifest(tmp_path / "out")["files"]["grey.mp4"]
    assert record["status"] == {"keep": "done", "skip": "skipped", "error": "failed"}[policy]
    if policy == "keep":
        pose = read_pose(tmp_path / "out" / "grey.pose")
        assert pose.body.data.shape == (4, 1, 576, 3) and not np.asarray(pose.body.confidence).any()
    # the next run keeps what is done or skipped, and reports it again
    assert main(arguments) == status
    said = capsys.readouterr().err
    assert "no person is detected in any" in said
    assert ("1 already finished" in said) == (policy != "error")


def test_holistic_fps_and_variable_frame_rate(tmp_path):
    times = [Fraction(t, 1000) for t in (0, 40, 80, 400, 440)]
    path = write_video(tmp_path / "a.mkv", 5, times=times)
    pose, outcome = HolisticExtractor().reader().pose(path)
    assert len(pose.body.data) == 5 and "the frame rate varies" in outcome.notes[0]
    pose, outcome = HolisticExtractor(fps=Fraction(10)).reader().pose(path)
    assert len(pose.body.data) == 5 and pose.body.fps == 10 and outcome.notes == []


def test_holistic_damaged_video_is_named(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"x" * 1000)
    with pytest.raises(UserError, match=r"bad\.mp4"):
        HolisticExtractor().reader().pose(tmp_path / "bad.mp4")


def test_pose_has_the_frame_rate_of_the_time_stamps(tmp_path, monkeypatch):
    """A WebM of a browser declares 1000 frames per second."""
    times = [Fraction(index, 25) for index in range(10)]
    video = write_video(tmp_path / "a.webm", 10, 1000, codec="libvpx", options={"b": "1M"}, times=times)

    def load(frames, fps, **_):
        pose = as_pose(fake_clip(frames=sum(1 for _ in frames)))
        pose.body.fps = fps
        return pose

    monkeypatch.setattr(holistic_legacy, "_import_holistic", lambda: load)
    outcome = LegacyReader().convert(video, tmp_path / "a.pose")
    assert read_pose(tmp_path / "a.pose").body.fps == 25 and outcome.facts["fps"] == 25
    assert "declares 1000 frames per second" in outcome.notes[0]

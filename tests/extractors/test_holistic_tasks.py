"""The backend `tasks`: its layout and time stamps with a stand-in for MediaPipe, its landmarks with 1.x."""

import os
import shutil
import socket
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mmpt.cli.extract import main
from mmpt.extractors import holistic
from mmpt.extractors.holistic import HolisticExtractor
from mmpt.extractors.manifest import read_manifest
from mmpt.pose.components import FACE, HOLISTIC, LEFT_HAND, POSE, RIGHT_HAND, WORLD
from mmpt.pose.reader import read_pose
from mmpt.utils.errors import UserError
from tests.extractors.test_holistic_bundle import fake_bundle
from tests.extractors.videos import write_video


class Landmarker:
    """Sees a body, a face and a right hand in every frame but the second. Records what it is given."""

    times: list[int] = []
    images: list[np.ndarray] = []
    options: dict[str, Any] = {}

    def __init__(self, options: dict[str, Any]) -> None:
        self.options.update(options)

    def __enter__(self) -> "Landmarker":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def detect_for_video(self, image: np.ndarray, time: int) -> Any:
        self.times.append(time)
        self.images.append(image)
        point = SimpleNamespace(x=0.25, y=0.5, z=-0.125, visibility=0.75)
        found = {name: [] for name in HOLISTIC}
        if len(self.times) != 2:
            found |= {POSE: [point] * 33, FACE: [point] * 478, RIGHT_HAND: [point] * 21, WORLD: [point] * 33}
        return SimpleNamespace(**{name.lower(): points for name, points in found.items()})


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A bundle whose face model has irises, and a mediapipe that reads it."""
    limb = [SimpleNamespace(start=0, end=1)]
    vision = SimpleNamespace(
        HolisticLandmarker=SimpleNamespace(create_from_options=Landmarker),
        HolisticLandmarkerOptions=lambda **options: options,
        RunningMode=SimpleNamespace(VIDEO="VIDEO"),
        HandLandmarksConnections=SimpleNamespace(HAND_CONNECTIONS=limb),
        PoseLandmarksConnections=SimpleNamespace(POSE_LANDMARKS=limb),
        FaceLandmarksConnections=SimpleNamespace(
            FACE_LANDMARKS_TESSELATION=limb, FACE_LANDMARKS_LEFT_IRIS=limb, FACE_LANDMARKS_RIGHT_IRIS=limb
        ),
    )
    mediapipe, tasks, python = (ModuleType(f"mediapipe{name}") for name in ("", ".tasks", ".tasks.python"))
    mediapipe.Image = lambda image_format, data: data  # type: ignore[attr-defined]
    mediapipe.ImageFormat = SimpleNamespace(SRGB=1)  # type: ignore[attr-defined]
    python.BaseOptions, python.vision = dict, vision  # type: ignore[attr-defined]
    for module in (mediapipe, tasks, python):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(holistic, "need_packages", lambda *_: None)
    monkeypatch.setattr(holistic, "has_legacy", lambda: False)
    monkeypatch.setattr(holistic, "version", lambda package: "1.2.3" if package == "mediapipe" else "0")
    monkeypatch.setattr(Landmarker, "times", [])
    monkeypatch.setattr(Landmarker, "images", [])
    monkeypatch.setattr(Landmarker, "options", {})
    return fake_bundle(tmp_path / "holistic.task")


def extractor(bundle: Path, **options: Any) -> HolisticExtractor:
    return HolisticExtractor(backend="tasks", bundle=bundle, **options)


def test_tasks_pose_has_the_layout_of_the_legacy_holistic(stand_in: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", 3)
    outcome = extractor(stand_in).reader().convert(video, tmp_path / "a.pose")
    assert outcome.facts["points"] == 33 + 478 + 42 + 33
    assert outcome.facts["right_hand"] == outcome.facts["person"] == pytest.approx(2 / 3, abs=1e-4)
    clip = read_pose(tmp_path / "a.pose")
    assert clip.fps == pytest.approx(float(outcome.facts["fps"]))
    for name, confidence in ((POSE, 0.75), (FACE, 1), (RIGHT_HAND, 1), (WORLD, 0.75)):
        data, seen = clip.component(name)
        expected = (0.25 * 64, 0.5 * 48, -0.125)
        np.testing.assert_allclose(data[[0, 2]], np.broadcast_to(expected, data[[0, 2]].shape))
        assert (seen[[0, 2]] == confidence).all()
        assert not data[1].any() and not seen[1].any()
    assert not clip.component(LEFT_HAND)[1].any()
    from pose_format import Pose

    header = Pose.read((tmp_path / "a.pose").read_bytes()).header
    assert [part.name for part in header.components] == list(HOLISTIC)
    assert all(part.limbs and part.format == "XYZC" for part in header.components)


@pytest.mark.parametrize(
    "irises, refine, points", [(True, True, 478), (True, False, 468), (False, True, 468)]
)
def test_tasks_face_without_irises_has_468_points(stand_in, tmp_path, caplog, irises, refine, points) -> None:
    if not irises:
        fake_bundle(stand_in, face_landmarks_detector=b"... landmarks_with_irises ...")
    caplog.set_level("INFO")
    made = extractor(stand_in, refine_face=refine)
    assert made.options()["refine_face"] == (points == 478)
    pose, _ = made.reader().pose(write_video(tmp_path / "a.mp4", 1))
    assert len(pose.header.components[1].points) == points
    assert ("has no irises" in caplog.text) == (not irises)


def test_tasks_time_stamps_and_thresholds_are_those_of_the_legacy_holistic(stand_in, tmp_path) -> None:
    """It takes every video for one of 30 frames per second, which decides how much landmarks are smoothed."""
    times = [Fraction(t, 1000) for t in (0, 40, 80, 400, 440)]
    pose, outcome = extractor(stand_in).reader().pose(write_video(tmp_path / "a.mkv", 5, times=times))
    assert Landmarker.times == [33, 67, 100, 133, 167] and "the frame rate varies" in outcome.notes[0]
    assert Landmarker.options["min_pose_suppression_threshold"] == 0.3
    assert Landmarker.options["min_face_suppression_threshold"] == 0.3
    Landmarker.times.clear()
    resampled = extractor(stand_in, fps=Fraction(50)).reader()
    pose, _ = resampled.pose(write_video(tmp_path / "c.mp4", 5, 25))
    assert len(Landmarker.times) == 10 and Landmarker.times[-1] == 333 and pose.body.fps == 50


def test_tasks_images_have_no_padded_rows(stand_in, tmp_path) -> None:
    """PyAV pads the rows of such widths; MediaPipe reads the memory without a look at the strides."""
    video = write_video(tmp_path / "a.mp4", 2, size=(70, 50))
    extractor(stand_in).reader().pose(video)
    assert [image.shape for image in Landmarker.images] == [(50, 70, 3)] * 2
    assert all(image.flags["C_CONTIGUOUS"] for image in Landmarker.images)


def test_tasks_models_are_in_the_manifest_and_others_are_refused(stand_in, tmp_path, capsys) -> None:
    write_video(tmp_path / "in" / "a.mp4", 2)
    command = ["pose", "--in", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--workers", "0"]
    command += ["--bundle", str(stand_in)]
    assert main(command) == 0
    assert f"backend tasks: mediapipe 1.2.3 with the models of {stand_in}" in capsys.readouterr().err
    (run,) = read_manifest(tmp_path / "out")["runs"].values()
    assert (
        len(run["options"]["models"]) == 6 and run["options"]["backend"] == run["tools"]["backend"] == "tasks"
    )
    pose = (tmp_path / "out" / "a.pose").read_bytes()
    shutil.move(stand_in, tmp_path / "moved.task")  # the path is not an option that changes the output
    command[-1] = str(tmp_path / "moved.task")
    assert main(command) == 0 and "1 already finished" in capsys.readouterr().err
    fake_bundle(tmp_path / "moved.task", pose_detector=b"other")
    write_video(tmp_path / "in" / "b.mp4", 2)
    assert main(command) == 2
    said = capsys.readouterr().err
    assert (
        "a.mp4 was extracted with other options (models: pose_detector.tflite differ)" in said
        and "--again" in said
    )
    assert (tmp_path / "out" / "a.pose").read_bytes() == pose and not (tmp_path / "out" / "b.pose").exists()
    assert main([*command, "--again"]) == 0 and "2 extracted" in capsys.readouterr().err
    assert main(command) == 0 and "2 already finished" in capsys.readouterr().err


# ---- with MediaPipe 1.x and the models
def test_tasks_sample_videos(bundle: Path, shared_videos: Path) -> None:
    """The shares of frames with a hand are those of the legacy backend; the second video has padded rows."""
    reader = extractor(bundle, fps=Fraction(2)).reader()
    pose, outcome = reader.pose(shared_videos / "sign_example.mp4")
    assert outcome.facts["person"] == 1 and pose.body.data.shape == (11, 1, 576, 3)
    assert outcome.facts["right_hand"] > 0.9 and outcome.facts["left_hand"] > 0.85
    body, hand = (np.asarray(pose.body.data.data)[:, 0, n, :2] for n in (16, 33 + 468 + 21))
    seen = np.asarray(pose.body.confidence)[:, 0, 33 + 468 + 21] > 0
    # the right wrist, twice: at 2 frames per second, that of the body, which is smoothed, lags behind
    assert np.median(np.linalg.norm(body - hand, axis=1)[seen]) < 20
    reader = extractor(bundle, fps=Fraction(6)).reader()
    pose, outcome = reader.pose(shared_videos / "pose_test_video.mp4")
    assert outcome.facts["person"] == 1 and outcome.facts["left_hand"] == 0
    assert 0 < outcome.facts["right_hand"] < 0.5


def test_tasks_pose_does_not_depend_on_the_previous_clip(bundle, shared_videos, tmp_path) -> None:
    reader = extractor(bundle).reader()
    first, _ = reader.pose(shared_videos / "asl_book.mp4")
    reader.pose(write_video(tmp_path / "a.mp4", 3))
    again, _ = reader.pose(shared_videos / "asl_book.mp4")
    assert np.array_equal(np.asarray(first.body.data), np.asarray(again.body.data))


def test_tasks_models_that_cannot_be_used_are_named(bundle: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", 2)
    with pytest.raises(UserError, match=r"fake\.task cannot be used by HolisticLandmarker"):
        extractor(fake_bundle(tmp_path / "fake.task")).reader().pose(video)


def test_tasks_post_no_usage_metrics(bundle: Path, tmp_path: Path, monkeypatch) -> None:
    """MediaPipe posts when a task is closed. Were it not stopped, it would ask this proxy."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        extractor(bundle).reader().pose(write_video(tmp_path / "a.mp4", 2))
        proxy.settimeout(1)
        with pytest.raises(TimeoutError):
            proxy.accept()
        assert os.environ["https_proxy"].endswith(str(proxy.getsockname()[1]))
        assert "no_proxy" not in os.environ

"""signclip poses convert, as a user calls it."""

import json

import numpy as np
import pytest
from pose_format import Pose

from mmpt.cli.main import main
from mmpt.pose.components import CANONICAL_POINTS, HAND_POINTS, LEFT_HAND, POSE_POINTS, RIGHT_HAND
from mmpt.pose.estimators import ESTIMATORS
from mmpt.pose.reader import read_pose
from tests.pose.pose_fakes import fake_clip, write_pose
from tests.pose.test_tool_json import coco, mmpose, openpose_folder, people, save

SAYS = ["--fps", "25", "--width", "640", "--height", "480"]


def convert(*words) -> int:
    return main(["poses", "convert", *map(str, words)])


def refused(capsys, said: str, *words) -> None:
    assert convert(*words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1, error


@pytest.mark.parametrize("name", ["openpose_137", "coco_wholebody_133", "alphapose_136"])
def test_a_clip_in_the_points_of_its_estimator_and_in_those_of_all(tmp_path, capsys, name):
    estimator = ESTIMATORS[name]
    values = people(1, frames=5, points=len(estimator.points))
    values[..., 2] = 0.9
    values[1:3, 0, -21:, 2] = 0.1  # the last hand
    make = {"openpose_137": openpose_folder, "alphapose_136": lambda path, v: save(path, coco(v))}
    source = make.get(name, lambda path, v: save(path, mmpose(v)))(tmp_path / "a.json", values)
    assert convert(source, "--out", tmp_path / "own.pose", *SAYS) == 0
    said = capsys.readouterr().out
    assert estimator.title in said and "5 frames" in said and "left 5, right 3" in said
    pose = Pose.read((tmp_path / "own.pose").read_bytes())
    assert [part.name for part in pose.header.components] == [part.name for part in estimator.parts]
    assert (pose.header.dimensions.width, pose.header.dimensions.height, pose.body.fps) == (640, 480, 25)
    np.testing.assert_allclose(pose.body.data.filled(0)[0, 0], values[0, 0, :, :2], rtol=1e-6)
    own = read_pose(tmp_path / "own.pose")
    assert not own.depth and not own.component(RIGHT_HAND)[1][1:3].any()

    for layout, points in (("canonical", 13 + 59 + 42), ("holistic", 33 + 468 + 42)):
        target = tmp_path / f"{layout}.pose"
        assert convert(source, "--out", target, "--layout", layout, *SAYS) == 0
        clip = read_pose(target)
        assert len(clip.layout) == points and not clip.depth and clip.fps == 25
        for point in own.points:
            column, other = clip.index(*point), own.index(*point)
            np.testing.assert_array_equal(clip.data[:, column], own.data[:, other])
            np.testing.assert_array_equal(clip.confidence[:, column], own.confidence[:, other])
        assert clip.present.sum() == own.present.sum()


def test_min_confidence(tmp_path):
    values = people(1)
    source = save(tmp_path / "a.json", mmpose(values))
    for given, least in (([], 0.3), (["--min-confidence", "0"], 0), (["--min-confidence", "0.8"], 0.8)):
        target = tmp_path / f"{least}.pose"
        assert convert(source, "--out", target, *given, *SAYS) == 0
        kept = values[:, 0, :, 2] >= np.float32(least)
        assert ((Pose.read(target.read_bytes()).body.confidence[:, 0] > 0) == kept).all()
        assert 0 < kept.sum() <= kept.size


@pytest.mark.parametrize(
    "person, which", [("first", [0, 0, 0]), ("largest", [1, 1, 0]), ("tracked", [1, 1, 1])]
)
def test_one_of_several_people(tmp_path, capsys, person, which):
    values = people(2)
    values[..., 2] = 1
    values[:, 1, :, 0] += 1000
    values[:2, 0, :, :2] *= 0.5  # the first is smaller, until frame 2
    values[2, 1, :, 1] *= 0.5
    source = save(tmp_path / "a.json", mmpose(values))
    assert convert(source, "--out", tmp_path / "a.pose", "--person", person, *SAYS) == 0
    assert "several people in 3" in capsys.readouterr().out
    found = Pose.read((tmp_path / "a.pose").read_bytes()).body.data.filled(0)[:, 0]
    np.testing.assert_allclose(found, values[np.arange(3), which, :, :2], rtol=1e-6)


def test_pose_files_keep_what_they_say(tmp_path, capsys):
    path = write_pose(tmp_path / "a.pose", fake_clip(n_face=478))
    assert convert(path, "--out", tmp_path / "b.pose") == 0
    assert "MediaPipe Holistic, 12 frames" in capsys.readouterr().out
    np.testing.assert_array_equal(read_pose(path).data, read_pose(tmp_path / "b.pose").data)
    assert convert(path, "--out", tmp_path / "c.pose", "--layout", "canonical") == 0
    clip, whole = read_pose(tmp_path / "c.pose"), read_pose(path)
    assert clip.depth and clip.width == 500
    for component, points in CANONICAL_POINTS.items():
        columns = [whole.index(component, point) for point in points]
        np.testing.assert_array_equal(clip.component(component)[0], whole.data[:, columns])
    refused(
        capsys, "frame rate is 25, not 30: leave out --fps", path, "--out", tmp_path / "d.pose", "--fps", 30
    )


def test_confidences_outside_0_and_1_leave_no_point_at_the_origin(tmp_path):
    clip = fake_clip(missing=0)
    clip.confidence[3:6, 0], clip.confidence[7, 0] = -0.01, 1.5
    path = write_pose(tmp_path / "a.pose", clip)
    assert convert(path, "--out", tmp_path / "b.pose") == 0
    one, other = read_pose(path), read_pose(tmp_path / "b.pose")
    np.testing.assert_array_equal(one.data, other.data)
    np.testing.assert_array_equal(one.confidence, other.confidence)
    assert (Pose.read((tmp_path / "b.pose").read_bytes()).body.confidence[:, 0, 0] > 0).all()


def test_a_file_of_one_person_loses_no_frame_at_a_cut(tmp_path, capsys):
    clip = fake_clip(missing=0)
    clip.data[6:] += 5000
    path = write_pose(tmp_path / "a.pose", clip)
    assert convert(path, "--out", tmp_path / "b.pose") == 0
    np.testing.assert_array_equal(read_pose(path).data, read_pose(tmp_path / "b.pose").data)
    assert "near the tracked person" not in capsys.readouterr().out
    values = people(2, frames=4)
    values[..., 2] = 1
    values[:, 1, :, :2] += 5000
    values[2, :, :, 0] += 20_000
    assert convert(save(tmp_path / "c.json", mmpose(values)), "--out", tmp_path / "c.pose", *SAYS) == 0
    assert "nobody near the tracked person in 1, which are empty now" in capsys.readouterr().out


def test_a_folder_of_clips_in_all_formats(tmp_path, capsys):
    corpus = tmp_path / "corpus"
    (corpus / "x").mkdir(parents=True)
    openpose_folder(corpus / "x" / "v1.2", people(1, points=137))
    save(corpus / "x" / "b.json", coco(people(1)))
    save(corpus / "bad.json", {"a": 1})
    write_pose(corpus / "c.pose", fake_clip())
    out = tmp_path / "out"
    words = (corpus, "--out", out, "--fps", 25, "--width", 500, "--height", 400)
    assert convert(*words) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and f"error: {corpus / 'bad.json'}: it has no list of frames" in said.err
    assert "3 of 4 clips are in" in said.out
    made = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*") if path.is_file())
    assert made == ["c.pose", "x/b.pose", "x/v1.2.pose"]
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.pose")}
    assert convert(*words) == 1 and "(already there)" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.pose")}


def test_frame_files(tmp_path):
    folder = tmp_path / "clip.01"
    folder.mkdir()
    for i, frame in enumerate(mmpose(people(1, points=308))["instance_info"]):
        save(folder / f"{i:06d}.json", {"instance_info": frame["instances"]})
    assert convert(folder, "--out", tmp_path / "out", "--frame-files", *SAYS) == 0
    clip = read_pose(tmp_path / "out" / "clip.01.pose")
    assert len(clip) == 3 and set(clip.layout.components) == {"POSE_LANDMARKS", LEFT_HAND, RIGHT_HAND}
    assert len(clip.component(LEFT_HAND)[1].T) == len(HAND_POINTS) < len(POSE_POINTS)


def test_nothing_is_guessed_or_replaced(tmp_path, capsys):
    source = save(tmp_path / "a.json", mmpose(people(1)))
    target = tmp_path / "a.pose"
    refused(capsys, "it does not say its frame rate: give --fps", source, "--out", target)
    refused(capsys, "image width: give --width", source, "--out", target, "--fps", 25)
    refused(capsys, "--fps 0: expected", source, "--out", target, "--fps", 0)
    refused(capsys, "--min-confidence 2: expected", source, "--out", target, *SAYS, "--min-confidence", 2)
    refused(capsys, "no point has a confidence", source, "--out", target, *SAYS, "--min-confidence", 1)
    refused(capsys, "No such file", tmp_path / "no.json", "--out", target, *SAYS)
    refused(capsys, "no .pose or .json file", (tmp_path / "e").mkdir() or tmp_path / "e", "--out", target)
    target.write_text("of somebody")
    refused(capsys, "a.pose exists and differs", source, "--out", target, *SAYS)
    assert target.read_text() == "of somebody"
    refused(capsys, "is the folder of the sources", tmp_path, "--out", tmp_path, *SAYS)
    twice = ("--out", tmp_path / "out", *SAYS)
    refused(capsys, "would both be written to", source, target, *twice)
    refused(capsys, "is one file, for 2 clips", source, target, "--out", tmp_path / "x.pose")
    assert not (tmp_path / "out").exists() and sorted(p.name for p in tmp_path.iterdir()) == [
        "a.json",
        "a.pose",
        "e",
    ]


def test_json_of_a_strange_clip_is_read_after_conversion_only(tmp_path, capsys):
    path = tmp_path / "a.pose"
    path.write_text(json.dumps(mmpose(people(1))))
    refused(capsys, f"{path}: ", path, "--out", tmp_path / "b.pose")

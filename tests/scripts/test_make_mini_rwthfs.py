"""scripts/make_mini_rwthfs.py: videos, poses and marks of stand-in data."""

import shutil

import av
import numpy as np
import pytest

from mmpt.pose.reader import read_pose
from mmpt.processors import VIDEO_PROCESSORS
from mmpt.processors.rwthfs_names import take_inventory
from mmpt.utils.checkpoint import load_state_dict_file
from mmpt.utils.stand_in import stand_in_note
from scripts import make_mini_rwthfs


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mini")
    options = ["--signers", "svk", "gsg", "--letters", "AC", "--frames", "12"]
    assert make_mini_rwthfs.main(["clips", "--out", str(folder), *options]) == 0
    return folder


def decode(path):
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)], float(rate)


def test_mini_rwthfs_names_and_sizes(clips):
    wanted = [
        f"{signer}_{letter}_1_cam{camera}" for signer in (1, 2) for letter in (1, 3) for camera in (1, 2)
    ]
    assert take_inventory(clips, clips / "out").stems == wanted
    for stem, size in (("1_1_1_cam1", (240, 320, 3)), ("2_3_1_cam2", (288, 352, 3))):
        frames, rate = decode(clips / f"{stem}.mpg")
        assert (len(frames), rate, frames[0].shape) == (12, 25, size)
    assert "RWTH" in stand_in_note(clips)


def test_mini_rwthfs_pose_is_the_drawn_one(clips):
    """In each frame the figure is drawn where the pose is, and nowhere else."""
    frames, _ = decode(clips / "1_1_1_cam2.mpg")
    pose = read_pose(clips / "rendered" / "1_1_1_cam2.pose")
    assert len(pose.data) == len(frames) == 12
    data, seen = pose.component("RIGHT_HAND_LANDMARKS")
    for frame, points, visible in zip(frames, data, seen > 0):
        inked = (frame < 200).any(axis=2)
        x, y = points[visible, 0].round().astype(int), points[visible, 1].round().astype(int)
        assert visible.any() and inked[y, x].mean() > 0.8
        assert inked.mean() < 0.2
    shoulders = pose.component("POSE_LANDMARKS")[0][:, 11:13, 0]
    assert np.abs(shoulders.mean() - 352 / 2) < 30  # in the middle of the picture
    features = VIDEO_PROCESSORS.get("RWTHFSPoseProcessor")()(clips / "rendered" / "1_1_1_cam2.pose")
    assert features.shape[0] == 12 and np.isfinite(features).all()


def test_mini_rwthfs_cam1_shows_the_hand(clips):
    body, hand = (decode(clips / f"2_1_1_cam{camera}.mpg")[0][6] for camera in (2, 1))

    def coloured(picture):  # fingers are drawn in colours, the body in red
        return (picture[..., 2].astype(int) - picture[..., 0] > 60).mean()

    assert coloured(hand) > 3 * coloured(body) > 0


def test_mini_rwthfs_keeps_existing_clips(clips):
    before = {path: path.stat().st_mtime_ns for path in clips.rglob("*.mpg")}
    options = ["--signers", "svk", "gsg", "--letters", "AC", "--frames", "12"]
    (clips / "rendered" / "1_3_1_cam2.pose").unlink()  # the last thing written: this clip was not finished
    assert make_mini_rwthfs.main(["clips", "--out", str(clips), *options]) == 0
    changed = {path.name for path in before if path.stat().st_mtime_ns != before[path]}
    assert changed == {"1_3_1_cam1.mpg", "1_3_1_cam2.mpg"}


def test_mini_rwthfs_adds_missing_poses(clips, tmp_path):
    rendered = sorted(path.name for path in (clips / "rendered").iterdir())
    (tmp_path / rendered[0]).write_bytes(b"MediaPipe's own")
    for _ in range(2):  # again changes nothing
        assert make_mini_rwthfs.main(["poses", "--clips", str(clips), "--out", str(tmp_path)]) == 0
        assert (tmp_path / rendered[0]).read_bytes() == b"MediaPipe's own"
        assert (tmp_path / rendered[1]).read_bytes() == (clips / "rendered" / rendered[1]).read_bytes()
        assert stand_in_note(tmp_path).startswith("3 of 4 poses")


def test_mini_rwthfs_without_missing_poses(clips, tmp_path):
    for path in (clips / "rendered").iterdir():
        (tmp_path / path.name).write_bytes(b"MediaPipe's own")
    assert make_mini_rwthfs.main(["poses", "--clips", str(clips), "--out", str(tmp_path)]) == 0
    assert stand_in_note(tmp_path) is None


def test_mini_rwthfs_videoclip_checkpoint(tmp_path, data_dir, monkeypatch):
    monkeypatch.setenv("SIGNCLIP_RUNS", str(tmp_path))
    overrides = [f"dataset.bert_name={data_dir / 'mmfusion' / 'bert'}", "model.num_hidden_video_layers=2"]
    assert make_mini_rwthfs.main(["videoclip", *overrides]) == 0
    path = tmp_path / "retri" / "videoclip" / "checkpoint_best.pt"
    state = load_state_dict_file(path)
    assert state["video_encoder.videomlp.linear1.weight"].shape[1] == 512
    assert "VideoCLIP" in stand_in_note(path.parent)
    shutil.copyfile(path, tmp_path / "first")
    path.write_bytes(b"the real one")  # never replaced
    assert make_mini_rwthfs.main(["videoclip", *overrides]) == 0
    assert path.read_bytes() == b"the real one"


@pytest.mark.parametrize(
    "arguments",
    [
        ["clips", "--signers", "xyz"],
        ["clips", "--frames", "0"],
        ["clips", "--letters", ""],
        ["clips", "--letters", "A1"],
        ["poses", "--clips", "nowhere"],
    ],
)
def test_mini_rwthfs_errors(arguments, tmp_path, capsys):
    assert make_mini_rwthfs.main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert "error:" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_mini_rwthfs_keeps_the_real_videos(tmp_path, capsys):
    video = tmp_path / "1_1_1_cam2.mpg"
    video.write_bytes(b"real")
    arguments = ["clips", "--out", str(tmp_path), "--letters", "A", "--signers", "gsg"]
    assert make_mini_rwthfs.main(arguments) == 2
    assert "holds files of others, such as the real videos" in capsys.readouterr().err
    assert video.read_bytes() == b"real" and list(tmp_path.iterdir()) == [video]

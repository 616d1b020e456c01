"""Missing data or weights: each RWTH experiment reports in one line where to get them; exit status 2."""

import pytest

from mmpt.cli import evaluate
from mmpt.cli import train as train_cli
from mmpt.processors.rwthfs_names import gesture_ids_text

PROJECT = "projects/signclip"


@pytest.fixture
def roots(monkeypatch, tmp_path):
    monkeypatch.setenv("SIGNCLIP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SIGNCLIP_RUNS", str(tmp_path / "runs"))
    return tmp_path


def error_of(main, name, capsys, *options):
    assert main([f"{PROJECT}/{name}.yaml", *options]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    return errors[0]


def split_files(roots):
    folder = roots / "data" / "rwthfs"
    folder.mkdir(parents=True)
    for part in ("train", "val", "test"):
        (folder / f"{part}.txt").write_text("1_1_1_cam2\n")
    (folder / "gesture_ids.txt").write_text(gesture_ids_text())


def test_no_database(roots, capsys):
    error = error_of(train_cli.main, "rwthfs_scratch", capsys, "--in-process")
    assert "rwth-aachen.de" in error and "prepare_rwthfs.py" in error and "SIGNCLIP_DATA" in error


@pytest.mark.parametrize(
    "name, words",
    [
        ("rwthfs_scratch", ["extract s3d", "s3d_howto100m.pth", "rwthfs/s3d"]),
        ("rwthfs_scratch_i3d_512", ["extract i3d", "bsl5k.pth.tar", "rwthfs/i3d"]),
        ("rwthfs_scratch_hand_dominant", ["extract pose", "rwthfs/pose"]),
    ],
)
def test_missing_data_features(roots, capsys, name, words):
    split_files(roots)
    error = error_of(train_cli.main, name, capsys, "--in-process")
    assert all(word in error for word in words)


def test_missing_data_videoclip_checkpoint(roots, capsys):
    error = error_of(evaluate.main, "test_rwthfs_zs", capsys)
    assert (
        "dl.fbaipublicfiles.com" in error and str(roots / "runs/retri/videoclip/checkpoint_best.pt") in error
    )
    assert "Train first" not in error  # zero-shot: there is nothing to train


def test_missing_data_trained_checkpoint(roots, capsys):
    error = error_of(evaluate.main, "test_rwthfs_scratch", capsys)
    assert "Train first" in error and "fbaipublicfiles" not in error

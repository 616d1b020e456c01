"""The RWTH corpus: split files, prompts, skipped clips, missing files."""

import dataclasses

import pytest

from mmpt.config import DatasetConfig
from mmpt.processors.rwthfs import RWTHFSMetaProcessor, read_gesture_ids
from mmpt.utils.errors import MissingDataError, UserError


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "ids.txt").write_text(" 1 = A\n 2 = AE\n10 = Five\n")
    (tmp_path / "train.txt").write_text("1_1_1_cam1\n1_1_1_cam2\n2_10_1_cam2\n\n3_2_1_cam2\n")
    for name in ("1_1_1_cam1", "1_1_1_cam2", "2_10_1_cam2", "3_2_1_cam2"):
        for suffix in (".pose", ".npy"):
            (tmp_path / (name + suffix)).write_bytes(b"")
    return DatasetConfig(
        meta_processor="RWTHFSMetaProcessor",
        video_processor="RWTHFSPoseProcessor",
        max_video_len=128,
        max_len=96,
        train_path=str(tmp_path / "train.txt"),
        val_path=str(tmp_path / "none.txt"),
        gesture_id_path=str(tmp_path / "ids.txt"),
        vfeat_dir=str(tmp_path),
    )


def test_poses_skip_cam1(corpus):
    made = RWTHFSMetaProcessor.from_config(corpus, "train", ".pose")
    assert [e.video_id for e in made.examples] == ["1_1_1_cam2", "2_10_1_cam2", "3_2_1_cam2"]
    assert made.examples[1].text == "Fingerspell the letter Five in German Sign Language."
    assert made.examples[2].text == "Fingerspell the letter AE in German Sign Language."
    assert "1 of cam1 skipped" in made.describe()


def test_video_features_keep_both_cameras(corpus):
    made = RWTHFSMetaProcessor.from_config(corpus, "train", ".npy")
    assert len(made.examples) == 4 and made.examples[0].path.name == "1_1_1_cam1.npy"


def test_missing_files_say_how_to_get_them(corpus, tmp_path):
    with pytest.raises(MissingDataError, match=r"dataset\.val_path.*prepare_rwthfs.*fslex_scratch_pose"):
        RWTHFSMetaProcessor.from_config(corpus, "valid", ".pose")
    (tmp_path / "2_10_1_cam2.pose").unlink()
    with pytest.raises(MissingDataError, match=r"1 of 3 clips have no \.pose file.*2_10_1_cam2\.pose"):
        RWTHFSMetaProcessor.from_config(corpus, "train", ".pose")


def test_some_missing_files_can_be_skipped(corpus, tmp_path):
    (tmp_path / "2_10_1_cam2.pose").unlink()
    with pytest.raises(MissingDataError, match=r"on_bad_example=skip"):
        RWTHFSMetaProcessor.from_config(corpus, "train", ".pose")
    skipping = dataclasses.replace(corpus, on_bad_example="skip")
    assert len(RWTHFSMetaProcessor.from_config(skipping, "train", ".pose").examples) == 3
    for path in tmp_path.glob("*.pose"):
        path.unlink()
    with pytest.raises(MissingDataError, match=r"3 of 3 clips have no \.pose file"):
        RWTHFSMetaProcessor.from_config(skipping, "train", ".pose")


@pytest.mark.parametrize("line, words", [("1_1_cam2", "<signer>_<letter>"), ("1_99_1_cam2", "no gesture 99")])
def test_bad_names(corpus, tmp_path, line, words):
    (tmp_path / "train.txt").write_text(line + "\n")
    with pytest.raises(UserError, match=words):
        RWTHFSMetaProcessor.from_config(corpus, "train", ".pose")


@pytest.mark.parametrize("text", ["1 A\n", "1 = A\n1 = B\n", "x = A\n"])
def test_bad_gesture_ids(tmp_path, text):
    (tmp_path / "ids.txt").write_text(text)
    with pytest.raises(UserError, match="line"):
        read_gesture_ids(tmp_path / "ids.txt")


def test_clips_shared_with_training_are_reported(corpus, tmp_path):
    (tmp_path / "val.txt").write_text("2_10_1_cam2\n")
    changed = dataclasses.replace(corpus, val_path=str(tmp_path / "val.txt"))
    assert RWTHFSMetaProcessor.from_config(changed, "train", ".pose").leaks == ()
    (leak,) = RWTHFSMetaProcessor.from_config(changed, "valid", ".pose").leaks
    assert leak == "1 clip is in train.txt too: 2_10_1_cam2."


def test_split_files_that_are_not_utf8(corpus, tmp_path):
    (tmp_path / "train.txt").write_bytes("1_1_1_cam2\n# Übung".encode("latin-1"))
    with pytest.raises(UserError, match=r"train\.txt: not UTF-8 text"):
        RWTHFSMetaProcessor.from_config(corpus, "train", ".pose")
    (tmp_path / "ids.txt").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"ids\.txt: not UTF-8 text"):
        read_gesture_ids(tmp_path / "ids.txt")


def test_errors_show_no_content_of_a_file_that_a_config_names(corpus, tmp_path):
    (tmp_path / "train.txt").write_text("1_1_1_cam2\nroot:secret:0\n")
    (tmp_path / "gestures.txt").write_text("root:secret:0\n")
    for read, line in (
        (lambda: RWTHFSMetaProcessor.from_config(corpus, "train", ".pose"), 2),
        (lambda: read_gesture_ids(tmp_path / "gestures.txt"), 1),
    ):
        with pytest.raises(UserError, match=rf"\.txt, line {line}: expected") as caught:
            read()
        assert "secret" not in str(caught.value)


def test_ids_are_cut_at_line_ends_only(corpus, tmp_path):
    (tmp_path / "train.txt").write_text("1_1_1_cam2\u20282_10_1_cam2\n")
    with pytest.raises(UserError, match=r"train\.txt, line 1: expected a clip id"):
        RWTHFSMetaProcessor.from_config(corpus, "train", ".pose")

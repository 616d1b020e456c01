"""`signclip table`: tables of recordings with captions, and of folders of clips."""

import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from mmpt.cli.check import main as check
from mmpt.cli.main import main
from mmpt.config.schema import DatasetConfig
from mmpt.processors.split_rules import SplitRule
from mmpt.processors.table import TableMetaProcessor
from mmpt.processors.table_file import read_table
from mmpt.timed_text import Caption, write_elan
from tests.pose.pose_fakes import fake_clip, write_pose


def pose(path: Path, frames: int = 100, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_pose(path, fake_clip(frames=frames, seed=seed))


def srt(*cues: tuple[int, int, str]) -> str:
    def clock(ms: int) -> str:
        return f"00:00:{ms // 1000:02d},{ms % 1000:03d}"

    blocks = (f"{n}\n{clock(a)} --> {clock(b)}\n{text}\n" for n, (a, b, text) in enumerate(cues, 1))
    return "\n".join(blocks)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Ten recordings of 4 s by five signers, each with three captions, of which one ends too late."""
    folder = tmp_path / "in"
    for n in range(10):
        pose(folder / f"S{n // 2}" / f"rec{n}.pose", seed=n)
        cues = [
            (0, 1500, f"first <i>of</i> {n}"),
            (1400, 2600, f"second of {n}"),
            (3000, 9000, f"last of {n}"),
        ]
        (folder / f"S{n // 2}" / f"rec{n}.srt").write_text(srt(*cues, (4000, 5000, "after the end")))
    return folder


def table(*words: object) -> int:
    return main(["table", *map(str, words)])


def test_subtitles_to_a_table_that_check_and_training_accept(recordings, tmp_path, capsys):
    out = tmp_path / "out" / "table.csv"
    options = ("--signed-language", "ase", "--signer", r"^(S\d)/")
    assert table("from-subtitles", recordings, "--out", out, *options) == 0
    said = capsys.readouterr().out
    assert "captions that end after the recording's end, cut there: 10 (first: S0/rec0 at 3000 ms)" in said
    assert "captions that start after the recording's end, left out: 10" in said
    assert "captions that overlap an earlier one of their tier, kept: 20" in said
    assert "markup tags in captions, removed: 20" in said
    assert "30 clips of 10 files; test 6 (2 files), train 18 (6 files), valid 6 (2 files)" in said
    rows = read_table(out).rows
    assert rows[2].id == "S0/rec0-3000" and str(rows[2].span) == "3000-4000 ms"
    assert rows[0].text == "first of 0" and rows[0].signer == "S0" and rows[0].signed_language == "ase"
    assert len({(row.signer, row.split) for row in rows}) == 5
    assert check([str(out)]) == 0, capsys.readouterr().out
    options = {"meta_processor": "TableMetaProcessor", "video_processor": "PoseProcessor"}
    config = DatasetConfig(
        **options, max_video_len=9, max_len=9, table_path=str(out), prompt_templates=["{text}"]
    )
    assert len(TableMetaProcessor.from_config(config, "train", ".pose").examples) == 18


def test_the_same_command_replaces_its_table_and_another_file_stays(recordings, tmp_path, capsys):
    out = recordings / "table.csv"
    for _ in range(2):
        assert table("from-subtitles", recordings, "--out", out) == 0
        assert "without a recording" not in capsys.readouterr().out
    first = out.read_text()
    assert table("from-subtitles", recordings, "--out", out, "--seed", 1) == 0
    assert out.read_text() != first
    (tmp_path / "mine.csv").write_text("mine")
    assert table("from-subtitles", recordings, "--out", tmp_path / "mine.csv") == 2
    assert (tmp_path / "mine.csv").read_text() == "mine"


def test_subtitles_in_another_folder_by_language_and_by_name(tmp_path, capsys):
    pose(tmp_path / "in" / "a" / "one.pose")
    pose(tmp_path / "in" / "two.pose")
    subs = tmp_path / "subs"
    subs.mkdir()
    (subs / "one.en-US.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\none\n")
    (subs / "one.de.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\neins\n")
    (subs / "three.srt").write_text(srt((0, 10, "x")))
    words = ("from-subtitles", tmp_path / "in", "--subtitles", subs, "--out", tmp_path / "t.csv")
    assert table(*words) == 2
    assert "one.de.vtt, one.en-US.vtt): choose by language (--language en)" in capsys.readouterr().err
    assert table(*words, "--language", "en") == 0
    said = capsys.readouterr().out
    assert "recordings without captions, left out: 1 (first: two)" in said
    assert "files of captions without a recording, left out: 1 (first: three.srt)" in said
    assert [row.text for row in read_table(tmp_path / "t.csv").rows] == ["one"]
    assert table(*words, "--language", "fr") == 2
    assert "no recording has captions" in capsys.readouterr().err


def test_features_need_their_rate_and_get_frames(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", np.zeros((10, 4), np.float32))
    (tmp_path / "in" / "a.csv").write_text("start,end,text\n0.5,1.49,one\n4,99,two\n5,6,three\n")
    words = ("from-subtitles", tmp_path / "in", "--out", tmp_path / "t.csv")
    assert table(*words, "--unit", "s") == 2 and "(--fps)" in capsys.readouterr().err
    assert table(*words, "--fps", 2) == 2 and "give the unit (--unit ms or s)" in capsys.readouterr().err
    assert table(*words, "--unit", "s", "--fps", 2) == 0
    assert [str(row.span) for row in read_table(tmp_path / "t.csv").rows] == ["1-3 frames", "8-10 frames"]
    pose(tmp_path / "in" / "b.pose")
    (tmp_path / "in" / "b.srt").write_text(srt((0, 10, "x")))
    assert table(*words, "--unit", "s", "--fps", 2) == 2
    assert "features (.npy) and other files: choose by suffix" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, content, option, words",
    [
        (
            "a.vtt",
            "WEBVTT\n\n00:00.100 --> 00:01.000\nhi\n",
            ("--unit", "s"),
            "--unit is for .csv, .tsv; ",
        ),
        ("a.srt", srt((0, 10, "x")), ("--unit", "ms"), "the captions are in .srt: leave it out"),
        ("a.json3", '{"events": []}', ("--encoding", "cp1252"), "--encoding is for .srt, .vtt, .csv, .tsv; "),
        ("a.srt", srt((0, 10, "x")), ("--fps", 25), "no features (.npy), which --fps is for: leave it out"),
    ],
)
def test_options_for_files_of_other_kinds_are_refused(tmp_path, capsys, name, content, option, words):
    pose(tmp_path / "in" / "a.pose")
    (tmp_path / "in" / name).write_text(content)
    assert table("from-subtitles", tmp_path / "in", "--out", tmp_path / "t.csv", *option) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "t.csv").exists()
    pose(tmp_path / "in" / "b.pose")
    (tmp_path / "in" / "b.csv").write_text("start,end,text\n1,2,x\n")
    if option[0] == "--unit":
        assert table("from-subtitles", tmp_path / "in", "--out", tmp_path / "t.csv", *option) == 0


def test_elan_tiers_and_signers_by_participant(tmp_path, capsys):
    for n in range(6):
        pose(tmp_path / "in" / f"r{n}.pose", seed=n)
        signer = f"P{min(n, 4)}"
        tiers = {"Gloss": [Caption(0, 900, "TREE", signer=signer)], "Other": [Caption(0, 50, "x")]}
        write_elan(tmp_path / "in" / f"r{n}.eaf", tiers)
    words = ("from-elan", tmp_path / "in", "--out", tmp_path / "t.csv")
    assert table(*words) == 2
    assert "choose tiers (--tier NAME). Tiers: 'Gloss', 'Other'." in capsys.readouterr().err
    assert table(*words, "--tier", "Glos") == 2 and "Did you mean 'Gloss'?" in capsys.readouterr().err
    assert table(*words, "--tier", "Gloss", "--split-by", "signer", "--split", "60/20/20") == 0
    rows = read_table(tmp_path / "t.csv").rows
    assert {row.values["tier"] for row in rows} == {"Gloss"}
    assert len({(row.signer, row.split) for row in rows}) == 5 and rows[4].split == rows[5].split
    assert table(*words, "--tier", "Gloss", "--tier", "Other", "--split-by", "signer") == 2
    assert "signers of 6 recordings are not known" in capsys.readouterr().err


def test_split_file(recordings, tmp_path, capsys):
    names = sorted(path.relative_to(recordings) for path in recordings.rglob("*.pose"))
    lines = [f"{name},{split}" for name, split in zip(names, ["dev", "test", *["train"] * 8])]
    listed = tmp_path / "splits.csv"
    words = ("from-subtitles", recordings, "--out", tmp_path / "t.csv", "--split-file", listed)
    listed.write_text("\n".join(["recording,split", *lines[1:]]))
    assert table(*words) == 2 and "1 recording is not listed: S0/rec0." in capsys.readouterr().err
    listed.write_text("\n".join(["recording,split", *lines, "S0/rec0,train"]))
    assert table(*words) == 2 and "listed with 'dev' and 'train'" in capsys.readouterr().err
    listed.write_text("\n".join(["recording,split", *lines]))
    assert table(*words) == 0
    assert [row.split for row in read_table(tmp_path / "t.csv").rows][:9:3] == ["valid", "test", "train"]
    assert table(*words, "--seed", 0, "--split", "50/25/25") == 2
    assert "--split-file names the splits: leave out --split and --seed." in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, words",
    [
        (["--split", "80/20"], "expected the shares of train, valid and test"),
        (["--split", "90/20/-10"], "expected the shares"),
        (["--signer", "("], "no regular expression"),
        (["--signer", "X(.)"], "finds no signer in the names of 10 of 10"),
        (["--suffix", ".mp4"], "there are no recordings; expected files ending in .mp4"),
        (["--encoding", "klingon"], "no text encoding 'klingon'"),
        (["--out", "t.xls"], "expected a .csv file"),
        (["--subtitles", "nowhere"], "nowhere: there is no such folder"),
    ],
)
def test_wrong_options_are_one_line(recordings, tmp_path, capsys, options, words):
    assert table("from-subtitles", recordings, "--out", tmp_path / "t.csv", *options) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and not (tmp_path / "t.csv").exists()


def test_a_video_beside_its_pose_and_a_malformed_caption_are_named(recordings, tmp_path, capsys):
    words = ("from-subtitles", recordings, "--out", tmp_path / "t.csv")
    (recordings / "S0" / "rec0.srt").write_text("1\n00:00:01,000 -> x\na\n")
    assert table(*words) == 2 and "rec0.srt, line 2: expected times" in capsys.readouterr().err
    (recordings / "S0" / "rec0.mp4").touch()
    assert table(*words) == 2 and "are one recording: choose by suffix" in capsys.readouterr().err


def test_folders_of_classes(tmp_path, capsys):
    for label in ("tree", "house"):
        for n in range(5):
            pose(tmp_path / "in" / label / f"P{n}.pose", frames=12, seed=n)
    out = tmp_path / "t.csv"
    assert table("from-folders", tmp_path / "in", "--out", out) == 0
    rows = read_table(out).rows
    assert {(row.text, row.split) for row in rows} == {
        (text, split) for text in ("tree", "house") for split in ("train", "valid", "test")
    }
    assert table("from-folders", tmp_path / "in", "--out", out, "--signer", r"P\d") == 0
    rows = read_table(out).rows
    assert len({(row.signer, row.split) for row in rows}) == 5
    pose(tmp_path / "in" / "loose.pose")
    assert table("from-folders", tmp_path / "in", "--out", out) == 2
    assert "expected CLASS/CLIP for all clips" in capsys.readouterr().err


def test_python_m_is_the_same_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["table", "from-folders", "no", "--out", "table.csv"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("mmpt.cli.table", run_name="__main__")
    assert ended.value.code == 2 and "no: there is no such folder" in capsys.readouterr().err


def test_folders_of_splits(tmp_path, capsys):
    for split in ("train", "val", "test"):
        pose(tmp_path / "in" / split / "tree" / "a.pose")
    out = tmp_path / "t.csv"
    assert table("from-folders", tmp_path / "in", "--out", out) == 0
    rows = read_table(out).rows
    assert [(row.id, row.text, row.split) for row in rows] == [
        ("test/tree/a", "tree", "test"),
        ("train/tree/a", "tree", "train"),
        ("val/tree/a", "tree", "valid"),
    ]
    for option, value in (("--split-file", tmp_path / "splits.csv"), ("--split", "70/20/10"), ("--seed", 0)):
        assert table("from-folders", tmp_path / "in", "--out", out, option, value) == 2
        assert f"its folders are the splits: leave out {option}." in capsys.readouterr().err


def test_recordings_that_share_signers_through_others_are_in_one_split():
    signers_of = {"a": {"1", "2"}, "b": {"2", "3"}, "c": {"3"}, **{f"d{n}": {f"x{n}"} for n in range(20)}}
    for seed in range(30):
        splits = SplitRule((50, 25, 25), "signer", seed).assign(signers_of)
        assert splits["a"] == splits["b"] == splits["c"]
    assert set(SplitRule((0, 0, 100)).assign({"a": {""}, "b": {""}, "c": {""}}).values()) == {"test"}


def test_a_list_of_splits_with_two_columns_of_one_name(recordings, tmp_path, capsys):
    listed = tmp_path / "splits.csv"
    listed.write_text("recording,split,split\ntalk,train,test\n")
    words = ("from-subtitles", recordings, "--out", tmp_path / "t.csv", "--split-file")
    assert table(*words, listed) == 2
    assert "splits.csv: there are two columns 'split': remove or rename one." in capsys.readouterr().err
    assert table(*words, tmp_path / "none.csv") == 2
    assert "there is no file" in (said := capsys.readouterr().err) and "corpus" not in said


def test_a_file_name_that_is_not_utf8_is_refused(tmp_path, capsys):
    pose(tmp_path / "in" / "A" / "a.pose").rename(tmp_path / "in" / "A" / os.fsdecode(b"\xff.pose"))
    assert table("from-folders", tmp_path / "in", "--out", tmp_path / "t.csv") == 2
    assert "the file name is not UTF-8: rename it" in capsys.readouterr().err

"""scripts/join_letters.py."""

import numpy as np
import pytest

from mmpt.pose.components import HANDS, POSE, RIGHT_HAND
from mmpt.pose.joining import at_rate
from mmpt.pose.reader import read_pose
from mmpt.processors.table_file import read_table
from mmpt.timed_text import read_captions
from scripts.join_letters import TRAIN, core_of, main, read_letters


@pytest.mark.parametrize("join", ["cut", "crossfade"])
def test_table_and_references_say_where_each_letter_is(tmp_path, join):
    assert main(["--recordings", "3", "--split", "valid", "--join", join, "--out", str(tmp_path)]) == 0
    letters, rows = read_letters("valid", face=False), read_table(tmp_path / "table.csv").rows
    recordings = read_table(tmp_path / "recordings.csv").rows
    assert [row.signed_language for row in recordings] == ["asq", "bzs", "asq"]
    for recording in recordings:
        clip, own = read_pose(recording.path), [row for row in rows if row.path == recording.path]
        assert clip.fps == 25 and clip.layout.components == (POSE, *HANDS)
        assert [row.text for row in own] == recording.text.split() and 20 <= len(own) <= 60
        times = [(row.span.start, row.span.end) for row in own]
        cores = [(int(row.values["core_start"]), int(row.values["core_end"])) for row in own]
        for suffix in (".csv", ".eaf"):
            found = read_captions(recording.path.with_suffix(suffix))
            for tier, expected in (("letter", times), ("core", cores)):
                captions = [one for one in found if one.tier == tier]
                assert [(one.start_ms, one.end_ms) for one in captions] == expected
                assert [one.text for one in captions] == [row.text for row in own]
        hand = clip.component(RIGHT_HAND)[0]
        for row, core in zip(own, cores):
            original = at_rate(letters[row.signed_language][row.text], 25).component(RIGHT_HAND)[0]
            part = hand[row.span.frames(len(clip), 25)]
            np.testing.assert_allclose(_shape(part), _shape(original), atol=1e-3)
            assert row.span.start <= core[0] < core[1] <= row.span.end
        ends = [0, *(end for _, end in times)]
        starts = [*(start for start, _ in times), 40 * len(clip)]
        rests = np.subtract(starts, ends)
        assert rests.min() >= 200 and rests.max() <= 1000


def _shape(hand: np.ndarray) -> np.ndarray:
    """The hand [T, 21, 3] relative to its wrist, in the size of the largest."""
    moved = hand - hand[:, :1]
    return moved[..., :2] / np.abs(moved[..., :2]).max()


def test_words_are_different_and_a_seed_is_a_recording(tmp_path):
    for folder, words in (("a", "12"), ("b", "6")):
        assert main(["--words", words, "--seed", "5", "--out", str(tmp_path / folder)]) == 0
    rows = read_table(tmp_path / "a" / "recordings.csv").rows
    texts = [row.text for row in rows]
    assert len(set(texts)) == 12 and all(3 <= len(text) <= 8 for text in texts)
    assert {row.signed_language for row in rows} == {"gsg", "ase", "sgg"}
    for row in rows[:6]:
        assert row.path.read_bytes() == (tmp_path / "b" / "recordings" / row.path.name).read_bytes()
    assert main(["--words", "6", "--seed", "6", "--out", str(tmp_path / "c")]) == 0
    assert [row.text for row in read_table(tmp_path / "c" / "recordings.csv").rows] != texts[:6]


def test_several_splits_have_their_languages_and_share_no_word(tmp_path, capsys):
    out = ["--split", "train", "valid", "test", "--out", str(tmp_path / "x")]
    assert main(["--words", "9", "2", "3", *out]) == 0
    rows = read_table(tmp_path / "x" / "recordings.csv").rows
    languages = {split: {r.signed_language for r in rows if r.split == split} for split in out[1:4]}
    assert languages == {"train": {*TRAIN}, "valid": {"asq", "bzs"}, "test": {"gsg", "ase", "sgg"}}
    assert len({row.text for row in rows}) == 14
    assert all(row.values["letters"] == " ".join(row.text) for row in rows)
    assert {row.split for row in read_table(tmp_path / "x" / "table.csv").rows} == {*languages}
    assert main(["--words", "9", *out, "--force"]) == 2
    assert "got 1 numbers of recordings for --split train valid test" in capsys.readouterr().err


def test_only_own_output_is_replaced_and_bad_numbers_are_refused(tmp_path, capsys):
    out = ["--out", str(tmp_path / "x")]
    assert main(["--words", "2", *out]) == main(["--words", "2", *out]) == 0
    assert main(["--words", "3", *out]) == 2
    assert "joined letters of something else" in capsys.readouterr().err
    assert main(["--words", "1", *out, "--force"]) == 0
    assert len(list((tmp_path / "x" / "recordings").iterdir())) == 3
    for words in (
        ["--words", "0"],
        ["--words", "1", "--rests", "1", "0.5"],
        ["--words", "1", "--seed", "-1"],
    ):
        assert main([*words, *out, "--force"]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "table.csv").write_text("mine")
    assert main(["--words", "1", "--out", str(tmp_path / "mine"), "--force"]) == 2
    assert (tmp_path / "mine" / "table.csv").read_text() == "mine"


def test_core_is_the_upper_half_of_the_way():
    assert core_of(np.array([9, 7, 3, 1, 6, 2, 8])) == (2, 6)
    assert core_of(np.array([4.0])) == (0, 1)

"""The same clip, or the same signer, on both sides of a split."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from mmpt.datasets.leaks import find_leaks, shared_with_training
from mmpt.pose.span import Span
from mmpt.processors.table_file import Table, TableRow, read_table
from mmpt.utils.errors import UserError
from mmpt.utils.files import content_ids
from tests.pose.pose_fakes import fake_clip, write_pose
from tests.processors.table_data import table_rows, write_table


def rows_of(tmp_path, *given):
    """(split, content, signer, span) -> rows and their files."""
    rows, files = [], []
    for number, (split, content, signer, span) in enumerate(given):
        file = tmp_path / f"{number}.pose"
        if content is not None:
            file.write_text(content)
        rows.append(TableRow(number + 2, f"r{number}", file, "x", split, signer=signer, span=span))
        files.append(file)
    return rows, files


def test_leaks_of_equal_files_in_two_splits(tmp_path):
    leaks = find_leaks(
        *rows_of(
            tmp_path,
            ("train", "abc", "", None),
            ("test", "abc", "", None),
            ("train", "abd", "", None),
            ("train", "long", "", None),
            ("train", "long", "", None),
            ("test", None, "", None),
            ("train", None, "", None),
        )
    )
    assert [[row.id for row in group] for group in leaks.clips] == [["r0", "r1"]]
    assert [[row.id for row in group] for group in leaks.repeats] == [["r3", "r4"]]


def test_overlapping_spans_of_one_recording_leak(tmp_path):
    def spans(*ends):
        return [("test" if n else "train", "abc", "", Span(a, b, "ms")) for n, (a, b) in enumerate(ends)]

    assert not find_leaks(*rows_of(tmp_path, *spans((0, 10), (10, 20)))).clips
    assert find_leaks(*rows_of(tmp_path, *spans((0, 11), (10, 20)))).clips
    assert find_leaks(*rows_of(tmp_path, *spans((15, None), (10, 20)))).clips
    assert find_leaks(*rows_of(tmp_path, *spans((15, 17), (10, 20)))).clips
    assert not find_leaks(*rows_of(tmp_path, *spans((30, 40), (0, 10)))).clips
    whole = ("test", "abc", "", None)
    assert find_leaks(*rows_of(tmp_path, *spans((0, 0.5)), whole)).clips
    assert find_leaks(*rows_of(tmp_path, whole, *spans((7, 8)))).clips


def test_overlapping_captions_of_one_split_are_no_repeats(tmp_path):
    spans = [Span(a, b, "ms") for a, b in ((0, 11), (10, 20), (0, 11), (12, 13))]
    leaks = find_leaks(*rows_of(tmp_path, *[("train", "abc", "", span) for span in spans]))
    assert [[row.id for row in group] for group in leaks.repeats] == [["r0", "r2"]] and not leaks.clips


def test_leaks_of_signers(tmp_path):
    given = [("train", "a", "x", None), ("train", "a1", "x", None), ("train", "b", "y", None)]
    given.append(("test", "c", "x", None))
    leaks = find_leaks(*rows_of(tmp_path, *given, ("valid", "d", "", None), ("test", "e", "", None)))
    assert leaks.signers == {"x": {"train": 2, "test": 1}} and not leaks.clips


def test_leaks_are_refused_unless_allowed(tmp_path):
    rows, files = rows_of(tmp_path, ("train", "abc", "x", None), ("test", "abc", "x", None))
    shutil.copy(files[0], files[1])
    leaks = find_leaks(rows, files)
    table = Path("t.csv")
    clips = r"t\.csv: the same clip is in two splits: r0 \(train, line 2\), r1 \(test, line 3\)\."
    signers = r"t\.csv, column 'signer': 'x' is in train \(1\), test \(1\)\."
    with pytest.raises(UserError, match=rf"^{clips} Results would be too good.* t\.csv.*--allow-leak clips"):
        leaks.refuse(table, [])
    with pytest.raises(UserError, match=f"^{signers} Results would be too good.*--allow-leak signers"):
        leaks.refuse(table, ["clips"])
    first, second = leaks.refuse(table, ["clips", "signers"])
    assert re.fullmatch(clips, first) and re.fullmatch(signers, second)


def test_shared_with_training_compares_paths(tmp_path):
    rows = table_rows()
    train = next(row for row in rows if row["split"] == "train")
    test = [row for row in rows if row["split"] == "test"]
    test[0]["path"], test[1]["signer"] = train["path"], train["signer"]
    table = read_table(write_table(tmp_path / "t.csv", rows))
    assert shared_with_training(table, "valid") == []
    clips, signers = shared_with_training(table, "test")
    assert "the same clip is in two splits: " in clips and train["id"] in clips and test[0]["id"] in clips
    assert f"'{train['signer']}' is in" in signers


def test_a_long_span_reaches_over_the_ones_inside_it(tmp_path):
    """0-100 holds 10-20 and 30-40: the last one overlaps the first, not its neighbour in time."""
    spans = (("train", (0, 100)), ("train", (10, 20)), ("test", (30, 40)))
    given = [(split, "abc", "", Span(*ends, "ms")) for split, ends in spans]
    [group] = find_leaks(*rows_of(tmp_path, *given)).clips
    assert [row.id for row in group] == ["r0", "r1", "r2"]


def test_parts_are_compared_by_the_frames_that_are_read_of_them(tmp_path):
    """At 25 frames per second: parts below a frame read one, and times that differ less read the same."""
    from mmpt.pose.recording import PoseRecording

    write_pose(tmp_path / "a.pose", fake_clip(frames=30))
    np.save(tmp_path / "a.npy", np.ones((30, 2)))

    def found(*spans, name="a.pose", by_name=False):
        rows = [
            TableRow(n + 2, f"r{n}", tmp_path / name, "x", split, span=span)
            for n, (split, span) in enumerate(spans)
        ]
        leaks = find_leaks(rows, [row.path for row in rows], by_name)
        return [[[row.id for row in group] for group in kind] for kind in (leaks.clips, leaks.repeats)]

    def ms(start, end):
        return Span(start, end, "ms")

    assert PoseRecording(tmp_path / "a.pose").fps == 25
    seconds = [("train", ms(0, 0.3)), ("test", ms(0.3, 0.7)), ("train", ms(400, 800))]
    assert found(*seconds) == [[["r0", "r1"]], []]
    assert found(*seconds, by_name=True) == [[], []]
    assert found(("train", ms(0, 0.3)), ("train", ms(0.3, 0.7))) == [[], [["r0", "r1"]]]
    assert found(("train", ms(0, 401)), ("test", ms(399, 800))) == [[], []]
    assert found(("train", ms(0, 421)), ("test", ms(379, 800))) == [[["r0", "r1"]], []]
    assert found(("train", ms(1160, 2000)), ("test", ms(1160, None))) == [[["r0", "r1"]], []]
    assert found(("train", ms(1300, 1400)), ("test", ms(1300, 1400))) == [[], []]  # after the end: unreadable
    rows = [("train", Span(28, 40, "frames")), ("test", Span(29, None, "frames"))]
    assert found(*rows, name="a.npy") == [[["r0", "r1"]], []]


def test_clips_of_a_signer_without_a_split_are_not_counted(tmp_path):
    given = [("train", "a", "x", None), ("", "b", "x", None)]
    assert find_leaks(*rows_of(tmp_path, *given)).signers == {}


def test_two_files_of_one_size_are_compared_by_content_and_others_are_not_read(tmp_path, monkeypatch):
    rows, files = rows_of(
        tmp_path, *((split, text, "", None) for split, text in (("train", "abc"), ("test", "abd")))
    )
    read = []
    monkeypatch.setattr("mmpt.utils.files.sha256", lambda file: read.append(file) or file.read_text())
    assert not find_leaks(rows, files).clips
    longer = tmp_path / "longer.pose"
    longer.write_text("abcd")
    assert len(set(content_ids([*files, longer, tmp_path / "no.pose", tmp_path / "nor.pose"]).values())) == 5
    assert read == files  # once


def test_messages_of_many_leaks_name_the_first_and_count_the_others(tmp_path):
    table = Path("t.csv")

    def clips(count):  # the first two are in train, the others in test
        given = [("train" if n < 2 else "test", "abc", f"s{n}", None) for n in range(count)]
        return find_leaks(*rows_of(tmp_path, *given)).messages(table)["clips"][0]

    names = "r0 (train, line 2), r1 (train, line 3), r2 (test, line 4), r3 (test, line 5)"
    assert clips(4) == f"t.csv: the same clip is in two splits: {names}."
    assert clips(5) == f"t.csv: the same clip is in two splits: {names} and 1 more."
    assert clips(7) == f"t.csv: the same clip is in two splits: {names} and 3 more."
    for signers in (1, 2, 4):
        given = [(split, f"{split}{n}", f"s{n}", None) for n in range(signers) for split in ("train", "test")]
        leaks = find_leaks(*rows_of(tmp_path, *given))
        more = f" (and {signers - 1} more)" if signers > 1 else ""
        shown = f"t.csv, column 'signer': 's0' is in train (1), test (1).{more}"
        assert leaks.in_short(table) == [shown]
        with pytest.raises(UserError, match=f"^{re.escape(shown)} Results would"):
            leaks.refuse(table, [])


def test_shared_with_training_reads_no_file(tmp_path):
    """Copies have another name; what `evaluate` needs is quick, and `check` reads the files."""
    file = tmp_path / "clip.pose"
    file.write_text("abc")
    rows = [
        TableRow(2, "r0", file, "x", "train"),
        TableRow(3, "r1", shutil.copy(file, tmp_path / "copy.pose"), "x", "test"),
        TableRow(4, "r2", tmp_path / "missing.pose", "x", "train"),
        TableRow(5, "r3", tmp_path / "missing.pose", "x", "test"),
        TableRow(6, "r4", file, "x", "valid"),
    ]
    table = Table(tmp_path / "t.csv", ["id", "path", "text", "split"], rows)
    names = "r2 (train, line 4), r3 (test, line 5)"
    assert shared_with_training(table, "test") == [f"t.csv: the same clip is in two splits: {names}."]
    assert "r0 (train, line 2), r4 (valid, line 6)" in shared_with_training(table, "valid")[0]

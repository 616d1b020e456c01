"""The same clip, or the same signer, on both sides of a split."""

import shutil
from pathlib import Path

import pytest

from mmpt.datasets.leaks import find_leaks, shared_with_training
from mmpt.pose.span import Span
from mmpt.processors.table_file import TableRow, read_table
from mmpt.utils.errors import UserError
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


def test_leaks_of_signers(tmp_path):
    given = [("train", "a", "x", None), ("train", "b", "y", None), ("test", "c", "x", None)]
    leaks = find_leaks(*rows_of(tmp_path, *given, ("valid", "d", "", None), ("test", "e", "", None)))
    assert leaks.signers == {"x": {"train": 1, "test": 1}} and not leaks.clips


def test_leaks_are_refused_unless_allowed(tmp_path):
    rows, files = rows_of(tmp_path, ("train", "abc", "x", None), ("test", "abc", "x", None))
    shutil.copy(files[0], files[1])
    leaks = find_leaks(rows, files)
    table = Path("t.csv")
    with pytest.raises(UserError, match=r"the same clip is in two splits: r0 .* r1 .*--allow-leak clips"):
        leaks.refuse(table, [])
    with pytest.raises(UserError, match=r"'x' is in train \(1\), test \(1\).*--allow-leak signers"):
        leaks.refuse(table, ["clips"])
    assert len(leaks.refuse(table, ["clips", "signers"])) == 2


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


def test_clips_of_a_signer_without_a_split_are_not_counted(tmp_path):
    given = [("train", "a", "x", None), ("", "b", "x", None)]
    assert find_leaks(*rows_of(tmp_path, *given)).signers == {}

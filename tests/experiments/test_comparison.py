"""Published numbers: which files are read, and which are refused."""

import pytest

from mmpt.experiments.comparison import KEYS, read_published
from mmpt.utils.errors import UserError

HEADER = ",".join(["config", *KEYS, "note"])
VALUES = ",".join(["0.5"] * len(KEYS))


def test_published_numbers_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "published.csv"
    path.write_bytes(f"\ufeff{HEADER}\r\ntest_a,{VALUES[3:]},a note\r\n".encode())
    row = read_published(path)["test_a"]
    assert row.values == dict.fromkeys(KEYS[1:], 0.5) and row.note == "a note"


@pytest.mark.parametrize(
    ("header", "lines", "said"),
    [
        (HEADER, [f"a,{VALUES},x", f"a,{VALUES},y"], "there are two rows of a"),
        (f"{HEADER},note", [f"a,{VALUES},x,y"], "there are two columns 'note'"),
        (HEADER, [f"a,nan{VALUES[3:]},x"], f"a, column '{KEYS[0]}': expected a number, got 'nan'"),
        (HEADER, [f"a,1_0{VALUES[3:]},x"], "expected a number, got '1_0'"),
        (HEADER, ["a,0.5"], "line 2: expected 10 cells"),
        (HEADER, [f"a,{VALUES},x,y"], "line 2: expected 10 cells"),
        (HEADER, [f'a,{VALUES},"x'], "line 2: not readable as a table"),
        (HEADER.replace(",", ";"), [], "separated by a semicolon"),
    ],
)
def test_published_numbers_are_refused(tmp_path, header, lines, said):
    path = tmp_path / "published.csv"
    path.write_text("\n".join([header, *lines, ""]))
    with pytest.raises(UserError) as refused:
        read_published(path)
    assert said in str(refused.value)


def test_published_numbers_that_are_no_utf_8(tmp_path):
    path = tmp_path / "published.csv"
    path.write_bytes(f"{HEADER}\na,{VALUES},".encode() + b"\xff\n")
    with pytest.raises(UserError, match="it is not UTF-8 text"):
        read_published(path)

"""Text as people type it."""

import pytest

from mmpt.utils.errors import UserError
from mmpt.utils.text import counted, nfc, read_lines

ODD = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg"


def test_lines_end_at_line_feeds_only_and_become_nfc(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(f"\ufeff{ODD}\r\n e\u0301 \n\nlast".encode())
    assert read_lines(path) == [ODD, "\u00e9", "", "last"]
    assert nfc("e\u0301") == "\u00e9"


def test_a_carriage_return_alone_is_refused(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"one\ntwo\rthree\n")
    with pytest.raises(UserError, match=r"list\.txt, line 2: it holds a carriage return"):
        read_lines(path)


def test_counts_agree_with_their_nouns():
    counts = (0, 1, 2)
    assert [counted(n, "clip") for n in counts] == ["0 clips", "1 clip", "2 clips"]
    told = ["0 clips show", "1 clip shows", "2 clips show"]
    assert [counted(n, "clip shows", "clips show") for n in counts] == told

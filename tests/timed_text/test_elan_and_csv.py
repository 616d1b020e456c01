"""ELAN and CSV files."""

import csv
import io
import random
import re
from pathlib import Path

import pytest

from mmpt.timed_text import Caption, Findings, read_captions, read_elan, write_elan, write_timed_csv
from mmpt.utils.errors import UserError

EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds"/>
<TIME_ORDER>
<TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="100"/><TIME_SLOT TIME_SLOT_ID="ts2"/>
<TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="900"/><TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="1500"/>
</TIME_ORDER>
<TIER LINGUISTIC_TYPE_REF="lt" TIER_ID="Gloss_RH" PARTICIPANT="S1">
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
<ANNOTATION_VALUE>HALF</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts3" TIME_SLOT_REF2="ts4">
<ANNOTATION_VALUE>TREE</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
</TIER>
<TIER LINGUISTIC_TYPE_REF="sub" PARENT_REF="Gloss_RH" TIER_ID="English">
<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a3" ANNOTATION_REF="a2">
<ANNOTATION_VALUE>a tree</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
</TIER>
<TIER LINGUISTIC_TYPE_REF="sub" PARENT_REF="English" TIER_ID="Words">
<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a4" ANNOTATION_REF="a3">
<ANNOTATION_VALUE>a</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a5" ANNOTATION_REF="a3" PREVIOUS_ANNOTATION="a4">
<ANNOTATION_VALUE>tree</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
</TIER>
<LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="lt" TIME_ALIGNABLE="true"/>
<LINGUISTIC_TYPE CONSTRAINTS="Symbolic_Subdivision" GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="sub"
  TIME_ALIGNABLE="false"/>
</ANNOTATION_DOCUMENT>
"""


@pytest.fixture
def eaf(tmp_path: Path) -> Path:
    path = tmp_path / "a.eaf"
    path.write_text(EAF, encoding="utf-8")
    return path


def with_media(eaf: Path, *media: tuple[str, str, str | None]) -> None:
    """Link media (URL, MIME type, TIME_ORIGIN)."""
    lines = [
        f'<MEDIA_DESCRIPTOR MEDIA_URL="{url}" MIME_TYPE="{kind}"'
        + (f' TIME_ORIGIN="{origin}"/>' if origin is not None else "/>")
        for url, kind, origin in media
    ]
    header = '<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">'
    eaf.write_text(EAF.replace(f"{header[:-1]}/>", f"{header}{''.join(lines)}</HEADER>"), encoding="utf-8")


FRONT, SIDE = ("file:///C:/my%20films/A.mp4", "video/mp4"), ("./side.mp4", "video/mp4")


@pytest.mark.parametrize(
    "media, shift",
    [
        ([(*FRONT, None), (*SIDE, "4000")], 0),
        ([(*SIDE, "4000"), (*FRONT, "250")], 250),
        ([(*FRONT, "-200"), ("a.wav", "audio/x-wav", "4000")], -200),
        ([(*SIDE, "4000"), ("x.wav", "audio/x-wav", None)], 4000),
    ],
)
def test_elan_times_are_those_of_the_video_with_the_name_of_the_file(eaf, media, shift):
    with_media(eaf, *media)
    found = Findings()
    captions = read_elan(eaf, ["Words"], offset_ms=50, findings=found)
    assert {(caption.start_ms, caption.end_ms) for caption in captions} == {(950 + shift, 1550 + shift)}
    moved = f"ELAN annotations whose video is shifted by {shift} ms in ELAN, moved"
    assert found.counts.get(moved) == (2 if shift else None)


@pytest.mark.parametrize(
    "media, message",
    [
        (
            [(*SIDE, "4000"), ("back.mp4", "video/mp4", None)],
            r"back.mp4 by 0 ms\): choose one \(--media",
        ),
        (
            [("1/A.mp4", "video/mp4", None), ("2/A.mp4", "video/mp4", "250")],
            r"A.mp4 by 0 ms, A.mp4 by 250 ms",
        ),
        ([(*FRONT, "soon")], "the TIME_ORIGIN 'soon' is no number of milliseconds"),
    ],
)
def test_elan_media_whose_shift_is_not_known_are_an_error(eaf, media, message):
    with_media(eaf, *media)
    with pytest.raises(UserError, match=message):
        read_elan(eaf, ["Words"])


@pytest.mark.parametrize(
    "name, shift", [("side.mp4", 4000), ("b*.mp4", 0), ("*", None), ("A.mp4", None), ("SIDE*", None)]
)
def test_elan_media_are_chosen_by_name(eaf, name, shift):
    with_media(eaf, (*SIDE, "4000"), ("back.mp4", "video/mp4", None))
    if shift is None:
        reason = "ELAN shifts" if name == "*" else "there is no media file .*Media: 'side.mp4', 'back.mp4'"
        with pytest.raises(UserError, match=reason):
            read_captions(eaf, ["Words"], media=name)
    else:
        captions = read_captions(eaf, ["Words"], media=name)
        assert {(one.start_ms, one.end_ms) for one in captions} == {(900 + shift, 1500 + shift)}


def test_the_chosen_media_come_before_those_with_the_name_of_the_file(eaf):
    with_media(eaf, (*FRONT, "250"), (*SIDE, "4000"))
    assert read_elan(eaf, ["Words"], media="side.*")[0].start_ms == 4900


def test_elan_tiers_by_name_and_dependent_tiers_through_their_parents(eaf):
    found = Findings()
    assert read_elan(eaf, ["Gloss_RH"], findings=found) == [Caption(900, 1500, "TREE", "Gloss_RH", "S1")]
    assert found.lines() == [
        f"ELAN annotations without a time, left out: 1 (first: {eaf}, tier 'Gloss_RH', annotation a1)"
    ]
    assert read_elan(eaf, ["English"], offset_ms=-1000) == [Caption(0, 500, "a tree", "English")]
    found = Findings()
    assert [c.text for c in read_captions(eaf, ["Words", "English"], findings=found)] == [
        "a",
        "a tree",
        "tree",
    ]
    assert found.counts["ELAN annotations that share the time of one annotation, kept"] == 2
    with pytest.raises(
        UserError, match=r"no tier 'Gloss_LH'. Did you mean 'Gloss_RH'\? Tiers: 'Gloss_RH', 'E"
    ):
        read_elan(eaf, ["Gloss_LH"])


@pytest.mark.parametrize(
    "old, new, words",
    [
        ('_ID="a5"', '_ID="a4"', "ids have to be unique"),
        ('TIER_ID="Words"', 'TIER_ID="English"', "ids have to be unique"),
        ("</TIER>", "", "not readable as an ELAN file"),
        ('TIME_VALUE="900"', 'TIME_VALUE="9e2"', "not readable as an ELAN file"),
        ('TIME_VALUE="900"', 'TIME_VALUE="1_000"', "the time '1_000' is no number of milliseconds"),
        ('TIME_VALUE="900"', 'TIME_VALUE="\u0669\u0660\u0660"', "is no number of milliseconds"),
        ("xsi:noNamespaceSchemaLocation", "xsi:x", r"ELAN file \(.*noNamespaceSchemaLocation' is missing\)"),
        (EAF[200:], "", "not readable as an ELAN file"),
        ('"milliseconds"', '"PAL-frames"', "its times are in PAL-frames"),
        ('TIME_SLOT_ID="ts2"', 'TIME_SLOT_ID="ts1"', "elements TIME_SLOT have .* ids have to be unique"),
        ("<ANNOTATION_VALUE>", "<ANNOTATION_VALUE><b>x</b>", "holds an XML element b"),
    ],
)
def test_damaged_elan_files_are_errors(eaf, old, new, words):
    eaf.write_text(EAF.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError, match=words):
        read_elan(eaf)


def test_elan_references_in_a_circle_or_to_nothing_have_no_time(eaf):
    for target in ("a4", "a99"):
        eaf.write_text(
            EAF.replace(
                'ANNOTATION_ID="a3" ANNOTATION_REF="a2"', f'ANNOTATION_ID="a3" ANNOTATION_REF="{target}"'
            )
        )
        found = Findings()
        assert read_elan(eaf, ["English", "Words"], findings=found) == []
        assert found.counts == {"ELAN annotations without a time, left out": 3}


def test_damaged_elan_never_ends_in_a_traceback(eaf):
    rng = random.Random(0)
    for _ in range(150):
        start = rng.randrange(len(EAF))
        eaf.write_text(EAF[:start] + rng.choice(["", '"', "<", "x"]) + EAF[start + rng.randrange(1, 40) :])
        try:
            read_elan(eaf, findings=Findings())
        except UserError as error:
            assert "\n" not in str(error)


def test_elan_round_trip_with_overlaps_on_further_tiers(tmp_path):
    path, video = tmp_path / "out.eaf", tmp_path / "a b.mp4"
    captions = [Caption(0, 500, "A & <b>"), Caption(400, 900, "ü"), Caption(500, 700, "C", signer="S")]
    for _ in range(2):  # the second writes over the first, and leaves no .bak
        write_elan(path, {"sign": captions, "sign-2": [], "other": [Caption(5, 6, "x", signer="S")]}, video)
    assert [file.name for file in tmp_path.iterdir()] == ["out.eaf"]
    assert read_elan(path) == [
        Caption(0, 500, "A & <b>", "sign"),
        Caption(5, 6, "x", "other", "S"),
        Caption(400, 900, "ü", "sign-3"),
        Caption(500, 700, "C", "sign"),
    ]
    assert 'RELATIVE_MEDIA_URL="./a b.mp4"' in path.read_text() and "/a%20b.mp4" in path.read_text()
    for bad, words in ((Caption(3, 3, "x"), "then ends"), (Caption(0, 3, "x\x02"), "XML cannot hold")):
        with pytest.raises(UserError, match=words):
            write_elan(path, {"sign": [bad]})
    for tiers in ({}, {"": [Caption(0, 3, "x")]}):
        with pytest.raises(UserError, match="no tier"):
            write_elan(path, tiers)
    for tiers, media in (
        ({"sign\x02": []}, None),
        ({"sign": [Caption(0, 3, "x", signer="\x02")]}, None),
        ({"sign": []}, tmp_path / "a\x02.mp4"),
        ({"sign": []}, tmp_path / "a\udcff.mp4"),
    ):
        with pytest.raises(UserError, match="XML cannot hold"):
            write_elan(path, tiers, media)
    assert len(read_elan(path)) == 4


def test_csv_units_by_name_by_option_or_refused(tmp_path):
    path = tmp_path / "a.csv"
    expected = [Caption(1500, 2250, "a, b")]
    for header, cells in (
        ("start_ms,end_ms", "1500,2250.2"),
        ("start_s,End_S", "1.5,2.25"),
        ("start,end_seconds", "00:00:01.5,2.25"),
    ):
        path.write_text(f'{header},text\n{cells},"a,\nb"\n')
        assert read_captions(path) == expected
    path.write_text('start,end,text\n\n1.5,2.25,"a, b"\n')
    with pytest.raises(UserError, match=r"line 3, column 'start': '1.5' may be milliseconds or seconds"):
        read_captions(path)
    assert read_captions(path, unit="s") == expected
    assert read_captions(path, unit="ms") == []  # 2 to 2 ms
    path.write_bytes(b'\xef\xbb\xbf"Start_S",end_s,text\r1.5,00:02.25,"a, b"\r\n')
    assert read_captions(path, unit="s") == expected
    with pytest.raises(UserError, match="line 2, column 'start_s': the name of the column says s, not ms"):
        read_captions(path, unit="ms")


@pytest.mark.parametrize(
    "text, words",
    [
        ("start_ms,end_ms,text\n1,2\n", "line 2: expected 3 cells, got 2"),
        ('start_ms,end_ms,text\n1,2,"a\n', "line 2: not readable as CSV"),
        ("start_ms,end_ms,text\n1,nan,a\n", "line 2, column 'end_ms': expected a number"),
        ("start_ms,text\n1,a\n", "expected one column of end_ms"),
        ("start_ms,start,end,text\n1,1,2,a\n", "expected one column of start_ms"),
        ("start_ms,end_ms\n1,2\n", "expected a column text"),
        ("", "expected one column"),
        ("\n\nstart_ms,end_ms,gloss,Gloss\n", "line 3: there are two columns 'gloss'"),
        ("start_s,end_s,text\n1,1e308,a\n", "line 2, column 'end_s': expected a number"),
        ("start_s,end_s,text\n1,1e9,a\n", "line 2: 1 to 1e[+]09 s: no recording is that long"),
        ("start_s,end_s,text\n1,1_0,a\n", "line 2, column 'end_s': expected a number"),
        ('start_s,end_s,text\n"0,5","1,5",a\n', "line 2, column 'start_s': expected a number"),
        (
            "start_s;end_s;text\n1;2;a\n",
            "cells seem to be separated by a semicolon: separate them by a comma",
        ),
        ("sep=;\nstart_s;end_s;text\n1;2;a\n", "Remove the first line, which only names the separator"),
    ],
)
def test_csv_errors_name_the_line(tmp_path, text, words):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_captions(path)


@pytest.mark.parametrize(
    "rows",
    [
        'start_ms,end_ms,text\n0,100,"x\n200,300,y"\n400,500,z\n',
        'text,start_ms,end_ms\n"x,0,100\ny",200,300\nz,400,500\n',
        'start_ms,end_ms,text,tier,signer\n0,100,"x,A,s\n200,300,y",B,s\n',
        'start,end,text\n0:01.0,0:02.0,"x\n0:03.0,0:04.0,y"\n',
    ],
)
def test_a_stray_quote_does_not_swallow_rows(tmp_path, rows):
    path = tmp_path / "a.csv"
    path.write_text(rows)
    with pytest.raises(UserError, match=r"line 2: a cell that starts with 'x.* its quote is not closed"):
        read_captions(path)


def test_a_quoted_cell_may_hold_lines_and_numbers(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('start_ms,end_ms,text\n0,100,"Hello,\nit is 5,000,\n9,8,7"\n')
    assert read_captions(path) == [Caption(0, 100, "Hello, it is 5,000, 9,8,7")]


def test_white_space_around_a_number_is_no_part_of_it(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("start_ms,end_ms,text\n\x1f0\u2003, 100\x1d,a\n")
    assert read_captions(path) == [Caption(0, 100, "a")]


def test_a_long_cell_is_no_number(tmp_path):
    """The time grows with its length; with its square, this test would run for minutes."""
    path = tmp_path / "a.csv"
    path.write_text(f"start_ms,end_ms,text\n0,{'1' * 120_000}x,a\n")
    with pytest.raises(UserError, match="line 2, column 'end_ms': expected a number"):
        read_captions(path)


def test_damaged_csv_never_ends_in_a_traceback_and_loses_no_row(tmp_path):
    """Errors name the line; rows that are read or counted are all rows that the csv module finds."""
    text = (
        'start_s,end_s,tier,text\n1.5,2.25,a,"one, two"\n\n0:02.5,00:00:03,a,"say ""x""\nand y"\n'
        "4,5.5,b,three\n6,7,b,four\n"
    )
    parts = ["", '"', ",", "\n", "\r", "\0", "\t", "9", "-", ":", "inf", "e9", "e999", "1e308", "ü", "\udcfc"]
    rng, refused = random.Random(1), 0
    for number in range(400):
        path, changed = tmp_path / f"a.{'ct'[number % 2]}sv", text.replace(",", ",\t"[number % 2])
        at = rng.randrange(len(changed))
        changed = changed[:at] + rng.choice(parts) + changed[at + rng.randrange(8) :]
        path.write_bytes(changed.encode(errors="surrogateescape"))
        found = Findings()
        try:
            captions = read_captions(path, findings=found)
        except UserError as error:
            refused += 1
            assert re.search(r"line \d+(:|,)|zero bytes|not utf-8 text", str(error)) and "\n" not in str(
                error
            )
            continue
        rows = csv.reader(io.StringIO(changed, newline=None), delimiter=",\t"[number % 2])
        left_out = sum(count for kind, count in found.counts.items() if "left out" in kind)
        assert len(captions) + left_out == sum(any(cell.strip() for cell in row) for row in rows) - 1
        assert all(0 <= caption.start_ms < caption.end_ms and caption.text for caption in captions)
    assert 100 < refused < 390


def test_csv_round_trip_and_tiers(tmp_path):
    captions = [Caption(0, 10, 'say "a"\tb', "x", "S1"), Caption(5, 9, "ü", "y")]
    for name in ("a.csv", "a.tsv"):
        write_timed_csv(tmp_path / name, captions)
        assert [c.start_ms for c in read_captions(tmp_path / name)] == [0, 5]
        assert read_captions(tmp_path / name, ["y"]) == captions[1:]
    with pytest.raises(UserError, match=r"no tier 'z'\. Column 'tier' has: 'x', 'y'"):
        read_captions(tmp_path / "a.csv", ["z"])
    with pytest.raises(UserError, match="expected a subtitle file"):
        read_captions(tmp_path / "a.txt")

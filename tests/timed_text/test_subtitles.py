"""SRT, WebVTT and YouTube's JSON."""

import json
import random
import re

import pysubs2
import pytest

from mmpt.timed_text import Caption, Findings, parse_time, read_captions, read_srt, read_webvtt
from mmpt.utils.errors import UserError

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>Guten</i> Tag
zusammen

2
00:00:02,000 --> 00:00:04,000 X1:40 X2:600
{\\an8}Grün

3
00:00:05,000 --> 00:00:05,000
Blitz

4
00:00:06,000 --> 00:00:07,000

5
00:00:09,000 --> 00:00:08,000
zurück

6
00:00:10,000 --> 00:00:11,000
Ich bin
5
"""
CAPTIONS = [
    Caption(1000, 2500, "Guten Tag zusammen"),
    Caption(2000, 4000, "Grün"),
    Caption(10000, 11000, "Ich bin 5"),
]
VTT = """WEBVTT - a title

STYLE
::cue { color: red }

NOTE a comment
00:00 is no time

intro
00:01.000 --> 00:02.500 align:start
<v Ann><c.yellow>Salt</c> &amp; <00:01.500>pepper <3

01:00:00.000 --> 01:00:01.000
- Yes.
"""


def test_srt_captions_and_what_is_left_out(tmp_path):
    path, found = tmp_path / "a.srt", Findings()
    path.write_text(SRT, encoding="utf-8")
    assert read_srt(path, findings=found) == CAPTIONS
    assert found.counts == {
        "markup tags in captions, removed": 3,
        "captions of no duration, left out": 1,
        "captions without text, left out": 1,
        "captions that end before they start, left out": 1,
        "captions that overlap an earlier one of their tier, kept": 1,
    }
    assert found.first["captions without text, left out"].endswith("a.srt, line 15")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_srt_encodings_are_told_by_their_mark_or_by_option(tmp_path, encoding):
    path = tmp_path / "a.srt"
    path.write_bytes(SRT.replace("\n", "\r\n").encode(encoding))
    if encoding == "cp1252":
        with pytest.raises(UserError, match=r"not utf-8 text \(byte \d+\): give its encoding \(--encoding\)"):
            read_srt(path)
        assert read_srt(path, encoding="cp1252") == CAPTIONS
    else:
        assert read_srt(path) == CAPTIONS
    path.write_bytes(SRT.encode("utf-16-le"))
    with pytest.raises(UserError, match=r"zero bytes|not utf-8"):
        read_srt(path)
    path.write_bytes(SRT.encode("utf-16"))
    with pytest.raises(UserError, match="byte order mark of utf-16, not cp1252"):
        read_srt(path, encoding="cp1252")
    with pytest.raises(UserError, match="no text encoding 'utf-7x'"):
        read_srt(path, encoding="utf-7x")
    path.write_text("1\n00:00:00,100 --> 00:00:01,000\nxn--a.b\n")
    with pytest.raises(UserError, match="not punycode text: give its encoding"):
        read_srt(path, encoding="punycode")


def test_offsets_cut_and_drop_what_is_before_the_recording(tmp_path):
    path, found = tmp_path / "a.srt", Findings()
    path.write_text(SRT, encoding="utf-8")
    assert read_captions(path, offset_ms=-3000, findings=found) == [
        Caption(0, 1000, "Grün"),
        Caption(7000, 8000, "Ich bin 5"),
    ]
    assert found.counts["captions that end before the recording begins, left out"] == 1
    assert found.counts["captions that start before the recording, cut at 0"] == 1
    path.write_text("1\n-00:00:01,000 --> 00:00:02,000\na\n")
    assert read_srt(path, offset_ms=1500) == [Caption(500, 3500, "a")]


@pytest.mark.parametrize(
    "bad, line",
    [
        ("3\n00:00:05,000 -> 00:00:06,000\nb", 6),
        ("3\n00:00:05,000 -->\nb", 6),
        ("3\n00:00:05,000\nb", 6),
        ("00:00:05,000 00:00:06,000\nb", 5),
        ("3\n00:00:05,000 --> 00:75:06,000\nb", 6),
        ("3\n00:00:05,000 --> 0O:00:06,000\nb", 6),
        ("3\nb", 5),
        ("3", 5),
        ("b\n3\n00:00:05,000 --> 00:00:06,000\nc", 5),
    ],
)
def test_malformed_srt_blocks_are_errors_with_their_line(tmp_path, bad, line):
    path = tmp_path / "a.srt"
    path.write_text(f"1\n00:00:01,000 --> 00:00:02,000\na\n\n{bad}\n")
    with pytest.raises(UserError, match=rf"a\.srt, line {line}: "):
        read_srt(path)


def test_srt_that_pysubs2_changes_without_a_word(tmp_path):
    """Long recordings, numbers as text, blank lines, missing blank lines, and times within a text."""
    path, found = tmp_path / "a.srt", Findings()
    path.write_text(
        "1\n100:00:01,000 --> 100:00:02,000\nlate\n2\n0:0:3,5 --> 0:0:4,0\n<00:00:03.600>a<00:00:03.700>b\n\n"
        "still b\n\n3\n0:0:5,0 --> 0:0:6,0\nthree\n"
    )
    assert read_srt(path, findings=found) == [
        Caption(3500, 4000, "ab still b"),
        Caption(5000, 6000, "three"),
        Caption(360001000, 360002000, "late"),
    ]
    assert found.counts == {
        "captions without a blank line before them, read": 1,
        "markup tags in captions, removed": 2,
        "blank lines within a caption's text, removed": 1,
    }


def test_webvtt(tmp_path):
    path = tmp_path / "a.vtt"
    path.write_text(VTT)
    assert read_webvtt(path) == [
        Caption(1000, 2500, "Salt & pepper <3"),
        Caption(3600000, 3601000, "- Yes."),
    ]
    for bad, words in (
        (VTT.removeprefix("WEBVTT"), "line 1: expected WEBVTT"),
        (VTT + "\nstray text\n", "line 16: expected a cue"),
        (VTT + "00:05.000 --> 00:06.000\nb\n", "line 15: a blank line is missing"),
        ("WEBVTT\n00:05.000 --> 00:06.000\nb\n", "line 2: a blank line is missing"),
        (VTT + "\nNOTE b\n00:05.000 --> 00:06.000\nb\n", "line 17: a blank line is missing"),
        (VTT + "\n00:05 -> 00:06.000\nb\n", "line 16: expected a cue"),
        (VTT + "\n00:05.000 --> later\nb\n", "line 16: expected times"),
    ):
        path.write_text(bad)
        with pytest.raises(UserError, match=words):
            read_webvtt(path)


@pytest.mark.parametrize("text", ["1:1 " * 500_000, "->" * 500_000])
def test_long_lines_are_read(tmp_path, text):
    """Their time grows with their length; with its square, this test would not end."""
    path = tmp_path / "a.srt"
    path.write_text(f"1\n00:00:00,000 --> 00:00:01,000\n{text}\n")
    assert read_captions(path) == [Caption(0, 1000, text.strip())]


def test_a_time_map_of_webvtt_is_announced(tmp_path):
    path, found = tmp_path / "a.vtt", Findings()
    time_map = "X-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:900000"
    path.write_text(f"WEBVTT\n{time_map}\n\n00:00.000 --> 00:01.000\nYes.\n")
    assert read_captions(path, findings=found) == [Caption(0, 1000, "Yes.")]
    assert found.lines() == [f"time maps (X-TIMESTAMP-MAP), not applied: 1 (first: {path}, line 2)"]


def test_webvtt_character_references(tmp_path):
    path = tmp_path / "a.vtt"
    path.write_text("WEBVTT\n\n00:00.000 --> 00:01.000\n&#9731;\n")
    assert read_captions(path) == [Caption(0, 1000, "\N{SNOWMAN}")]
    path.write_text(f"WEBVTT\n\n00:00.000 --> 00:01.000\n&#{'9' * 5000};\n")
    with pytest.raises(UserError, match="line 3: not readable as a caption"):
        read_captions(path)


@pytest.mark.parametrize("suffix", ["srt", "vtt", "json3"])
def test_subtitles_have_no_tiers(tmp_path, suffix):
    with pytest.raises(UserError, match="there is no tier 'x': subtitles have no tiers"):
        read_captions(tmp_path / f"a.{suffix}", ["x"])


def test_youtube_json(tmp_path):
    path = tmp_path / "a.json3"
    events = [
        {"tStartMs": 0, "dDurationMs": 9, "id": 1},
        {"tStartMs": 1200, "dDurationMs": 800, "segs": [{"utf8": "one "}, {"utf8": "two\n"}]},
        {"tStartMs": 1900, "dDurationMs": 10, "aAppend": 1, "segs": [{"utf8": "\n"}]},
    ]
    path.write_text(json.dumps({"wireMagic": "pb3", "events": events}))
    assert read_captions(path) == [Caption(1200, 2000, "one two")]
    half = json.dumps({"events": [{"tStartMs": 0, "dDurationMs": 9, "segs": [{"utf8": "\ud83d"}]}]})
    empty = half.replace(json.dumps("\ud83d"), "null")
    wrong = ("[]", '{"events": 3}', '{"events": [{"segs": []}]}', "{", '{"events": [3]}')
    for bad in (*wrong, '{"events": ["segs"]}', half, empty):
        path.write_text(bad)
        with pytest.raises(UserError, match="YouTube's JSON"):
            read_captions(path)


@pytest.mark.parametrize("suffix", ["srt", "vtt"])
def test_well_formed_files_are_read_as_by_pysubs2(tmp_path, suffix):
    rng = random.Random(0)
    subs, words = pysubs2.SSAFile(), ["ä", "word", "x,y", "it's", "—", "漢"]
    for _ in range(200):
        start = rng.randrange(10**7)
        text = r"\N".join(" ".join(rng.choices(words, k=3)) for _ in range(rng.randrange(1, 4)))
        subs.append(pysubs2.SSAEvent(start=start, end=start + rng.randrange(1, 9000), text=text))
    path = tmp_path / f"a.{suffix}"
    subs.save(str(path))
    expected = sorted(Caption(e.start, e.end, " ".join(e.plaintext.split())) for e in subs)
    assert read_captions(path) == expected


@pytest.mark.parametrize("text, suffix", [(SRT, "srt"), (VTT, "vtt")])
def test_damaged_subtitles_are_errors_of_one_line_or_lose_no_word(tmp_path, text, suffix):
    """Of a file with a changed line, every word of a text that is not counted as left out is read."""
    rng = random.Random(1)
    path = tmp_path / f"a.{suffix}"
    refused = 0
    for _ in range(400):
        lines = text.split("\n")
        place = rng.randrange(len(lines))
        change = rng.randrange(4)
        if change == 0:
            del lines[place]
        elif change == 1:
            lines.insert(place, rng.choice(["", "extra", "7", "00:00:20,000 --> 00:00:21,000", "-->"]))
        elif change == 2:
            cut = rng.randrange(len(lines[place]) + 1)
            lines[place] = (
                lines[place][:cut] + rng.choice(["", ":", "-", "<", "\0", "9"]) + lines[place][cut + 1 :]
            )
        else:
            lines = "\n".join(lines)[: rng.randrange(len(text))].split("\n")
        path.write_text("\n".join(lines), encoding="utf-8")
        found = Findings()
        try:
            captions = read_captions(path, findings=found)
        except UserError as error:
            refused += 1
            assert re.search(r"line \d+: |zero bytes", str(error)) and "\n" not in str(error)
            continue
        named = suffix == "vtt" and ("extra" in lines[:10] or "" in lines[place - 1 : place])  # no text
        if "extra" in lines and not named and not any("left out" in kind for kind in found.counts):
            assert any("extra" in caption.text.split() for caption in captions)
        assert all(0 <= caption.start_ms < caption.end_ms and caption.text for caption in captions)
    assert 50 < refused < 400


def test_parse_time():
    times = {"1:02:03.5": 3723500, "02:03,25": 123250, "-0:01.000": -1000, "123:00:00": 442800000}
    assert {text: parse_time(text) for text in times} == times
    assert [parse_time(text) for text in ("", "5", "0:60", "1:2:3:4", "a:01", "00:00:01.", "1:-2")] == [
        None
    ] * 7


def test_repeated_captions_are_left_out_and_counted(tmp_path):
    path, found = tmp_path / "a.srt", Findings()
    cue = "1\n00:00:01,000 --> 00:00:02,000\na\n\n"
    path.write_text(cue + cue.replace("a\n", "b\n") + cue)
    assert [caption.text for caption in read_srt(path, findings=found)] == ["a", "b"]
    assert found.first["repeated captions (same time and text), left out"].endswith("a.srt, line 10")

"""Subtitles: SRT, WebVTT, and the JSON of YouTube.

Files are read strictly: a block that is not a caption is an error with its line. (The package pysubs2 drops
or changes such blocks without a word: it takes the first of two hours 100:00:00 as 00:00:00, a caption with
only one time as text of the one before, comments and styles of WebVTT as text, a last line of text that is a
number as the number of the next caption, and times within a text as those of a new caption.)
"""

import html
import re
from collections.abc import Iterator
from pathlib import Path

from mmpt.timed_text.caption import Caption, Findings, collected, parse_time, tidy
from mmpt.timed_text.text_file import read_decoded
from mmpt.utils.errors import UserError
from mmpt.utils.files import parse_json

Line = tuple[int, str]
Cue = tuple[str, Caption]

_SRT_TIME = r"\d+:\d+:\d+[.,]\d"
_TAG = re.compile(
    r"</?[a-zA-Z][^<>]*>|</>|<\d+:[\d:.]+>|\{\\[^{}]*\}"
)  # <i>, <c.yellow>, <00:01.000>, {\an8}


def read_srt(
    path: str | Path, encoding: str | None = None, offset_ms: int = 0, findings: Findings | None = None
) -> list[Caption]:
    """The captions of an .srt file; see `tidy`. Raises UserError with the line of a malformed block."""
    blocks = _blocks(read_decoded(path, encoding))
    with collected(findings) as found:
        return tidy(_srt_cues(Path(path), blocks, found), offset_ms, found)


def read_webvtt(
    path: str | Path, encoding: str | None = None, offset_ms: int = 0, findings: Findings | None = None
) -> list[Caption]:
    """The captions of a .vtt file; see `tidy`. Raises UserError with the line of a malformed block.

    Comments, styles, regions and cue settings are no text. Voices (<v Ann>) are removed with the other tags.
    """
    blocks = _blocks(read_decoded(path, encoding)) or [[(1, "")]]
    number, line = blocks[0][0]
    if not re.match(r"WEBVTT(\s|$)", line) or number != 1:
        raise UserError(f"{path}, line 1: expected WEBVTT, got {line[:40]!r}.")
    with collected(findings) as found:
        return tidy(_webvtt_cues(Path(path), blocks, found), offset_ms, found)


def read_youtube_json(
    path: str | Path, offset_ms: int = 0, findings: Findings | None = None
) -> list[Caption]:
    """The captions of a .json3 file, as yt-dlp downloads it; see `tidy`. Raises UserError."""
    try:
        events = parse_json(read_decoded(path))["events"]
        cues = [
            (
                f"{path}, event {number}",
                Caption(
                    int(event["tStartMs"]),
                    int(event["tStartMs"]) + int(event["dDurationMs"]),
                    # half of a character (a lone surrogate) cannot be written: a UnicodeEncodeError
                    "".join(part["utf8"] for part in event["segs"]).encode().decode(),
                ),
            )
            for number, event in enumerate(events)
            if "segs" in event and not event.get("aAppend")  # others set up windows or end a line
        ]
    except UserError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: not subtitles in YouTube's JSON format ({error!r}).") from error
    return tidy(cues, offset_ms, findings)


def _blocks(text: str) -> list[list[Line]]:
    """The runs of lines between blank lines, as (line number, line)."""
    blocks: list[list[Line]] = [[]]
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            blocks[-1].append((number, line.strip()))
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def _is_timing(line: str) -> bool:
    """Whether a line is meant to hold the times of a caption: an arrow, or the time of a caption first."""
    arrow_and_time = "->" in line and re.search(r"\d\s*:\s*\d", line)
    return bool(arrow_and_time or re.match(_SRT_TIME, line))


def _timing(path: Path, number: int, line: str) -> tuple[int, int]:
    """The times of a line `start --> end settings`. Raises UserError."""
    start, arrow, rest = line.partition("-->")
    times = [parse_time(start), parse_time((rest.split() or [""])[0])]
    if not arrow or times[0] is None or times[1] is None:
        raise UserError(
            f"{path}, line {number}: expected times such as 00:01:02,500 --> 00:01:04,000, got {line[:60]!r}."
        )
    return times[0], times[1]


def _srt_cues(path: Path, blocks: list[list[Line]], found: Findings) -> Iterator[Cue]:
    """The cues of an SRT file. A text may hold blank lines; all other lines have to be a caption's."""
    open_cue: tuple[int, tuple[int, int], list[str]] | None = None
    for block in blocks:
        places = [n for n, (_, line) in enumerate(block) if _is_timing(line)]
        number, line = block[0]
        if not places:
            if open_cue is None or line.isdecimal():
                raise UserError(
                    f"{path}, line {number}: expected a caption's number and times, got {line[:60]!r}."
                )
            found.add("blank lines within a caption's text, removed", f"{path}, line {number}")
            open_cue[2].extend(text for _, text in block)
            continue
        if places[0] > 1 or (places[0] == 1 and not line.isdecimal()):
            raise UserError(
                f"{path}, line {number}: expected a caption's number, and its times in the next line, got "
                f"{line[:60]!r}."
            )
        for place, after in zip(places, [*places[1:], len(block)]):
            if open_cue is not None:
                yield _cue(path, *open_cue, found)
            number, line = block[place]
            if place != places[0]:
                found.add("captions without a blank line before them, read", f"{path}, line {number}")
            if after < len(block) and after - 1 > place and block[after - 1][1].isdecimal():
                after -= 1  # the number of the next caption
            texts = [text for _, text in block[place + 1 : after]]
            open_cue = (number, _timing(path, number, line), texts)
    if open_cue is not None:
        yield _cue(path, *open_cue, found)


def _webvtt_cues(path: Path, blocks: list[list[Line]], found: Findings) -> Iterator[Cue]:
    """The cues of the blocks of a WebVTT file, of which the first is its header."""
    for number, line in blocks[0]:
        if line.startswith("X-TIMESTAMP-MAP"):
            found.add("time maps (X-TIMESTAMP-MAP), not applied", f"{path}, line {number}")
    for block in blocks:
        number, line = block[0]
        is_cue = block is not blocks[0] and not re.match(r"(NOTE|STYLE|REGION)(\s|$)", line)
        places = [n for n, (_, line) in enumerate(block) if "-->" in line]
        if is_cue and (not places or places[0] > 1):
            raise UserError(
                f"{path}, line {number}: expected a cue (an optional name, then a line of times), got "
                f"{line[:60]!r}."
            )
        if len(places) > is_cue:
            number, line = block[places[is_cue]]
            raise UserError(f"{path}, line {number}: a blank line is missing before the times {line[:60]!r}.")
        if not is_cue:
            continue
        number, line = block[places[0]]
        texts = [text for _, text in block[places[0] + 1 :]]
        where, caption = _cue(path, number, _timing(path, number, line), texts, found)
        try:
            text = html.unescape(caption.text)
        except ValueError as error:  # a number of more digits than Python reads
            raise UserError(f"{where}: not readable as a caption ({error}).") from error
        yield where, Caption(caption.start_ms, caption.end_ms, text)


def _cue(path: Path, number: int, times: tuple[int, int], texts: list[str], found: Findings) -> Cue:
    """A cue without its tags, which are counted."""
    where = f"{path}, line {number}"
    text, tags = _TAG.subn("", "\n".join(texts))
    found.add("markup tags in captions, removed", where, tags)
    return where, Caption(*times, text)

"""Text in time: captions of recordings, read from and written to SRT, WebVTT, ELAN and CSV."""

from collections.abc import Sequence
from pathlib import Path

from mmpt.registry import nearest
from mmpt.timed_text.caption import Caption, Findings, parse_time
from mmpt.timed_text.elan import read_elan, write_elan
from mmpt.timed_text.subtitles import read_srt, read_webvtt, read_youtube_json
from mmpt.timed_text.timed_csv import read_timed_csv, write_timed_csv
from mmpt.utils.errors import UserError

__all__ = [
    "SUFFIXES",
    "Caption",
    "Findings",
    "check_options",
    "parse_time",
    "read_captions",
    "read_elan",
    "read_srt",
    "read_timed_csv",
    "read_webvtt",
    "read_youtube_json",
    "write_elan",
    "write_timed_csv",
]

SUFFIXES = (".srt", ".vtt", ".eaf", ".csv", ".tsv", ".json3")


def check_options(
    files: Sequence[Path], unit: str | None = None, encoding: str | None = None, media: str | None = None
) -> None:
    """Raises UserError for an option that is for files of other kinds than these files of captions."""
    kinds = {file.suffix.lower() for file in files}
    for option, value, its in (
        ("--unit", unit, (".csv", ".tsv")),
        ("--encoding", encoding, (".srt", ".vtt", ".csv", ".tsv")),
        ("--media", media, (".eaf",)),
    ):
        if value is not None and not kinds & {*its}:
            got = ", ".join(sorted(kinds))
            raise UserError(f"{option} is for {', '.join(its)}; the captions are in {got}: leave it out.")


def read_captions(
    path: str | Path,
    tiers: Sequence[str] = (),
    encoding: str | None = None,
    unit: str | None = None,
    offset_ms: int = 0,
    findings: Findings | None = None,
    media: str | None = None,
) -> list[Caption]:
    """The captions of a subtitle file, an ELAN file or a CSV file, in order of time.

    tiers: of ELAN, and of a CSV file with a column `tier`. encoding: of a text file without a byte order mark
    (default: UTF-8). unit: of a CSV file's columns start and end, "ms" or "s". offset_ms: added to all times.
    findings: collects what is changed or left out; without it, that is logged. media: see `read_elan`. Raises
    UserError.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".eaf":
        return read_elan(path, tiers, offset_ms, findings, media)
    if suffix in (".csv", ".tsv"):
        captions = read_timed_csv(path, unit, encoding, offset_ms, findings)
        names = sorted({caption.tier for caption in captions})
        if missing := [tier for tier in tiers if tier not in names]:
            raise UserError(
                f"{path}: there is no tier {missing[0]!r}.{nearest(missing[0], names)} Column 'tier' has: "
                f"{', '.join(map(repr, names))}."
            )
        return [caption for caption in captions if not tiers or caption.tier in tiers]
    if suffix in SUFFIXES and tiers:
        raise UserError(f"{path}: there is no tier {tiers[0]!r}: subtitles have no tiers.")
    if suffix == ".srt":
        return read_srt(path, encoding, offset_ms, findings)
    if suffix == ".vtt":
        return read_webvtt(path, encoding, offset_ms, findings)
    if suffix == ".json3":
        return read_youtube_json(path, offset_ms, findings)
    raise UserError(f"{path}: expected a subtitle file ({', '.join(SUFFIXES)}).")

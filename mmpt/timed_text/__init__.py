"""Text in time: captions of recordings, read from and written to SRT, WebVTT, ELAN and CSV."""

from mmpt.timed_text.caption import Caption, Findings, parse_time
from mmpt.timed_text.elan import read_elan, write_elan
from mmpt.timed_text.reading import SUFFIXES, read_captions
from mmpt.timed_text.subtitles import read_srt, read_webvtt, read_youtube_json
from mmpt.timed_text.timed_csv import read_timed_csv, write_timed_csv

__all__ = [
    "SUFFIXES",
    "Caption",
    "Findings",
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

"""Write the table of recordings with subtitles: one clip for each caption.

    signclip table from-subtitles RECORDINGS --out table.csv
    signclip table from-subtitles RECORDINGS --subtitles FOLDER --language en --out table.csv

Reads SRT (.srt), WebVTT (.vtt), YouTube's .json3, and CSV or TSV files with a start, an end and a text in
each row. A recording's file has its name: talk.pose and talk.vtt, or talk.en.vtt. Columns of the table: id,
path, start, end (milliseconds), text, split, signer; see docs/sentences.md.

Columns of CSV files: start_ms and end_ms, or start_s and end_s, or start and end with --unit; times such as
00:01:02.500 need no unit. A malformed file is an error with its line. Counted and printed: captions without
text or duration, repeated ones, overlaps, and those that end after the recording (for .pose and .npy).
"""

import argparse
from pathlib import Path

from mmpt.cli.command import Command
from mmpt.cli.table import add_caption_arguments, add_table_arguments, write_captions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_table_arguments(parser, "recordings")
    parser.add_argument(
        "--subtitles",
        type=Path,
        metavar="FOLDER",
        help="folder of captions (default: that of the recordings)",
    )
    parser.add_argument("--language", metavar="CODE", help="which of talk.en.vtt and talk.de.vtt is read")
    parser.add_argument("--encoding", help="encoding of files without a byte order mark (default: utf-8)")
    parser.add_argument("--unit", choices=["ms", "s"], help="unit of the columns start and end of CSV files")
    parser.add_argument(
        "--tier", action="append", default=[], help="read only rows with this value in the CSV column `tier`"
    )
    add_caption_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Write the table and print what it holds."""
    from mmpt.processors.caption_table import CaptionFiles
    from mmpt.timed_text.text_file import check_encoding

    check_encoding(args.encoding)
    files = CaptionFiles(
        args.subtitles or args.folder,
        (".srt", ".vtt", ".json3", ".csv", ".tsv"),
        args.language,
        args.tier,
        args.encoding,
        args.unit,
        args.offset_ms,
    )
    write_captions(args, files)


main = Command("table from-subtitles", __doc__, add_arguments, run)

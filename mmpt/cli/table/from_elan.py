"""Write the table of recordings with ELAN files: one clip for each annotation of a tier.

    signclip table from-elan RECORDINGS --tier Gloss_RH --out table.csv
    signclip table from-elan RECORDINGS --elan FOLDER --tier Translation --out table.csv

A recording's file has its name: talk.pose and talk.eaf. A tier that depends on another one has the times of
the annotations that it refers to. The signer is the tier's participant, if --signer does not say another.
Annotations without a time are counted and left out. Columns of the table: id, path, start, end
(milliseconds), text, split, signer, tier; see docs/sentences.md.
"""

import argparse
from pathlib import Path

from mmpt.cli.command import Command
from mmpt.cli.table import add_caption_arguments, add_table_arguments, write_captions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_table_arguments(parser, "recordings")
    parser.add_argument(
        "--elan", type=Path, metavar="FOLDER", help="folder of .eaf files (default: that of the recordings)"
    )
    parser.add_argument(
        "--tier",
        action="append",
        default=[],
        help="tier to read; repeat it for several (default: the only one)",
    )
    parser.add_argument(
        "--media",
        metavar="NAME",
        help="the recording's media file, if ELAN shifts its media differently, such as '*_front.mp4'",
    )
    add_caption_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Write the table and print what it holds."""
    from mmpt.processors.caption_table import CaptionFiles

    files = CaptionFiles(
        args.elan or args.folder, (".eaf",), tiers=args.tier, offset_ms=args.offset_ms, media=args.media
    )
    write_captions(args, files)


main = Command("table from-elan", __doc__, add_arguments, run)

"""Tables of clips, of recordings with captions or of folders of clips: what the commands share."""

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmpt.processors.caption_table import CaptionFiles, Row, TableRules
    from mmpt.timed_text import Findings


def add_table_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """The folder, the table, and what its rows hold. what: the files in the folder."""
    parser.add_argument(
        "folder", type=Path, help=f"folder of the {what}: .pose, .npy or videos, at any depth"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="TABLE.csv", help="the table to write")
    parser.add_argument("--suffix", metavar=".SUFFIX", help=f"only {what} with this suffix, such as .pose")
    parser.add_argument(
        "--signer",
        metavar="REGEX|CSV",
        help="who signs: a regular expression, whose first group in the path is the signer, or a CSV file "
        "with the columns recording and signer",
    )
    parser.add_argument("--signed-language", metavar="CODE", help="written to each row, such as ase")
    parser.add_argument("--spoken-language", metavar="CODE", help="written to each row, such as en")
    group = parser.add_argument_group("splits (a recording is in one split only)")
    group.add_argument("--split", metavar="TRAIN/VALID/TEST", help="percent, by a hash (default: 80/10/10)")
    group.add_argument(
        "--split-by",
        choices=["recording", "signer"],
        help="what the hash divides (default: signer with --signer, else recording)",
    )
    group.add_argument("--seed", type=int, help="seed of the hash (default: 0)")
    group.add_argument(
        "--split-file",
        type=Path,
        metavar="CSV",
        help="file with the columns recording and split, instead of --split",
    )


def add_caption_arguments(parser: argparse.ArgumentParser) -> None:
    """The times of the captions, and the frame rate of features."""
    parser.add_argument(
        "--offset-ms", type=int, default=0, metavar="N", help="milliseconds added to the captions' times"
    )
    parser.add_argument("--fps", type=float, help="rows per second of .npy features")


def rules(args: argparse.Namespace) -> "TableRules":
    """What the options say about the rows. Raises UserError."""
    from mmpt.processors.caption_table import TableRules
    from mmpt.processors.split_rules import SplitRule, parse_shares
    from mmpt.utils.errors import UserError

    if args.out.suffix.lower() != ".csv":
        raise UserError(f"--out {args.out}: expected a .csv file.")
    fps = getattr(args, "fps", None)
    if fps is not None and not 0 < fps < float("inf"):
        raise UserError(f"--fps {fps}: expected a positive number.")
    given = {"--split": args.split, "--split-by": args.split_by, "--seed": args.seed}
    options = [option for option, value in given.items() if value is not None]
    if args.split_file:
        if options:
            raise UserError(f"--split-file names the splits: leave out {' and '.join(options)}.")
        options = ["--split-file"]
    by = args.split_by or ("signer" if args.signer else "recording")
    values = {"signed_language": args.signed_language, "spoken_language": args.spoken_language}
    return TableRules(
        args.out,
        SplitRule(
            parse_shares(args.split or "80/10/10"), by, args.seed or 0, args.split_file, tuple(options)
        ),
        args.signer,
        fps,
        args.suffix,
        {name: value for name, value in values.items() if value},
    )


def write_captions(args: argparse.Namespace, files: "CaptionFiles") -> None:
    """Write the table of the captions, and print what is left out or changed."""
    from mmpt.processors.caption_table import caption_rows
    from mmpt.timed_text import Findings

    findings = Findings()
    write(args.out, caption_rows(args.folder, files, rules(args), findings), findings)


def write(out: Path, rows: "list[Row]", findings: "Findings | None" = None) -> None:
    """Write a table, and print its clips, its splits, and what was left out or changed."""
    from collections import Counter

    from mmpt.processors.table_writer import write_table
    from mmpt.utils.logging import setup_logging

    setup_logging(logging.WARNING)
    out.parent.mkdir(parents=True, exist_ok=True)  # paths with .. need the folder to exist
    table = write_table(out, rows)
    for line in findings.lines() if findings else []:
        print(line)
    counts = Counter(row.split for row in table.rows)
    recordings = {row["path"]: row["split"] for row in rows}
    per_split = Counter(recordings.values())
    print(
        f"wrote {out}: {len(rows)} clips of {len(recordings)} files; "
        + ", ".join(f"{name} {counts[name]} ({per_split[name]} files)" for name in sorted(counts))
    )
    in_splits: dict[str, set[str]] = {}
    for row in table.rows:
        in_splits.setdefault(row.signer, set()).add(row.split)
    shared = sorted(name for name, splits in in_splits.items() if name and len(splits) > 1)
    if shared:
        print(f"signers in several splits: {len(shared)} (see --split-by signer)")

#!/usr/bin/env python
"""Export the fingerspelling lexicon of the package `spoken-to-signed` as a table: table.csv and poses.

`python scripts/export_lexicon.py --out data/lexicon` writes the poses, and a table with id, path, text,
split, signed_language, spoken_language, signer and left_handed, as an example of your own data. The splits
hold out whole sign languages.
"""

import argparse
import csv
import logging
import shutil
import sys
from pathlib import Path

from mmpt.cli import run_cli

from mmpt.processors.fingerspelling import Row, find_lexicon, read_index, write_out
from mmpt.utils.logging import setup_logging
from mmpt.utils.outputs import FORCE_HELP, OutputKind, replace_output

log = logging.getLogger(__name__)

TEST, VALID = ("gsg", "ase", "sgg"), ("asq", "bzs")
TRAIN = ("eso", "ise", "lls", "mfs", "psr", "ssp", "svk", "swl")
LEFT_HANDED = ("ise",)
COPIES = ("fsl",)  # its files are copies of ase
LEXICON = OutputKind("the lexicon", "signclip-lexicon", ".lexicon.files.json", ("table.csv",))
COLUMNS = ("id", "path", "text", "split", "signed_language", "spoken_language", "signer", "left_handed")


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write (created if missing)")
    parser.add_argument(
        "--everything",
        action="store_true",
        help="all letters and languages; the additional ones are in train",
    )
    parser.add_argument("--force", action="store_true", help=FORCE_HELP)
    return run_cli(export, parser.parse_args(argv))


def export(args: argparse.Namespace) -> int:
    """Copy the poses and write the table."""
    setup_logging(logging.INFO)
    rows = [row for row in read_index(find_lexicon(None)) if _split(row, args.everything)]
    seen: dict[str, Row] = {}
    paths: set[Path] = set()
    for row in rows:
        if row.path in paths:  # listed as upper and lower case
            continue
        paths.add(row.path)
        name = f"{row.language}_{write_out(row.letter).replace(' ', '_')}"
        number = sum(known == name or known.startswith(f"{name}-") for known in seen)
        seen[f"{name}-{number + 1}" if number else name] = row
    of = {"clips": "all"} if args.everything else {}
    with replace_output(args.out, LEXICON, of, args.force) as fresh:
        (fresh / "poses").mkdir()
        for name, row in seen.items():
            shutil.copyfile(row.path, fresh / "poses" / f"{name}.pose")
        with open(fresh / "table.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(_cells(name, row, args.everything) for name, row in seen.items())
    print(f"wrote {args.out / 'table.csv'}: {len(seen)} clips")
    return 0


def _split(row: Row, everything: bool) -> str | None:
    """train, valid, test, or None for a row that is not exported."""
    plain = row.letter.isascii() and len(row.letter) == 1
    if row.language in COPIES:
        return None
    for split, languages in (("test", TEST), ("valid", VALID)):
        if row.language in languages:
            return split if plain else None
    return "train" if everything or (plain and row.language in TRAIN) else None


def _cells(name: str, row: Row, everything: bool) -> dict[str, str]:
    return {
        "id": name,
        "path": f"poses/{name}.pose",
        "text": write_out(row.letter),
        "split": _split(row, everything) or "",
        "signed_language": row.language,
        "spoken_language": "en",
        "signer": f"{row.language}-1",
        "left_handed": "true" if row.language in LEFT_HANDED else "false",
    }


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python
"""Write the table of SignSuisse, the lexicon of the three Swiss sign languages (about 18,000 signs).

Get the data: the index of each language, and the poses that `sign-language-datasets` publishes (its builder
`sign_suisse`, config holistic, downloads both; or download them yourself):

    https://signsuisse.sgb-fss.ch/index.php?eID=sitemap&lang=de&format=json  (and lang=fr, lang=it)

    python scripts/import_signsuisse.py --index de.json fr.json it.json --poses POSES --out data/signsuisse

The index lists entries with uid, name and sprache; the pose of an entry is named after a hash of its uid. The
lexicon has one clip per sign, so the split, by a hash of the uid, holds out whole signs, and only zero_shot
can be evaluated. The languages become de, fr, it and their sign languages sgg, ssr, slf.
"""

import argparse
import hashlib
import logging
import os
import sys
from pathlib import Path

from mmpt.cli import run_cli

from mmpt.processors.table_writer import split_by, write_clips
from mmpt.utils.errors import UserError
from mmpt.utils.files import read_json
from mmpt.utils.logging import setup_logging

SIGNED = {"de": "sgg", "fr": "ssr", "it": "slf"}


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and import."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--index", type=Path, nargs="+", required=True, help="JSON files of the index")
    parser.add_argument("--poses", type=Path, required=True, help="folder of the poses")
    parser.add_argument("--out", type=Path, required=True, help="folder of table.csv")
    return run_cli(run, parser.parse_args(argv))


def run(args: argparse.Namespace) -> int:
    """Read the index and write the table."""
    setup_logging(logging.INFO)
    rows = []
    for index in args.index:
        try:
            for entry in read_json(index):
                file = args.poses / f"{pose_name(str(entry['uid']))}.pose"
                rows.append(
                    {
                        "id": str(entry["uid"]),
                        "path": os.path.relpath(file, args.out),
                        "text": " ".join(entry["name"].split()),
                        "split": "",
                        "signed_language": SIGNED[entry["sprache"]],
                        "spoken_language": entry["sprache"],
                    }
                )
        except OSError as error:
            raise UserError(f"{index}: cannot be read ({error.strerror}); see --help.") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{index}: not an index of SignSuisse ({error!r}).") from error
    splits = split_by([row["id"] for row in rows])
    table = write_clips(args.out, [{**row, "split": splits[row["id"]]} for row in rows])
    print(f"wrote {table.path}: {len(table.rows)} clips")
    return 0


def pose_name(uid: str) -> str:
    """The file name, without suffix, of an entry's pose in `sign-language-datasets`."""
    return "ss" + hashlib.md5(f"signsuisse{uid}isolated".encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())

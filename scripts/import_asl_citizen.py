#!/usr/bin/env python
r"""Write the table of ASL Citizen (83,399 videos of 2,731 signs, 52 signers; Desai et al., 2023).

Get the data: https://www.microsoft.com/en-us/research/project/asl-citizen/ ("Download", one zip). Unpack it,
and extract the poses:

    signclip extract pose --in ASL_Citizen/videos --out data/asl_citizen/poses
    python scripts/import_asl_citizen.py --in ASL_Citizen --poses data/asl_citizen/poses \
      --out data/asl_citizen

Reads splits/train.csv, val.csv and test.csv (Participant ID, Video file, Gloss, ASL-LEX Code); the published
splits share no signer. Variant numbers (DOG1) stay in the gloss; `text` is the gloss in lower case.
"""

import argparse
import logging
import os
import sys
from pathlib import Path

from mmpt.cli import run_cli

from mmpt.processors.table_writer import read_csv, write_clips
from mmpt.utils.files import file_in
from mmpt.utils.logging import setup_logging

COLUMNS = ("Participant ID", "Video file", "Gloss")


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and import."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--in", dest="folder", type=Path, required=True, help="the folder ASL_Citizen")
    parser.add_argument("--poses", type=Path, required=True, help="folder of the poses, one per video")
    parser.add_argument("--out", type=Path, required=True, help="folder of table.csv")
    return run_cli(run, parser.parse_args(argv))


def run(args: argparse.Namespace) -> int:
    """Read the split files and write the table."""
    setup_logging(logging.INFO)
    rows = []
    for split, name in (("train", "train"), ("valid", "val"), ("test", "test")):
        for row in read_csv(args.folder / "splits" / f"{name}.csv", COLUMNS):
            video = row["Video file"].strip()
            gloss = row["Gloss"].strip()
            rows.append(
                {
                    "id": Path(video).stem,
                    "path": os.path.relpath(file_in(args.poses, video).with_suffix(".pose"), args.out),
                    "text": gloss.lower(),
                    "gloss": gloss,
                    "split": split,
                    "signed_language": "ase",
                    "spoken_language": "en",
                    "signer": row["Participant ID"].strip(),
                    "asl_lex": row.get("ASL-LEX Code", "").strip(),
                }
            )
    table = write_clips(args.out, rows)
    print(f"wrote {table.path}: {len(table.rows)} clips")
    return 0


if __name__ == "__main__":
    sys.exit(main())

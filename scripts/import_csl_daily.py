#!/usr/bin/env python
r"""Write the table of CSL-Daily (Chinese sign language, 20,654 clips of daily life; Zhou et al., 2021).

Get the data: http://home.ustc.edu.cn/~zhouh156/dataset/csl-daily/ (see the terms there). Its clips are
folders of JPEG frames, 30 per second; `signclip extract` reads videos, so make one of each folder first
(scripts/import_phoenix2014t.py --help shows a command; use -framerate 30 and the names of these frames, such
as "$clip/%06d.jpg"). Then:

    signclip extract pose --in VIDEOS --out data/csl_daily/poses
    python scripts/import_csl_daily.py --in sentence_label --poses data/csl_daily/poses --out data/csl_daily

Reads the text files of sentence_label, not its pickle: video_map.txt (separated by |: index, name, length,
gloss, char, word, postag) and split_1.txt (name|split). `text` is the sentence, `gloss` the glosses; the
signer is the number after P in the name (S000020_P0000_T00). A clip without a split is left out, and counted.
The splits share signers: `signclip check` needs --allow-leak signers.
"""

import argparse
import logging
import os
import re
import sys
from pathlib import Path

from mmpt.cli import run_cli

from mmpt.processors.table_file import SPLIT_NAMES
from mmpt.processors.table_writer import files_by_name, read_csv, write_clips
from mmpt.timed_text import Findings
from mmpt.utils.errors import UserError
from mmpt.utils.files import file_in
from mmpt.utils.logging import setup_logging

COLUMNS = ("name", "gloss", "char")


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and import."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--in", dest="folder", type=Path, required=True, help="the folder sentence_label")
    parser.add_argument("--poses", type=Path, required=True, help="folder of the poses, named by `name`")
    parser.add_argument("--out", type=Path, required=True, help="folder of table.csv")
    return run_cli(run, parser.parse_args(argv))


def run(args: argparse.Namespace) -> int:
    """Read the annotations and write the table."""
    setup_logging(logging.INFO)
    poses, findings = files_by_name(args.poses), Findings()
    splits_file, map_file = args.folder / "split_1.txt", args.folder / "video_map.txt"
    splits = dict[str, list[str]]()
    for line in read_csv(splits_file, ("name", "split"), "|"):
        clip, split = line["name"].strip(), line["split"].strip()
        if split not in SPLIT_NAMES:
            raise UserError(f"{splits_file}: expected train, dev or test, got {split}.")
        splits.setdefault(clip, []).append(SPLIT_NAMES[split])
    rows = []
    for line in read_csv(map_file, COLUMNS, "|"):
        clip = line["name"].strip()
        if clip not in splits:
            findings.add("clips without a split, left out", f"{map_file}, {clip}")
            continue
        pose = poses.get(clip, file_in(args.poses, f"{clip}.pose"))
        signer = re.search(r"_P(\d+)_", clip)
        row = {
            "id": clip,
            "path": os.path.relpath(pose, args.out),
            "text": "".join(line["char"].split()),
            "gloss": " ".join(line["gloss"].split()),
            "signed_language": "csl",
            "spoken_language": "zh",
            "signer": signer[1] if signer else "",
        }
        rows += [{**row, "split": split} for split in splits[clip]]
    without = sorted(splits.keys() - {row["id"] for row in rows})
    findings.add("names in split_1.txt without a sentence, left out", ", ".join(without[:3]), len(without))
    table = write_clips(args.out, rows, findings)
    print(f"wrote {table.path}: {len(table.rows)} clips")
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python
r"""Write the table of How2Sign (ASL, about 35,000 sentences of instructional videos; Duarte et al., 2021).

Get the data: https://how2sign.github.io, "English Translation (manually re-aligned)" and one of the frontal
RGB videos; the licence is on that page. Unpack the videos, extract the poses, and:

    signclip extract pose --in how2sign/videos --out data/how2sign/poses
    python scripts/import_how2sign.py --csv how2sign/annotations --poses data/how2sign/poses \
      --out data/how2sign

Reads how2sign_realigned_train.csv, _val.csv and _test.csv (separated by tabs: VIDEO_ID, VIDEO_NAME,
SENTENCE_ID, SENTENCE_NAME, START_REALIGNED, END_REALIGNED, SENTENCE). A pose is named by its SENTENCE_NAME
(the published clips) or, with --recordings, by its VIDEO_NAME (the whole videos): then each sentence is the
part from START_REALIGNED to END_REALIGNED. The signer is the number in VIDEO_NAME. The published splits share
signers: `signclip check` needs --allow-leak signers.
"""

import argparse
import functools
import logging
import math
import os
import re
import sys
from pathlib import Path

from mmpt.cli import run_cli

from mmpt.processors.recording_files import Recording, cut_to
from mmpt.processors.table_writer import files_by_name, read_csv, write_clips
from mmpt.timed_text import Findings
from mmpt.utils.cells import parse_number
from mmpt.utils.errors import UserError
from mmpt.utils.files import file_in
from mmpt.utils.logging import setup_logging

COLUMNS = ("VIDEO_NAME", "SENTENCE_NAME", "START_REALIGNED", "END_REALIGNED", "SENTENCE")


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and import."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--csv", type=Path, required=True, help="folder of the three how2sign_realigned_*.csv"
    )
    parser.add_argument("--poses", type=Path, required=True, help="folder of the poses, at any depth")
    parser.add_argument("--out", type=Path, required=True, help="folder of table.csv")
    parser.add_argument("--recordings", action="store_true", help="the poses are of the whole videos")
    return run_cli(run, parser.parse_args(argv))


def run(args: argparse.Namespace) -> int:
    """Read the annotations and write the table."""
    setup_logging(logging.INFO)
    poses, findings = files_by_name(args.poses), Findings()
    length = functools.cache(lambda pose: Recording(pose.stem, pose).length() if pose.is_file() else None)
    rows = []
    for split, name in (("train", "train"), ("valid", "val"), ("test", "test")):
        file = args.csv / f"how2sign_realigned_{name}.csv"
        for number, line in enumerate(read_csv(file, COLUMNS, "\t"), start=1):
            where = f"{file}, sentence {number}"
            clip = line["VIDEO_NAME" if args.recordings else "SENTENCE_NAME"].strip()
            pose = poses.get(clip, file_in(args.poses, f"{clip}.pose"))
            row = {
                "id": line["SENTENCE_NAME"].strip(),
                "path": os.path.relpath(pose, args.out),
                "text": " ".join(line["SENTENCE"].split()),
                "split": split,
                "signed_language": "ase",
                "spoken_language": "en",
                "signer": _signer(line["VIDEO_NAME"].strip()),
            }
            if args.recordings:
                times = cut_to(*_times(line, where), length(pose), where, findings)
                if times is None:
                    continue
                row |= {"start": str(times[0]), "end": str(times[1])}
            rows.append(row)
    table = write_clips(args.out, rows, findings)
    print(f"wrote {table.path}: {len(table.rows)} clips")
    return 0


def _signer(video: str) -> str:
    """--7E2sU6zP4-5-rgb_front -> 5."""
    match = re.search(r"-(\d+)-rgb_\w+$", video)
    return match[1] if match else ""


def _times(line: dict[str, str], where: str) -> tuple[int, int]:
    """Start and end in milliseconds. Raises UserError."""
    start, end = (1000 * parse_number(line[name]) for name in ("START_REALIGNED", "END_REALIGNED"))
    if not (math.isfinite(start) and math.isfinite(end)):
        raise UserError(
            f"{where}: expected seconds in START_REALIGNED and END_REALIGNED, got "
            f"{line['START_REALIGNED']!r} and {line['END_REALIGNED']!r}."
        )
    return round(start), round(end)


if __name__ == "__main__":
    sys.exit(main())

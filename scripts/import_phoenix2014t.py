#!/usr/bin/env python
r"""Write the table of RWTH-PHOENIX-Weather 2014 T (8,257 sentences of forecasts; Camgoz et al., 2018).

Get the data (German Sign Language, DGS): https://www-i6.informatik.rwth-aachen.de/~koller/RWTH-PHOENIX-2014-T/
(39 GB; see the licence there). Its clips are folders of PNG frames, 25 per second; `signclip extract` reads
videos, so make one of each folder first, for instance with FFmpeg:

    cd PHOENIX-2014-T/features/fullFrame-210x260px
    for clip in train/* dev/* test/*; do
      ffmpeg -framerate 25 -i "$clip/images%04d.png" -c:v libx264 -crf 10 -pix_fmt yuv420p \
        "VIDEOS/$clip.mp4"
    done

with the folders VIDEOS/train, VIDEOS/dev and VIDEOS/test made before. Then:

    signclip extract pose --in VIDEOS --out data/phoenix/poses
    python scripts/import_phoenix2014t.py --in PHOENIX-2014-T --poses data/phoenix/poses --out data/phoenix

Reads annotations/manual/PHOENIX-2014-T.train.corpus.csv, .dev. and .test. (separated by |: name, video,
start, end, speaker, orth, translation). `text` is the translation, `gloss` the column orth. All splits have
the same nine signers: `signclip check` needs --allow-leak signers.
"""

import argparse
import logging
import os
import sys
from pathlib import Path

from mmpt.cli import run_cli

from mmpt.processors.table_writer import files_by_name, read_csv, write_clips
from mmpt.utils.files import file_in
from mmpt.utils.logging import setup_logging

COLUMNS = ("name", "speaker", "orth", "translation")


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and import."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--in", dest="folder", type=Path, required=True, help="the folder PHOENIX-2014-T")
    parser.add_argument("--poses", type=Path, required=True, help="folder of the poses, named by `name`")
    parser.add_argument("--out", type=Path, required=True, help="folder of table.csv")
    return run_cli(run, parser.parse_args(argv))


def run(args: argparse.Namespace) -> int:
    """Read the annotations and write the table."""
    setup_logging(logging.INFO)
    poses = files_by_name(args.poses)
    rows = []
    for split, name in (("train", "train"), ("valid", "dev"), ("test", "test")):
        file = args.folder / "annotations" / "manual" / f"PHOENIX-2014-T.{name}.corpus.csv"
        for line in read_csv(file, COLUMNS, "|"):
            clip = line["name"].strip()
            pose = poses.get(clip, file_in(args.poses, f"{clip}.pose"))
            rows.append(
                {
                    "id": clip,
                    "path": os.path.relpath(pose, args.out),
                    "text": " ".join(line["translation"].split()),
                    "gloss": " ".join(line["orth"].split()),
                    "split": split,
                    "signed_language": "gsg",
                    "spoken_language": "de",
                    "signer": line["speaker"].strip(),
                }
            )
    table = write_clips(args.out, rows)
    print(f"wrote {table.path}: {len(table.rows)} clips")
    return 0


if __name__ == "__main__":
    sys.exit(main())

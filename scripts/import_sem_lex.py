#!/usr/bin/env python
"""Write the table of Sem-Lex (84,000 clips of 3,149 signs of ASL, 41 signers; Kezar et al., 2023).

Get the data: https://github.com/leekezar/SemLex (the metadata file and three archives of poses). Unpack the
archives into folders train, val and test of .npy files:

    python scripts/import_sem_lex.py --csv sem-lex-metadata.csv --npy SEMLEX --out data/sem_lex

The arrays hold MediaPipe Holistic landmarks [frames, 553, 3]: 478 of the face, 33 of the body, 21 + 21 of the
hands, as fractions of the image size. They are written as .pose files (missing hands stay missing); an
interrupted run resumes. Columns of the metadata are read by position: id, file, signer, duration, split, kind
of label, label. Some clips occur twice, also across splits: `signclip check` lists them.
"""

import argparse
import logging
import sys
from pathlib import Path

from mmpt.cli import run_cli

import numpy as np

from mmpt.extractors.conversion import convert_poses
from mmpt.pose.components import FACE, LEFT_HAND, POSE, RIGHT_HAND
from mmpt.pose.writer import pose_of_landmarks
from mmpt.processors.table_writer import csv_lines, write_clips
from mmpt.utils.arrays import open_array
from mmpt.utils.errors import UserError
from mmpt.utils.files import file_in
from mmpt.utils.logging import setup_logging

PARTS = {FACE: slice(0, 478), POSE: slice(478, 511), LEFT_HAND: slice(511, 532), RIGHT_HAND: slice(532, 553)}
WIDTH, HEIGHT, FPS = 640, 480, 30
"""Of the recordings, from the description of the corpus."""

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and import."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--csv", type=Path, required=True, help="sem-lex-metadata.csv")
    parser.add_argument("--npy", type=Path, required=True, help="folder with train, val and test")
    parser.add_argument("--out", type=Path, required=True, help="folder of table.csv and poses")
    return run_cli(run, parser.parse_args(argv))


def run(args: argparse.Namespace) -> int:
    """Convert the existing clips and write the table."""
    setup_logging(logging.INFO)
    lines = csv_lines(args.csv)[1:]
    if not lines or min(map(len, lines)) < 7:
        raise UserError(f"{args.csv}: expected 7 columns (id, file, signer, duration, split, kind, label).")
    rows, sources, missing = [], dict[str, Path](), 0
    for _, name, signer, _, split, _, label, *_ in lines:
        source = file_in(args.npy, f"{split}/{name}.npy")
        if not source.is_file():
            missing += 1
            continue
        sources[f"{split}/{name}"] = source
        rows.append(
            {
                "id": name,
                "path": f"poses/{split}/{name}.pose",
                "text": label.strip(),
                "split": split,
                "signed_language": "ase",
                "spoken_language": "en",
                "signer": signer,
            }
        )
    if missing:
        log.warning("%d of %d clips have no file and are skipped", missing, len(lines))
    options = {"width": WIDTH, "height": HEIGHT, "fps": FPS}
    nobody = convert_poses(args.out / "poses", "import_sem_lex", options, sources, convert)
    table = write_clips(args.out, [row for row in rows if f"{row['split']}/{row['id']}" not in nobody])
    print(f"wrote {table.path}: {len(table.rows)} clips")
    return 0


def convert(source: Path) -> bytes:
    """One array [T, 553, 3] -> the content of a .pose file. A part of zeros was not detected."""
    expected = "expected landmarks [frames, 553, 3]"
    array = open_array(source, expected)
    if array.ndim != 3 or array.shape[1:] != (553, 3) or not len(array):
        raise UserError(f"{source}: {expected}, got {list(array.shape)}.")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    parts = {name: array[:, columns].copy() for name, columns in PARTS.items()}
    for part in parts.values():
        part[~part.any(axis=(1, 2))] = np.nan
    return pose_of_landmarks(parts, FPS, WIDTH, HEIGHT)


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python
"""Write the table of Google's ASL Signs (94,477 clips of 250 signs, 21 signers; Kaggle, 2023).

Get the data: https://www.kaggle.com/competitions/asl-signs/data (or `kaggle competitions download -c
asl-signs`). Unpack it:

    python scripts/import_asl_signs.py --in asl-signs --out data/asl_signs

train.csv names a Parquet file of MediaPipe Holistic landmarks for each clip (468 of the face, 33 of the body,
21 + 21 of the hands, in long form, missing ones empty). Each is written as a .pose file, which takes hours
for all of them; an interrupted run resumes. No split is published, so whole signers are held out, two for
test and two for validation, chosen by a hash of their number. The data does not contain the image size and
frame rate: give --width, --height and --fps.
"""

import argparse
import functools
import logging
import math
import sys
from pathlib import Path
from typing import Any

from mmpt.cli import run_cli

import numpy as np

from mmpt.extractors.conversion import convert_poses
from mmpt.pose.components import FACE, LEFT_HAND, POSE, RIGHT_HAND
from mmpt.pose.writer import pose_of_landmarks
from mmpt.processors.table_lines import parquet_module
from mmpt.processors.table_writer import read_csv, split_by, write_table
from mmpt.utils.errors import UserError
from mmpt.utils.files import file_in
from mmpt.utils.logging import setup_logging
from mmpt.utils.parallel import check_workers, cores

PARTS = {
    "face": (FACE, 468),
    "left_hand": (LEFT_HAND, 21),
    "pose": (POSE, 33),
    "right_hand": (RIGHT_HAND, 21),
}


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and import."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--in", dest="folder", type=Path, required=True, help="folder with train.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder of table.csv and poses")
    parser.add_argument("--width", type=int, default=720, help="image width in pixels (default: 720)")
    parser.add_argument("--height", type=int, default=1280, help="image height in pixels (default: 1280)")
    parser.add_argument("--fps", type=float, default=30, help="frames per second (default: 30)")
    parser.add_argument("--limit", type=int, help="only the first LIMIT clips")
    parser.add_argument("--workers", type=int, help="processes (default: one per core)")
    return run_cli(run, parser.parse_args(argv))


def run(args: argparse.Namespace) -> int:
    """Convert the missing clips and write the table."""
    setup_logging(logging.INFO)
    if not (0 < args.width < 65536 and 0 < args.height < 65536 and 0 < args.fps < math.inf):
        given = f"--width {args.width} --height {args.height} --fps {args.fps:g}"
        raise UserError(f"{given}: expected a size in pixels and frames per second.")
    if args.limit is not None and args.limit < 1:
        raise UserError(f"--limit {args.limit}: expected 1 or more.")
    clips = read_csv(args.folder / "train.csv", ("path", "participant_id", "sequence_id", "sign"))
    clips = clips[: args.limit]
    splits = split_by([clip["participant_id"] for clip in clips])
    sources = dict[str, Path]()
    rows = []
    for number, clip in enumerate(clips, start=1):
        name = f"{clip['participant_id']}/{clip['sequence_id']}"
        if name in sources:
            raise UserError(f"{args.folder / 'train.csv'}, clip {number}: {name} occurs twice.")
        sources[name] = file_in(args.folder, clip["path"])
        rows.append(
            {
                "id": name,
                "path": f"poses/{name}.pose",
                "text": clip["sign"],
                "split": splits[clip["participant_id"]],
                "signed_language": "ase",
                "spoken_language": "en",
                "signer": clip["participant_id"],
            }
        )
    workers = check_workers(args.workers, cores()) if len(clips) > 200 else 0
    options = {"width": args.width, "height": args.height, "fps": args.fps}
    converter = functools.partial(convert, **options)
    nobody = convert_poses(args.out / "poses", "import_asl_signs", options, sources, converter, workers)
    rows = [row for row in rows if row["id"] not in nobody]
    table = write_table(args.out / "table.csv", rows)
    print(f"wrote {table.path}: {len(table.rows)} clips")
    return 0


def convert(source: Path, fps: float, width: int, height: int) -> bytes:
    """One Parquet file of landmarks -> the content of a .pose file. Raises UserError."""
    try:
        table: dict[str, Any] = parquet_module().read_table(source).to_pydict()
        frame_numbers, kinds = np.array(table["frame"]), np.array(table["type"])
        index = np.array(table["landmark_index"], dtype=np.int64)
        points = np.column_stack([np.array(table[axis], dtype=np.float32) for axis in "xyz"])
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{source}: not landmarks of ASL Signs ({error}).") from error
    if not len(frame_numbers):
        raise UserError(f"{source}: no landmarks.")
    frames, frame = np.unique(frame_numbers, return_inverse=True)
    parts = {}
    for kind, (component, count) in PARTS.items():
        chosen = (kinds == kind) & (index < count)
        array = np.full((len(frames), count, 3), np.nan, np.float32)
        array[frame[chosen], index[chosen]] = points[chosen]
        parts[component] = array
    return pose_of_landmarks(parts, fps, width, height)


if __name__ == "__main__":
    sys.exit(main())

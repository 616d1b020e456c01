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
import itertools
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
from mmpt.processors.table_writer import read_csv, split_by, write_clips
from mmpt.utils.errors import UserError
from mmpt.utils.files import file_in
from mmpt.utils.logging import setup_logging
from mmpt.utils.parallel import check_workers, cores

PARTS = {"face": FACE, "left_hand": LEFT_HAND, "pose": POSE, "right_hand": RIGHT_HAND}
_COUNTS = {"face": 468, "left_hand": 21, "pose": 33, "right_hand": 21}
_STARTS = dict(zip(_COUNTS, itertools.accumulate(_COUNTS.values(), initial=0)))


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
    table = write_clips(args.out, [row for row in rows if row["id"] not in nobody])
    print(f"wrote {table.path}: {len(table.rows)} clips")
    return 0


def convert(source: Path, fps: float, width: int, height: int) -> bytes:
    """One Parquet file of landmarks -> the content of a .pose file. Raises UserError."""
    parquet = parquet_module()
    try:
        table = parquet.read_table(source)
        frame, index = _filled(table, "frame", "int64"), _filled(table, "landmark_index", "int64")
        kinds = _filled(table, "type", "string")
        points = np.column_stack([table.column(axis).cast("float32").to_numpy() for axis in "xyz"])
    except Exception as error:  # pyarrow raises all kinds of exceptions on invalid bytes
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise UserError(f"{source}: not landmarks of ASL Signs ({reason}).") from error
    if not len(frame):
        raise UserError(f"{source}: no landmarks.")
    starts, counts = (np.array([numbers.get(kind, 0) for kind in kinds]) for numbers in (_STARTS, _COUNTS))
    if wrong := np.flatnonzero((index < 0) | (index >= counts)).tolist():
        known = ", ".join(f"{kind} (0 to {count - 1})" for kind, count in _COUNTS.items())
        got = f"{kinds[wrong[0]]} {index[wrong[0]]} in row {wrong[0] + 1}"
        raise UserError(f"{source}: expected landmarks of {known}, got {got}.")
    frames, frame = np.unique(frame, return_inverse=True)
    total = sum(_COUNTS.values())
    place = frame * total + starts + index
    if len(np.unique(place)) < len(place):
        raise UserError(f"{source}: it has a landmark twice in the same frame.")
    whole = np.full((len(frames) * total, 3), np.nan, np.float32)
    whole[place] = points
    whole = whole.reshape(len(frames), total, 3)
    parts = {
        component: whole[:, _STARTS[kind] : _STARTS[kind] + _COUNTS[kind]]
        for kind, component in PARTS.items()
    }
    return pose_of_landmarks(parts, fps, width, height)


def _filled(table: Any, name: str, kind: str) -> np.ndarray:
    """A column as an array. Raises ValueError if a cell is empty."""
    column = table.column(name).cast(kind)
    if column.null_count:
        raise ValueError(f"{column.null_count} cells of the column {name} are empty")
    return column.to_numpy()


if __name__ == "__main__":
    sys.exit(main())

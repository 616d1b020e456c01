#!/usr/bin/env python
"""Write the table of WLASL (21,083 videos of 2,000 signs of ASL; Li et al., 2020).

Get the data: https://github.com/dxli94/WLASL (WLASL_v0.3.json and scripts that download the videos; request
missing ones there). Cut them into one file per sign with its preprocess.py. Then extract the poses:

    signclip extract pose --in WLASL/start_kit/videos --out data/wlasl/poses
    python scripts/import_wlasl.py --json WLASL_v0.3.json --poses data/wlasl/poses --out data/wlasl

Files are named by video_id. --raw reads the uncut videos (start_kit/raw_videos_mp4), where those of YouTube
are named by YouTube's id and contain many signs; the table then has the frames of each sign, at 25 frames per
second. The published splits share signers: check and evaluate with --allow-leak signers.
"""

import argparse
import functools
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

from mmpt.cli import run_cli

from mmpt.processors.recording_files import Recording, cut_to
from mmpt.processors.table_writer import write_clips
from mmpt.timed_text import Findings
from mmpt.utils.errors import UserError
from mmpt.utils.files import file_in, read_json
from mmpt.utils.logging import setup_logging

MS_PER_FRAME = 40
"""Of frame_start and frame_end: 25 frames per second."""
_YOUTUBE = re.compile(r"youtu(?:be\.com/(?:watch\?(?:.*&)?v=|embed/|v/)|\.be/)([\w-]{11})")


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments and import."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, required=True, help="WLASL_v0.3.json")
    parser.add_argument("--poses", type=Path, required=True, help="folder of the poses, VIDEO_ID.pose")
    parser.add_argument("--out", type=Path, required=True, help="folder of table.csv")
    parser.add_argument("--raw", action="store_true", help="the videos are not cut to the sign")
    parser.add_argument("--classes", type=int, help="only the first CLASSES signs: 100, 300, 1000, 2000")
    return run_cli(run, parser.parse_args(argv))


def run(args: argparse.Namespace) -> int:
    """Read the JSON file and write the table."""
    setup_logging(logging.INFO)
    if args.classes is not None and args.classes < 1:
        raise UserError(f"--classes {args.classes}: expected 1 or more.")
    rows, findings = [], Findings()
    length = functools.cache(lambda pose: Recording(pose.stem, pose).length() if pose.is_file() else None)
    try:
        for entry in read_json(args.json)[: args.classes]:
            for instance in entry["instances"]:
                pose, row = _row(args, entry["gloss"], instance)
                if args.raw:
                    where = f"{args.json}, video {row['id']}"
                    start, end = _times(instance, where)
                    times = cut_to(start, start + 1 if end is None else end, length(pose), where, findings)
                    if times is None:
                        continue
                    row |= {"start_ms": str(times[0]), "end_ms": "" if end is None else str(times[1])}
                rows.append(row)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{args.json}: cannot be read ({error.strerror}); see --help.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{args.json}: not the JSON file of WLASL ({error!r}).") from error
    table = write_clips(args.out, rows, findings)
    print(f"wrote {table.path}: {len(table.rows)} clips")
    return 0


def _row(args: argparse.Namespace, gloss: str, instance: dict[str, Any]) -> tuple[Path, dict[str, str]]:
    """The pose of an instance, and its row, without times."""
    name = str(instance["video_id"])
    youtube = _YOUTUBE.search(instance["url"]) if args.raw else None
    pose = file_in(args.poses, f"{youtube[1] if youtube else name}.pose")
    return pose, {
        "id": name,
        "path": os.path.relpath(pose, args.out),
        "text": gloss,
        "split": str(instance["split"]),
        "signed_language": "ase",
        "spoken_language": "en",
        "signer": str(instance["signer_id"]),
    }


def _times(instance: dict[str, Any], where: str) -> tuple[int, int | None]:
    """Start and end in milliseconds; None for the end of the video. Raises UserError."""
    first, last = instance["frame_start"], instance["frame_end"]
    if not (type(first) is type(last) is int and first >= 0 and last >= -1):
        raise UserError(
            f"{where}: expected frame numbers in frame_start and frame_end, got {first!r} and {last!r}."
        )
    # frames count from 1 and frame_end is included; -1 is the video's end
    return (max(first, 1) - 1) * MS_PER_FRAME, None if last < 0 else last * MS_PER_FRAME


if __name__ == "__main__":
    sys.exit(main())

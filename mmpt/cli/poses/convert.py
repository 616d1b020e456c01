"""Convert the poses of OpenPose, mmpose (RTMW, DWPose), AlphaPose, Sapiens or COCO to .pose files.

    signclip poses convert SOURCE... --out FILE.pose|FOLDER [--fps N --width W --height H]

A source is a folder of OpenPose's *_keypoints.json (one clip), a JSON file of mmpose, AlphaPose or COCO (one
clip), a .pose file of a known estimator, or a folder of such clips. The file has the estimator's own points;
--layout canonical writes those that all estimators have, under the names of MediaPipe Holistic. A file that
exists with other content is never replaced. Exit status: 0, or 1 if one of several clips cannot be read,
which is named.
"""

import argparse
import logging
import sys
from pathlib import Path

from mmpt.cli.command import Command
from mmpt.utils.errors import UserError
from mmpt.utils.logging import setup_logging


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("sources", nargs="+", type=Path, metavar="SOURCE", help="JSON file, .pose, or folder")
    parser.add_argument(
        "--out", type=Path, required=True, help=".pose file for one clip, or folder of all .pose files"
    )
    parser.add_argument(
        "--layout",
        choices=["own", "canonical", "holistic"],
        default="own",
        help="points of the file: the estimator's own (default); canonical: those that all estimators have; "
        "holistic: all of MediaPipe Holistic, most of the face missing",
    )
    parser.add_argument("--fps", type=float, help="frames per second, where the source does not say")
    parser.add_argument("--width", type=int, help="image width in pixels, if the source does not have it")
    parser.add_argument("--height", type=int, help="image height in pixels")
    parser.add_argument(
        "--min-confidence",
        type=float,
        help="points below it are missing (default: 0.3; OpenPose: 0.2; MediaPipe Holistic: 0)",
    )
    parser.add_argument(
        "--person",
        choices=["first", "largest", "tracked"],
        default="tracked",
        help="which of several people in a frame (default: the largest, followed by overlap)",
    )
    parser.add_argument(
        "--frame-files",
        action="store_true",
        help="each SOURCE is a folder of one clip, a JSON file per frame, named by number (Sapiens, mmpose)",
    )


def run(args: argparse.Namespace) -> int:
    """Convert the clips, one line for each."""
    setup_logging(logging.INFO)
    _check(args)
    from mmpt.pose.conversion import Conversion, outputs

    conversion = Conversion(
        args.layout,
        args.min_confidence,
        args.fps,
        args.width,
        args.height,
        args.person,
        args.frame_files,
    )
    pairs = outputs(args.sources, args.out, args.frame_files)
    failed = 0
    for clip, target in pairs:
        try:
            converted = conversion(clip)
            written = converted.write(target)
        except UserError as error:
            if len(pairs) == 1:
                raise
            failed += 1
            print(f"error: {error}", file=sys.stderr)
        else:
            print(f"{target}: {converted.facts}{'' if written else ' (already there)'}")
    if len(pairs) > 1:
        print(f"{len(pairs) - failed} of {len(pairs)} clips are in {args.out}")
    return 1 if failed else 0


def _check(args: argparse.Namespace) -> None:
    for name in ("fps", "width", "height"):
        value = getattr(args, name)
        if value is not None and not 0 < value < 65536:
            raise UserError(f"--{name} {value:g}: expected a number above 0, below 65536")
    if args.min_confidence is not None and not 0 <= args.min_confidence <= 1:
        raise UserError(f"--min-confidence {args.min_confidence:g}: expected a number from 0 to 1")


main = Command("poses convert", __doc__, add_arguments, run)

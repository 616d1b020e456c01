"""Describe pose files: layout, frame rate, people, and how often each part is visible.

    signclip poses info FILE|FOLDER... [--model MODEL] [--json]

All .pose files in a folder, at any depth, are described together; values that differ between them are shown
as "mixed". A part is visible in a frame if any of its points is. With --model, the landmarks that the model
reads are counted. Exit status: 0, or 1 if one of several files cannot be read, which is named.
"""

import argparse
import json
import logging
import sys
from functools import partial
from pathlib import Path

from mmpt.cli.command import Command
from mmpt.cli.poses import pose_model
from mmpt.utils.errors import UserError
from mmpt.utils.logging import setup_logging


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help=".pose file, or folder of them")
    parser.add_argument(
        "--model", metavar="FOLDER", help="model folder, or org/name on the hub, whose landmarks are counted"
    )
    parser.add_argument("--workers", type=int, help="processes that read files (default: one per core)")
    parser.add_argument("--json", action="store_true", help="print JSON, with the facts of each file")


def run(args: argparse.Namespace) -> int:
    """Read the files and print their facts."""
    setup_logging(logging.INFO)
    from mmpt.pose.facts import Reads, as_json, pose_files, summary, table, try_facts
    from mmpt.utils.parallel import check_workers, cores, ordered_map

    workers = check_workers(args.workers, cores())
    model = None
    if args.model:
        processor = pose_model(args.model, "cpu").video_processor
        model = Reads(processor.landmarks, processor.prepare)
    shown, failed = [], 0
    for path in args.paths:
        files = pose_files(path)
        several = workers if len(files) > 200 else 0
        results = list(ordered_map(partial(try_facts, model=model), files, several))
        facts = [result for result in results if not isinstance(result, str)]
        errors = [result for result in results if isinstance(result, str)]
        if errors and len(args.paths) == 1 and not path.is_dir():
            raise UserError(errors[0])
        failed += len(errors)
        for error in errors:
            print(f"error: {error}", file=sys.stderr)
        if not facts:
            continue
        found = summary(facts, model)
        if args.json:
            found |= {"path": str(path), "unreadable": errors, "each": [as_json(one) for one in facts]}
            shown.append(found)
        else:
            print(table(str(path), found))
    if args.json:
        print(json.dumps(shown, indent=2))
    if failed:
        print(f"{failed} of the files cannot be read", file=sys.stderr)
    return 1 if failed else 0


main = Command("poses info", __doc__, add_arguments, run)

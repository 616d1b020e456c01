"""Extract poses or features from a folder of videos.

    signclip extract pose|s3d|i3d|npy --in DIR --out DIR
    signclip extract pose|s3d|i3d|npy --in DIR --out DIR --shard 1/4

With --shard 1/4, the command extracts the first of four parts of the files; run the other parts in other
processes or jobs, then the same command with --merge instead of --shard. To resume an interrupted run, repeat
the command. Exit status: 0 if all features were extracted, 1 if some files failed (they are listed), 2 if the
run could not start, 130 after Ctrl-C.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from mmpt.cli.command import Command
from mmpt.extractors import EXTRACTORS, get_extractor
from mmpt.utils.errors import UserError
from mmpt.utils.logging import setup_logging, some_of
from mmpt.utils.text import counted

log = logging.getLogger(__name__)

MAX_LISTED = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of all extractors. Those of one are added when it is known (see _parse)."""
    parser.add_argument("extractor", choices=EXTRACTORS.names(), help="append --help for the options of one")
    parser.add_argument(
        "--in", dest="folder", type=Path, required=True, help="folder of the input files, at any depth"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the features and manifest.json")
    parser.add_argument(
        "--workers",
        type=int,
        help="reader processes (0: read in this process; default: depends on the CPU cores)",
    )
    parser.add_argument(
        "--again",
        action="store_true",
        help="extract finished files again, too, also with other options; repeat the command to resume",
    )
    parser.add_argument("--verify", action="store_true", help="check the hashes of finished files")
    parser.add_argument("--quiet", action="store_true", help="only warnings and errors")


def _parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Add the options of the requested extractor, whose libraries only it imports, and parse."""
    if kind := _kind(argv):
        get_extractor(kind).add_arguments(parser)
    return parser.parse_args(argv)


def _kind(argv: Sequence[str]) -> str | None:
    """The requested extractor; a folder may have the name of another one."""
    named = [(last.startswith("--"), word) for last, word in zip(["", *argv], argv) if word in EXTRACTORS]
    return min(named, key=lambda found: found[0])[1] if named else None


def run(args: argparse.Namespace) -> int:
    """Extract the features of the folder, and list what was skipped or failed."""
    setup_logging("WARNING" if args.quiet else "INFO")
    from mmpt.extractors.runner import RunOptions, extract_folder
    from mmpt.utils.parallel import check_workers, cores

    if args.merge and args.again:
        raise UserError("--again extracts again, and --merge extracts nothing: give it with --shard.")
    extractor = get_extractor(args.extractor).from_args(args)
    workers = check_workers(args.workers, extractor.default_workers(cores()))
    options = RunOptions(workers, args.again, args.verify, not args.quiet, args.sharding)
    summary = extract_folder(extractor, args.folder, args.out, options)
    for kind_of, keys in (("warnings for", summary.noted), ("nothing written for", summary.skipped)):
        if keys:
            log.warning("%s %s:", kind_of, counted(len(keys), "file"))
        for key in list(keys)[:MAX_LISTED]:
            noted = f": {'; '.join(summary.noted[key])}" if key in summary.noted else ""
            log.warning("  %s%s", some_of([key]), noted)
        if len(keys) > MAX_LISTED:
            log.warning("  and %d more: see %s", len(keys) - MAX_LISTED, args.out / "manifest.json")
    tokens = f", {summary.tokens} tokens" if summary.tokens else ""
    log.info(
        "%s: %d extracted%s, %d already finished, %d skipped, %d failed, in %.1f s",
        args.out,
        summary.made,
        tokens,
        summary.kept,
        len(summary.skipped),
        len(summary.failed),
        summary.seconds,
    )
    for message in summary.failed.values():
        log.error("failed: %s", UserError(message))  # in one line
    return 1 if summary.failed else 0


main = Command("extract", __doc__, add_arguments, run, _parse, shards=True)

if __name__ == "__main__":
    sys.exit(main())

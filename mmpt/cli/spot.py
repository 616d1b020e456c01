"""Find texts or example signs in long recordings, and measure it against a reference.

    signclip spot talk.pose --model MODEL --texts texts.txt --threshold 0.4 --out spotted
    signclip spot v/*.pose --model MODEL --texts texts.txt --reference v --choose-threshold --out valid
    signclip spot t/*.pose --model MODEL --texts texts.txt --reference t --thresholds FILE --out test

RECORDING: .pose files (.npy features, with --fps, for a model of video features). Windows of several lengths
are embedded, each as a clip of its own, and compared with each text. A window whose score is at least the
threshold is a detection, unless a better window of the same text overlaps it.

Writes for each recording NAME.csv (start_ms, end_ms, text, score), NAME.eaf (ELAN) and NAME.png (scores over
time) to --out, and spotting.json, with metrics if a reference is given: mAP, F1, precision and recall at IoU
0.1, 0.3 and 0.5 and within 1 s, with 95 % intervals over recordings and chance. Of more than 10,000
detections, NAME.eaf has the best 10,000. To resume an interrupted run, repeat the command. Recordings that
cannot be read are left out, also of the metrics, and listed at the end; the same command tries them again.
Exit status: 0, 1 if recordings could not be read, 2 if none could or the run could not start, 130 after
Ctrl-C.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmpt.cli.command import Command
from mmpt.utils.errors import UserError
from mmpt.utils.logging import setup_logging
from mmpt.utils.outputs import FORCE_HELP
from mmpt.utils.text import counted

if TYPE_CHECKING:
    from mmpt.embedding.embedder import SignCLIP
    from mmpt.spotting import Targets, Thresholds

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("recordings", nargs="+", type=Path, metavar="RECORDING", help=".pose or .npy files")
    parser.add_argument(
        "--model",
        type=Path,
        required=True,
        help="model folder (see `signclip convert`), checkpoint with its config.yaml, or org/name on the hub",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    wanted = parser.add_argument_group("what to search for")
    one = wanted.add_mutually_exclusive_group(required=True)
    one.add_argument("--texts", type=Path, metavar="FILE", help=".txt of texts, one per line, or a table")
    one.add_argument(
        "--index",
        type=Path,
        metavar="INDEX",
        help="example clips or prompts: folder of `signclip search build`",
    )
    wanted.add_argument(
        "--prompt",
        help="template of the prompts, such as 'A sign: {text}' (default: the line; table: model's)",
    )
    wanted.add_argument(
        "--table", type=Path, metavar="FILE", help="with --index: table with the text of each example (id)"
    )
    _add_search_arguments(parser.add_argument_group("search"))
    _add_threshold_arguments(parser.add_argument_group("thresholds and reference"))
    parser.add_argument("--tier-per-text", action="store_true", help="one ELAN tier for each text")
    parser.add_argument("--batch-size", type=int, default=256, help="windows per batch (default: 256)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--autocast", choices=["bf16", "fp16"], help="compute in half precision")
    parser.add_argument("--force", action="store_true", help=FORCE_HELP)
    parser.add_argument("--quiet", action="store_true", help="only warnings and errors")


def _add_search_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--lengths",
        default="0.5,1,2",
        metavar="S,S",
        help="lengths of the windows in seconds (default: 0.5,1,2)",
    )
    group.add_argument(
        "--step",
        type=float,
        default=0.2,
        metavar="S",
        help="seconds between the starts of two windows (default: 0.2)",
    )
    group.add_argument(
        "--overlap",
        type=float,
        default=0.2,
        help="IoU above which the better of two windows of a text suppresses the other (default: 0.2)",
    )
    group.add_argument(
        "--one-at-a-time", action="store_true", help="windows of different texts suppress each other too"
    )
    group.add_argument("--left-handed", action="store_true", help="mirror the recordings")
    group.add_argument("--fps", type=float, help="frame rate of .npy features")


def _add_threshold_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--threshold", type=float, help="least score of a detection (default: 0.5)")
    group.add_argument("--thresholds", type=Path, metavar="FILE", help="written by --choose-threshold")
    group.add_argument(
        "--choose-threshold",
        nargs="?",
        const="global",
        choices=["global", "per-text"],
        help="choose the threshold with the highest F1 on these recordings, which must not be those of the "
        "test: one (default) or one for each text",
    )
    group.add_argument(
        "--choose-at", default="0.3", metavar="IOU", help="IoU of that F1, or 1s: within 1 s (default: 0.3)"
    )
    group.add_argument(
        "--reference",
        nargs="+",
        type=Path,
        metavar="FILE",
        help=".eaf, .csv or subtitles of each recording, in the same order, or a folder with their names",
    )
    group.add_argument("--tier", action="append", default=[], help="tier of the reference (default: all)")
    group.add_argument(
        "--unit", choices=["ms", "s"], help="unit of the columns start and end of a CSV reference"
    )
    group.add_argument(
        "--media",
        metavar="NAME",
        help="the recording's media file, if ELAN shifts its media differently, such as '*_front.mp4'",
    )


def run(args: argparse.Namespace) -> int:
    """Load the model, search, and print what was found."""
    setup_logging("WARNING" if args.quiet else "INFO")
    _check(args)
    from mmpt.embedding.embedder import SignCLIP
    from mmpt.spotting import SpotOptions, WindowGrid
    from mmpt.spotting.reference import read_references, reference_files
    from mmpt.spotting.run import spot_recordings
    from mmpt.spotting.searching import RunOptions
    from mmpt.utils.allocator import keep_freed_memory

    criterion = _criterion(args.choose_at)
    search = SpotOptions(
        WindowGrid(_lengths(args.lengths), args.step),
        args.overlap,
        args.one_at_a_time,
        args.left_handed,
        args.fps,
    )
    files = reference_files(args.recordings, args.reference) if args.reference else None
    thresholds = _thresholds(args)
    keep_freed_memory()
    model = SignCLIP.from_pretrained(args.model, args.device, args.batch_size)
    model.model.autocast = args.autocast
    targets = _targets(args, model)
    references = None
    if files is not None:
        references = read_references(files, args.tier, targets.names, args.unit, args.media)
    options = RunOptions(
        search,
        thresholds,
        args.choose_threshold,
        criterion,
        args.tier_per_text,
        args.force,
        not args.quiet,
        sharding=args.sharding,
    )
    report = spot_recordings(model, args.recordings, targets, args.out, options, references)
    if "shard" in report:
        print(
            f"shard {report['shard']}: {counted(report['searched'], 'recording')}, "
            f"{counted(report['windows'], 'window')}"
        )
    else:
        _print(report, args)
    failed = report.get("failed", {})  # of an output of an earlier version: none
    for reason in failed.values():
        log.error("failed: %s", reason)
    return 1 if failed else 0


def _check(args: argparse.Namespace) -> None:
    """Raises UserError for options that exclude or need each other."""
    given = [
        option
        for option, value in (
            ("--threshold", args.threshold),
            ("--thresholds", args.thresholds),
            ("--choose-threshold", args.choose_threshold),
        )
        if value is not None
    ]
    if len(given) > 1:
        raise UserError(f"{given[0]} and {given[1]} exclude each other: give one of them.")
    for option, value, needs, there in (
        ("--choose-threshold", args.choose_threshold, "--reference", args.reference),
        ("--tier", args.tier, "--reference", args.reference),
        ("--unit", args.unit, "--reference", args.reference),
        ("--media", args.media, "--reference", args.reference),
        ("--table", args.table, "--index", args.index),
        ("--prompt", args.prompt, "--texts", args.texts),
    ):
        if value and not there:
            raise UserError(f"{option} needs {needs}.")


def _lengths(words: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in words.split(","))
    except ValueError:
        raise UserError(
            f"--lengths {words}: expected seconds separated by commas, such as 0.5,1,2."
        ) from None


def _criterion(word: str) -> Any:
    from mmpt.spotting import Criterion

    kind, number = ("seconds", word[:-1]) if word.endswith("s") else ("iou", word)
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 < value <= (1 if kind == "iou" else float("inf")):
        raise UserError(f"--choose-at {word}: expected an IoU above 0 and up to 1, or seconds, such as 1s.")
    return Criterion(kind, value)


def _thresholds(args: argparse.Namespace) -> "Thresholds":
    from mmpt.spotting import Thresholds

    if args.thresholds is not None:
        return Thresholds.read(args.thresholds)
    value = 0.5 if args.threshold is None else args.threshold
    if not abs(value) < 1e38:
        raise UserError(f"--threshold {value}: expected a number.")
    return Thresholds(value)


def _targets(args: argparse.Namespace, model: "SignCLIP") -> "Targets":
    from mmpt.spotting import targets_of_file, targets_of_index

    if args.index is not None:
        return targets_of_index(model, args.index, args.table)
    return targets_of_file(model, args.texts, args.prompt)


def _print(report: dict[str, Any], args: argparse.Namespace) -> None:
    """One line for each recording, and the metrics as a table."""
    for row in report["recordings"]:
        found = (
            f"{counted(row['detections'], 'detection')} in {row['seconds']:.1f} s, "
            f"{counted(row['windows'], 'window')}"
        )
        print(f"{row['recording']}: {found}")
    chosen = report["thresholds"]
    if args.choose_threshold:
        print(f"threshold chosen by {chosen['by']}: {chosen['common']} (F1 {chosen['F1']:.3f})")
    elif "by" in chosen:
        print(
            f"thresholds of {args.thresholds}, chosen on {chosen.get('recordings', 'other')} recordings by "
            f"{chosen['by']} (F1 there: {chosen['F1']:.3f})"
        )
    if "metrics" in report:
        texts = f"{report.get('chance_texts', 'all')} shuffled texts"
        print(f"{'':12} {'metric':9}  value  {'95 % interval':15}  chance: {texts}, random spans")
    for criterion, metrics in report.get("metrics", {}).items():
        for name, of in metrics.items():
            low, high = of["interval"] or (None, None)
            interval = "one recording" if low is None else f"{low:.3f} to {high:.3f}"
            chance = ", ".join(f"{value:.3f}" for value in of["chance"].values())
            print(f"{criterion:12} {name:9}  {of['value']:.3f}  {interval:15}  {chance}")
    print(f"wrote {args.out}")


main = Command("spot", __doc__, add_arguments, run, shards=True)

if __name__ == "__main__":
    sys.exit(main())

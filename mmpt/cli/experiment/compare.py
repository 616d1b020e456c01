"""Compare finished evaluations clip by clip.

    signclip experiment compare runs/A runs/B [runs/C ...] [--out compare.md]

Each RUN is a run folder or its folder of results. The runs must have evaluated the same clips and prompts.
Shows V2T R@1 with its 95 % interval, the paired difference to the first run, and the clips whose answer
changed. --out ends in .md or .json.
"""

import argparse
from pathlib import Path

from mmpt.cli.command import Command
from mmpt.utils.errors import UserError

TITLE = "# Comparison of finished runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="two or more finished runs")
    parser.add_argument(
        "--clips", type=int, default=20, help="changed clips to list for each run (default: 20)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the comparison: .md or .json")


def run(args: argparse.Namespace) -> None:
    """Read the runs, and print and write the comparison."""
    from mmpt.experiments.finished import Finished, compare_finished, comparison_table
    from mmpt.utils.files import write_json, write_text
    from mmpt.utils.outputs import check_file

    if len(args.runs) < 2:
        raise UserError(f"one run given, {args.runs[0]}: expected two or more.")
    if args.clips < 0:
        raise UserError(f"--clips {args.clips}: expected 0 or more.")
    if args.out is not None and args.out.suffix not in (".md", ".json"):
        raise UserError(f"--out {args.out}: expected a name that ends in .md or .json.")
    if args.out is not None:
        check_file(args.out, _written_by_us)
    runs = [Finished.read(folder) for folder in args.runs]
    rows = compare_finished(runs)
    text = comparison_table(rows, runs, args.clips)
    print(text)
    if args.out is None:
        return
    if args.out.suffix == ".json":
        write_json(args.out, rows)
    else:
        write_text(args.out, f"{TITLE}\n\n{text}")
    print(f"wrote {args.out}")


def _written_by_us(path: Path) -> bool:
    """Whether a file is a comparison of this command."""
    from mmpt.utils.files import read_json, read_text

    if path.suffix == ".md":
        return read_text(path).startswith(TITLE)
    rows = read_json(path)
    keys = {"run", "now right", "now wrong"}
    return isinstance(rows, list) and bool(rows) and all(isinstance(r, dict) and keys <= {*r} for r in rows)


main = Command("experiment compare", __doc__, add_arguments, run)

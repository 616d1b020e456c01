#!/usr/bin/env python
"""Compare the speed of mmpt with other implementations of the same task, in one run.

    python scripts/benchmark.py eval --out runs/benchmarks/eval.json

Each benchmark is a module in scripts/benchmarks/ with AGAINST (name of the other implementation -> what it
does), `add_arguments(parser)` and `run(options) -> dict`, which prints a table and returns all numbers; their
"summary" is printed last. `peer` is what a competent user would write with the usual libraries, `plain` the
straightforward way.
"""

import argparse
import importlib
import logging
import sys
from pathlib import Path

from mmpt.cli import run_cli

from benchmarks.common import machine
from mmpt.utils.files import read_json, write_json
from mmpt.utils.logging import setup_logging
from mmpt.utils.outputs import check_file

# name: module in scripts/benchmarks (imported only when it is run) and description
BENCHMARKS = {
    "train": ("train", "training updates/s against fixed padding"),
    "cached": ("cached", "memory, time and gradients of a large batch with loss.cached_chunk"),
    "data": ("data", "poses from the cache against parsing each file, and a cache of 100,000 clips"),
    "eval": ("evaluation", "retrieval metrics and k-NN against numpy, torch and scikit-learn"),
    "search": ("search", "top-k search, exact and approximate, against torch.topk and faiss"),
    "embed": ("embed", "embedding thousands of pose files, against one at a time"),
    "spot": ("spotting", "500 texts in an hour of poses, against a loop over batches of windows"),
    "serve": ("serve", "the server with 32 clients at once, against the model in a loop"),
    "extract": ("extract", "poses against pose-format's videos_to_poses; S3D and I3D against a plain loop"),
}
log = logging.getLogger("benchmark")


def main(argv: list[str] | None = None) -> int:
    """Run one benchmark."""
    arguments = sys.argv[1:] if argv is None else argv
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="name", required=True, metavar="BENCHMARK")
    for name, (module_name, about) in BENCHMARKS.items():
        command = commands.add_parser(name, help=about, formatter_class=raw)
        if name in arguments[:1]:
            module = importlib.import_module(f"benchmarks.{module_name}")
            command.description = module.__doc__
            module.add_arguments(command)
            others = "; ".join(f"{key}: {what}" for key, what in module.AGAINST.items())
            first = next(iter(module.AGAINST))
            command.add_argument(
                "--against",
                choices=list(module.AGAINST),
                default=first,
                help=f"what mmpt is compared with (default: {first}). {others}",
            )
            command.add_argument("--out", metavar="FILE", help="write all numbers to this file as JSON")
            command.set_defaults(run=module.run)
    options = parser.parse_args(arguments)
    setup_logging(logging.INFO)
    if options.out:
        check_file(Path(options.out), lambda path: "benchmark" in read_json(path))
    found = options.run(options)
    if options.out:
        settings = {
            key: str(value) if isinstance(value, Path) else value
            for key, value in vars(options).items()
            if key not in ("run", "out", "name")
        }
        about_run = {"benchmark": options.name, "machine": machine(), "settings": settings}
        write_json(options.out, about_run | found)
        log.info("all numbers are in %s", options.out)
    sys.stdout.write(found["summary"] + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_cli(main))

"""Evaluate a trained model: `python -m mmpt.cli.predict projects/signclip/test_X.yaml [key=value ...]`.

Embeds the clips and prompts of a split, ranks them both ways and writes table, JSON, pictures and embeddings.
Needs no fairseq and no GPU.
"""

import argparse
import logging
import shlex
import sys

from mmpt.config import Config, load_config
from mmpt.utils.allocator import keep_freed_memory
from mmpt.utils.errors import run_cli
from mmpt.utils.logging import setup_logging

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Parse and evaluate."""
    parser = argparse.ArgumentParser(
        prog="mmpt.cli.predict", description="Evaluate a trained model on a split."
    )
    parser.add_argument("taskconfig", help="YAML file, such as projects/signclip/test_fslex_demo.yaml")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="overrides, such as eval.similarity=dot"
    )
    args = parser.parse_intermixed_args(argv)
    return run_cli(_predict, args)


def _predict(args: argparse.Namespace) -> int:
    setup_logging(logging.INFO)
    keep_freed_memory()
    config = load_config(args.taskconfig, args.overrides)
    command = shlex.join(["python", "locallaunch.py", args.taskconfig, *args.overrides])
    print(evaluate(config, args.taskconfig, command))
    return 0


def evaluate(config: Config, name: str, command: str) -> str:
    """Evaluate the checkpoint that the config names and save the report. Returns the table to show."""
    from mmpt.evaluators.evaluation import evaluate_task
    from mmpt.tasks import Task

    return evaluate_task(Task(config), config_name=name, command=command)


if __name__ == "__main__":
    sys.exit(main())

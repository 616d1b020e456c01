"""Check a task config without training: names, types, bounds, settings that contradict each other.

    signclip config check X.yaml [key=value ...]

Reads neither clips nor weights. Exit status: 0 without errors, 2 with one.
"""

import argparse

from mmpt.cli.command import Command
from mmpt.cli.config.show import add_arguments


def run(args: argparse.Namespace) -> None:
    """Load the config, build its task and its loss, which read neither clips nor weights."""
    from mmpt.config import load_config
    from mmpt.tasks import Task

    Task(load_config(args.taskconfig, args.overrides)).build_loss()
    print(f"{args.taskconfig}: no errors")


main = Command("config check", __doc__, add_arguments, run)

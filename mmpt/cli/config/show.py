"""Print a task config with its includes and overrides resolved, as YAML.

    signclip config show package:fslex_demo loss.temperature=0.1

The output also has the keys that the config leaves at their defaults.
"""

import argparse

from mmpt.cli.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("taskconfig", help="YAML file, or package:NAME")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="overrides, such as loss.temperature=0.1"
    )


def run(args: argparse.Namespace) -> None:
    """Load the config and print it."""
    from mmpt.config import load_config
    from mmpt.config.loader import as_yaml

    print(as_yaml(load_config(args.taskconfig, args.overrides)), end="")


main = Command("config show", __doc__, add_arguments, run)

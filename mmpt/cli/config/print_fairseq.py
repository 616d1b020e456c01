"""Print the fairseq-train command that is equivalent to training a task config.

It trains the same model, but does not lock its folder or stop on signals as `signclip train` does.
"""

import argparse

from mmpt.cli.command import Command
from mmpt.cli.config.show import add_arguments


def run(args: argparse.Namespace) -> int:
    """Print the command."""
    from mmpt.cli import train

    return train.main([args.taskconfig, *args.overrides, "--print-fairseq"])


main = Command("config print-fairseq", __doc__, add_arguments, run)

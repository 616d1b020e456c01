"""List the configs that come with mmpt.

`signclip train package:NAME` trains one; `includes: [package:NAME]` builds on one.
"""

import argparse

from mmpt.cli.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command has no options."""


def run(args: argparse.Namespace) -> None:
    """Print the name of each config with the comment in its first line."""
    from mmpt.config.package_files import PREFIX, first_comment, package_configs

    files = package_configs()
    width = max(map(len, files)) + len(PREFIX)
    for name in sorted(files, key=lambda name: (str(files[name].parent), name)):
        print(f"{PREFIX + name:<{width}}  {first_comment(files[name]) or ''}".rstrip())


main = Command("config list", __doc__, add_arguments, run)

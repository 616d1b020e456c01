"""List the configs that come with mmpt.

`signclip train package:NAME` trains one; `includes: [package:NAME]` builds on one.
"""

import argparse

from mmpt.cli.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command has no options."""


def run(args: argparse.Namespace) -> None:
    """Print the name and the description of each config."""
    from mmpt.config.package_files import PREFIX, description, package_configs

    files = package_configs()
    width = max(map(len, files)) + len(PREFIX)
    for name in sorted(files, key=lambda name: (str(files[name].parent), name)):
        print(f"{PREFIX + name:<{width}}  {description(files[name])}".rstrip())


main = Command("config list", __doc__, add_arguments, run)

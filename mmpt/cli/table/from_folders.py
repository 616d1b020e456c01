"""Write the table of a tree of clips, CLASS/CLIP or SPLIT/CLASS/CLIP.

    signclip table from-folders CLIPS --out table.csv

The text of a clip is the name of its folder. Folders train, valid (or val, dev, validation) and test above
the classes are the splits. Without them, each class is divided by a hash of its clips' names; with --signer,
the signers are. Columns of the table: id, path, text, split, signer.
"""

import argparse

from mmpt.cli.command import Command
from mmpt.cli.table import add_table_arguments, rules, write


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_table_arguments(parser, "clips")


def run(args: argparse.Namespace) -> None:
    """Write the table and print what it holds."""
    from mmpt.processors.caption_table import folder_rows

    write(args.out, folder_rows(args.folder, rules(args)))


main = Command("table from-folders", __doc__, add_arguments, run)

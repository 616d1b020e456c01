"""Describe a search index: kind, size, recall and model."""

import argparse

from mmpt.cli.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("index", metavar="INDEX", help="folder of `signclip search build`")


def run(args: argparse.Namespace) -> None:
    """Open the index and print its kind, size, recall and model."""
    from mmpt.search import Index

    index = Index(args.index)
    print(f"{args.index}: {index.summary}; model {index.model or 'not recorded'}")


main = Command("search info", __doc__, add_arguments, run)

"""Download a model of the Hugging Face hub into a model folder.

    signclip hub pull org/name --out FOLDER [--revision REVISION]

The folder loads without a network. For a private model, log in with `hf auth login`, or set HF_TOKEN.
"""

import argparse

from mmpt.cli.command import Command
from mmpt.utils.outputs import FORCE_HELP


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("name", metavar="org/name", help="name on the hub")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="model folder to write")
    parser.add_argument("--force", action="store_true", help=FORCE_HELP)
    parser.add_argument("--revision", help="branch, tag or commit (default: main)")


def run(args: argparse.Namespace) -> None:
    """Download the model and write the folder."""
    from mmpt.models.hub import pull_folder

    pull_folder(args.name, args.out, args.revision, args.force)
    print(f"wrote {args.out}: load it with mmpt.from_pretrained({args.out!r})")


main = Command("hub pull", __doc__, add_arguments, run)

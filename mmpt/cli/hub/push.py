"""Upload a model folder to the Hugging Face hub.

    signclip hub push FOLDER org/name [--private]

Uploads weights, configuration, tokenizer and model card, and no other file. Log in with `hf auth login`, or
set HF_TOKEN.
"""

import argparse

from mmpt.cli.command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("folder", metavar="FOLDER", help="model folder (see `signclip convert`)")
    parser.add_argument("name", metavar="org/name", help="name on the hub; created if it does not exist")
    parser.add_argument(
        "--private",
        action="store_true",
        help="visible to you and your organisation only; refused if the model is public",
    )


def run(args: argparse.Namespace) -> None:
    """Upload the folder and print its address."""
    from mmpt.models.hub import push_folder

    url = push_folder(args.folder, args.name, args.private)
    print(f"uploaded {args.folder} to {url}: load it with mmpt.from_pretrained({args.name!r})")


main = Command("hub push", __doc__, add_arguments, run)

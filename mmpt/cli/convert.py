"""Convert a checkpoint to a model folder.

    signclip convert runs/X/checkpoint_best.pt --config X.yaml --out FOLDER

CHECKPOINT is a checkpoint of mmpt, SignCLIP or VideoCLIP, or a plain state dict. The folder holds weights,
configuration, tokenizer and preprocessing; `mmpt.from_pretrained(FOLDER)` loads it offline, without fairseq.
"""

import argparse
import logging
import sys

from mmpt.cli.command import Command
from mmpt.utils.logging import setup_logging
from mmpt.utils.outputs import FORCE_HELP


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("checkpoint", help="a .pt or .safetensors file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides of the config")
    parser.add_argument("--config", required=True, help="task config that the checkpoint was trained with")
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="unpickle any class in the file, which can run code; only for files whose author you trust",
    )
    parser.add_argument("--licence", metavar="ID", help="licence for the model card, such as cc-by-4.0")
    parser.add_argument("--intended-use", metavar="TEXT", help="intended use, for the model card")
    parser.add_argument("--force", action="store_true", help=FORCE_HELP)


def run(args: argparse.Namespace) -> None:
    """Load the checkpoint and write the folder."""
    setup_logging(logging.INFO)
    from mmpt.config import load_config
    from mmpt.embedding.embedder import SignCLIP

    config = load_config(args.config, args.overrides)
    model = SignCLIP.from_checkpoint(args.checkpoint, config, trust=args.trust_checkpoint)
    model.save_pretrained(args.out, args.force, args.licence, args.intended_use)
    print(f"wrote {args.out}: load it with mmpt.from_pretrained({args.out!r})")


main = Command("convert", __doc__, add_arguments, run)

if __name__ == "__main__":
    sys.exit(main())

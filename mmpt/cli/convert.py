"""Make a model folder: `python -m mmpt.cli.convert CHECKPOINT --config X.yaml --out FOLDER`.

CHECKPOINT is ours, SignCLIP's or VideoCLIP's (fairseq), or a plain state dict. The folder holds weights,
configuration, tokenizer and preprocessing, and loads with `mmpt.from_pretrained(FOLDER)`, without network and
without fairseq.
"""

import argparse
import logging
import sys

from mmpt.config import load_config
from mmpt.utils.errors import run_cli
from mmpt.utils.logging import setup_logging


def main(argv: list[str] | None = None) -> int:
    """Parse and convert."""
    parser = argparse.ArgumentParser(
        prog="mmpt.cli.convert", description="Turn a checkpoint into a model folder."
    )
    parser.add_argument("checkpoint", help="a .pt or .safetensors file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides of the config")
    parser.add_argument("--config", required=True, help="task config that the checkpoint was trained with")
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="load a file that needs code of its own: only if you trust its maker",
    )
    args = parser.parse_intermixed_args(argv)
    setup_logging(logging.INFO)
    return run_cli(convert, args)


def convert(args: argparse.Namespace) -> int:
    """Load strictly, save."""
    from mmpt.embedding.embedder import SignCLIP

    config = load_config(args.config, args.overrides)
    model = SignCLIP.from_checkpoint(args.checkpoint, config, trust=args.trust_checkpoint)
    model.save_pretrained(args.out)
    print(f"wrote {args.out}: load it with mmpt.from_pretrained({args.out!r})")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Export a model to ONNX: the video tower, the text tower and how to prepare their inputs.

    signclip export FOLDER --onnx --out DIR

DIR holds video.onnx, text.onnx, the tokenizer and preprocessing.json, which describes inputs and outputs.
Batch size and length are dynamic. Both towers are compared with the model in onnxruntime; nothing is written
if they differ. Needs `pip install "mmpt[onnx]"`.
"""

import argparse

from mmpt.cli.command import Command
from mmpt.utils.outputs import FORCE_HELP


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("model", metavar="FOLDER", help="model folder, or org/name on the Hugging Face hub")
    parser.add_argument("--onnx", action="store_true", required=True, help="write ONNX, the only format")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--force", action="store_true", help=FORCE_HELP)


def run(args: argparse.Namespace) -> None:
    """Export, and print difference, size and latency of each tower."""
    from mmpt.embedding.embedder import SignCLIP
    from mmpt.embedding.onnx_export import export_onnx
    from mmpt.utils.logging import setup_logging

    setup_logging("INFO")
    for tower in export_onnx(SignCLIP.from_pretrained(args.model, "cpu"), args.out, args.force):
        unit = "frames" if tower.name == "video" else "token ids"
        print(
            f"{tower.name}.onnx: {tower.size / 1e6:.1f} MB; differs from torch by at most "
            f"{tower.difference:.1e}; {tower.onnx_ms:.2f} ms for {tower.length} {unit} on one thread "
            f"(torch: {tower.torch_ms:.2f} ms)"
        )
    print(f"wrote {args.out}: preprocessing.json describes the inputs")


main = Command("export", __doc__, add_arguments, run)

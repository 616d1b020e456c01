"""Build a search index of embeddings.

    signclip search build runs/X/eval --out runs/X/index

The sources are folders of `signclip evaluate` or `signclip embed`, or .npy files with an ids.json. Exact
search needs only NumPy; approximate search, for millions of vectors, needs faiss.
"""

import argparse
import logging

from mmpt.cli.command import Command
from mmpt.utils.errors import UserError
from mmpt.utils.logging import setup_logging
from mmpt.utils.outputs import FORCE_HELP

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="folder of an evaluation, folder with embeddings.npy and ids.json, or .npy file",
    )
    parser.add_argument("--out", required=True, metavar="INDEX", help="folder to write")
    parser.add_argument(
        "--side",
        choices=["video", "text"],
        default="video",
        help="embeddings of clips (video) or prompts (text) of an evaluation (default: video)",
    )
    parser.add_argument(
        "--ids",
        metavar="FILE",
        help="names of the vectors (default: ids.json of an evaluation, which lists clips and prompts, or "
        "ids.csv of `signclip embed`, which has one row for each vector)",
    )
    parser.add_argument("--kind", default="auto", help="auto (default), flat, hnsw, ivf or ivfpq")
    parser.add_argument(
        "--measure",
        choices=["cosine", "dot"],
        help="how scores are computed (default: the evaluation's, or cosine)",
    )
    parser.add_argument("--model", metavar="FOLDER", help="model folder that the vectors come from")
    parser.add_argument("--force", action="store_true", help=FORCE_HELP)


def run(args: argparse.Namespace) -> None:
    """Read the sources, check that one model made them, and write the index."""
    setup_logging(logging.INFO)
    from mmpt.search import build_index, read_embeddings

    if args.ids and len(args.sources) > 1:
        raise UserError("--ids names the vectors of one source, but several were given.")
    sources = [read_embeddings(source, args.side, args.ids) for source in args.sources]
    if args.model:
        from mmpt.embedding.embedder import SignCLIP
        from mmpt.search.sources import same_model

        fingerprint = SignCLIP.from_pretrained(args.model, "cpu").fingerprint
        for source, path in zip(sources, args.sources):
            if source.model and not same_model(source.model, fingerprint):
                raise UserError(
                    f"{path} was made by another model ({source.model}) than {args.model} ({fingerprint})."
                )
            if not source.model:
                log.warning("%s does not record its model: assumed to be %s", path, args.model)
            source.model = fingerprint
    index = build_index(sources, args.out, args.kind, args.measure, args.force)
    print(f"wrote {args.out}: {index.summary}")


main = Command("search build", __doc__, add_arguments, run)

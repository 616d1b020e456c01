"""Search among embeddings: `python -m mmpt.cli.search build|query|info ...`.

    python -m mmpt.cli.search build runs/X/eval --out runs/X/index
    python -m mmpt.cli.search query runs/X/index --model runs/X/model --text "Fingerspell the letter B."

build makes an index of what evaluation wrote (or of any .npy with an ids.json); query prints the most similar
entries for texts, poses or vectors. Exact search needs NumPy only; approximate search, for millions, faiss.
"""

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmpt.utils.errors import UserError, run_cli
from mmpt.utils.files import write_json
from mmpt.utils.logging import setup_logging

if TYPE_CHECKING:
    from mmpt.embedding.embedder import SignCLIP
    from mmpt.search import Index

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Parse, and build, query or describe."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="mmpt.cli.search", description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="build|query|info")
    build = commands.add_parser("build", help="make an index")
    build.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="folder of an evaluation, folder with embeddings.npy and ids.json, or .npy file",
    )
    build.add_argument("--out", required=True, metavar="INDEX", help="folder to write")
    build.add_argument("--side", choices=["video", "text"], default="video", help="of an evaluation")
    build.add_argument("--ids", metavar="FILE", help="names of the vectors (default: ids.json beside them)")
    build.add_argument("--kind", default="auto", help="auto (default), flat, hnsw, ivf or ivfpq")
    build.add_argument("--measure", choices=["cosine", "dot"], help="default: the evaluation's, or cosine")
    build.add_argument("--model", metavar="FOLDER", help="model folder that the vectors come from")
    build.set_defaults(run=_build)
    query = commands.add_parser("query", help="the most similar entries")
    query.add_argument("index", metavar="INDEX")
    query.add_argument("--text", action="append", default=[], help="a prompt (may be repeated)")
    query.add_argument("--pose", action="append", default=[], metavar="FILE", help="a .pose file (likewise)")
    query.add_argument("--npy", metavar="FILE", help="vectors [N, D]")
    query.add_argument("--model", metavar="FOLDER", help="model folder that embeds texts and poses")
    query.add_argument("--device", default="auto", help="of the model: auto, cpu, cuda, ...")
    query.add_argument("-k", type=int, default=10, help="entries a query (default 10)")
    query.add_argument("--exact", action="store_true", help="look at every vector")
    query.add_argument("--effort", type=int, help="lists or graph nodes looked at: more finds more")
    query.add_argument("--json", action="store_true", help="print JSON")
    query.add_argument("--out", metavar="FILE", help="write JSON there")
    query.set_defaults(run=_query)
    info = commands.add_parser("info", help="what an index holds")
    info.add_argument("index", metavar="INDEX")
    info.set_defaults(run=_info)
    return run_cli(_run, parser.parse_args(argv))


def _run(args: argparse.Namespace) -> int:
    setup_logging(logging.INFO)
    args.run(args)
    return 0


def _build(args: argparse.Namespace) -> None:
    from mmpt.search import build_index, read_embeddings

    if args.ids and len(args.sources) > 1:
        raise UserError("--ids names the vectors of one source, but several were given.")
    sources = [read_embeddings(source, args.side, args.ids) for source in args.sources]
    if args.model:
        fingerprint = _fingerprint(_model(args.model, "cpu"))
        for source, path in zip(sources, args.sources):
            if source.model and source.model != fingerprint:
                raise UserError(
                    f"{path} was made by another model ({source.model}) than {args.model} ({fingerprint})."
                )
            if not source.model:
                log.warning("%s does not say which model it comes from: taken to be %s", path, args.model)
            source.model = fingerprint
    index = build_index(sources, args.out, args.kind, args.measure)
    print(f"wrote {args.out}: {_about(index)}")


def _query(args: argparse.Namespace) -> None:
    from mmpt.search import Index

    index = Index(args.index)
    if args.effort is not None and (args.exact or index.kind == "flat"):
        why = "--exact looks" if args.exact else f"the index {args.index} is exact and looks"
        raise UserError(f"--effort {args.effort} is for approximate search: {why} at every vector.")
    labels, vectors = _queries(args, index)
    hits = index.search(vectors, args.k, args.exact, args.effort)
    answers: list[dict[str, Any]] = [
        {
            "query": label,
            "hits": [
                {"id": index.name(r), "row": int(r), "score": float(s)} for s, r in zip(*some) if r >= 0
            ],
        }
        for label, *some in zip(labels, hits.scores, hits.rows)
    ]
    if args.out:
        write_json(args.out, answers)
    if args.json:
        print(json.dumps(answers, indent=2, ensure_ascii=False))
        return
    for answer in answers:
        print(answer["query"])
        for place, hit in enumerate(answer["hits"], start=1):
            print(f"{place:>5}  {hit['score']:>8.4f}  {hit['id']}")


def _queries(args: argparse.Namespace, index: "Index") -> tuple[list[str], np.ndarray]:
    """What to print above each query's hits, and the queries' vectors."""
    from mmpt.search.sources import model_beside, open_array

    labels, parts = [], []
    if args.text or args.pose:
        if not args.model:
            raise UserError("--text and --pose need --model FOLDER, the model folder that embeds them.")
        model = _model(args.model, args.device)
        index.check_model(_fingerprint(model), f"the model {args.model}")
        labels += [*args.text, *args.pose]
        parts += [
            embed(some) for embed, some in ((model.embed_text, args.text), (model.embed_pose, args.pose))
        ]
    if args.npy:
        array = open_array(Path(args.npy))
        index.check_model(model_beside(Path(args.npy)), args.npy)
        labels += [f"{args.npy}[{i}]" for i in range(len(array))]
        parts.append(array)
    if not labels:
        raise UserError("nothing to look for: give --text, --pose or --npy.")
    widths = {part.shape[1] for part in parts if len(part)} - {index.dim}
    if widths:
        raise UserError(
            f"the queries are {widths.pop()} numbers wide, the vectors of the index {args.index} "
            f"{index.dim}: they come from different models."
        )
    return labels, np.concatenate([part for part in parts if len(part)])


def _info(args: argparse.Namespace) -> None:
    from mmpt.search import Index

    index = Index(args.index)
    print(f"{args.index}: {_about(index)}; model {index.model or 'not recorded'}")


def _about(index: "Index") -> str:
    recall = index.description.get("recall")
    found = "" if recall is None else f", finds {recall:.1%} of the 10 nearest"
    return f"{len(index)} vectors of {index.dim} numbers, {index.kind}{found}, {index.measure}"


def _model(folder: str, device: str) -> "SignCLIP":
    from mmpt.embedding.embedder import SignCLIP

    return SignCLIP.from_pretrained(folder, device)


def _fingerprint(model: "SignCLIP") -> str:
    from mmpt.models.fingerprint import model_fingerprint

    return model_fingerprint(model.model)


if __name__ == "__main__":
    sys.exit(main())

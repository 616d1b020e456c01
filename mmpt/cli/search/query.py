"""Print the entries of an index that are most similar to texts, to example clips or to vectors.

    signclip search query runs/X/index --model runs/X/model --text "Fingerspell the letter B."
    signclip search query runs/X/index --model runs/X/model --pose example.pose

A prompt or a pose needs the model that embedded the index; vectors (--npy) and entries of the index (--like)
need none.
"""

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmpt.cli.command import Command
from mmpt.utils.errors import UserError
from mmpt.utils.files import read_json, write_json
from mmpt.utils.logging import setup_logging, some_of
from mmpt.utils.outputs import check_file

if TYPE_CHECKING:
    import numpy as np

    from mmpt.search import Index


log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("index", metavar="INDEX", help="folder of `signclip search build`")
    parser.add_argument("--text", action="append", default=[], help="a prompt (may be repeated)")
    parser.add_argument(
        "--pose", action="append", default=[], metavar="FILE", help="a .pose file (may be repeated)"
    )
    parser.add_argument(
        "--left-handed",
        action="store_true",
        help="the clips of --pose are signed with the left hand: mirror them",
    )
    parser.add_argument(
        "--like",
        action="append",
        default=[],
        metavar="ID",
        help="an entry of the index, which is left out of its hits (may be repeated)",
    )
    parser.add_argument("--npy", metavar="FILE", help=".npy file of query vectors [N, D]")
    parser.add_argument(
        "--model", metavar="FOLDER", help="model folder, or org/name on the hub, that embeds texts and poses"
    )
    parser.add_argument(
        "--device", default="auto", help="device of the model: auto (default), cpu, cuda, ..."
    )
    parser.add_argument("-k", type=int, default=10, help="hits per query (default 10)")
    parser.add_argument("--exact", action="store_true", help="compare every vector")
    parser.add_argument(
        "--effort",
        type=int,
        help="lists or graph nodes to visit: more gives higher recall (default: as `search info` prints)",
    )
    parser.add_argument(
        "--k-factor",
        type=int,
        help="candidates for each hit, whose exact scores are computed: more gives higher recall (default: "
        "as `search info` prints)",
    )
    parser.add_argument("--json", action="store_true", help="print the hits as JSON")
    parser.add_argument("--out", metavar="FILE", help="write the hits to a JSON file")


def run(args: argparse.Namespace) -> None:
    """Search, and print or write the hits of each query."""
    setup_logging(logging.INFO)
    from mmpt.search import Index

    if args.out:
        check_file(Path(args.out), _holds_answers)
    if args.k < 1:
        raise UserError(f"-k {args.k}: expected at least 1.")
    index = Index(args.index)
    for option, value in (("--effort", args.effort), ("--k-factor", args.k_factor)):
        if value is not None and (args.exact or index.kind == "flat"):
            why = "--exact compares" if args.exact else f"the index {args.index} is exact and compares"
            raise UserError(f"{option} {value} is for approximate search: {why} every vector.")
    # names are UTF-8, whatever the locale is
    args.like = [os.fsencode(name).decode(errors="surrogateescape") for name in args.like]
    likes = [index.row(name) for name in args.like]
    labels, vectors = _queries(args, index, likes)
    own = [*likes, *[-1] * (len(labels) - len(likes))]  # the first queries
    hits = index.search(vectors, args.k + bool(likes), args.exact, args.effort, args.k_factor)
    answers: list[dict[str, Any]] = [
        {
            "query": label,
            "hits": [
                {"id": index.name(r), "row": int(r), "score": float(s)}
                | ({"blank": True} if int(r) in index.blank else {})
                for s, r in zip(*some)
                if r >= 0 and r != one
            ][: args.k],
        }
        for label, one, *some in zip(labels, own, hits.scores, hits.rows)
    ]
    rows = [hit["row"] for answer in answers for hit in answer["hits"]]
    if blank := [row for row in rows if row in index.blank]:
        log.warning("%s", index.blank_warning(list(dict.fromkeys(blank)), len(set(rows)), "hits"))
    if args.out:
        write_json(args.out, answers)
    if args.json:
        utf8 = "utf" in sys.stdout.encoding.lower()
        print(json.dumps(answers, indent=2, ensure_ascii=not utf8))
        return
    for answer in answers:
        print(answer["query"])
        for rank, hit in enumerate(answer["hits"], start=1):
            print(f"{rank:>5}  {hit['score']:>8.4f}  {hit['id']}")


def _holds_answers(path: Path) -> bool:
    """Whether a file holds the answers of an earlier query."""
    answers = read_json(path)
    ours = isinstance(answers, list) and bool(answers)
    return ours and all(isinstance(answer, dict) and {*answer} == {"query", "hits"} for answer in answers)


def _queries(args: argparse.Namespace, index: "Index", likes: list[int]) -> tuple[list[str], "np.ndarray"]:
    """A label for each query, and the query vectors [Q, D]; first those of the rows `likes`."""
    import numpy as np

    from mmpt.search.index import BLANK
    from mmpt.search.sources import open_array, origin_of

    if args.left_handed and not args.pose:
        raise UserError("--left-handed is for --pose, and none is given.")
    labels, parts = list(args.like), [np.asarray(index.vectors[likes])] if likes else []
    if args.text or args.pose:
        if not args.model:
            raise UserError("--text and --pose need --model FOLDER, the model folder that embeds them.")
        from mmpt.embedding.embedder import SignCLIP

        model = SignCLIP.from_pretrained(args.model, args.device)
        index.check_model(model.fingerprint, f"the model {args.model}")
        labels += [*args.text, *args.pose]
        parts += [model.embed_text(args.text), model.embed_pose(args.pose, mirror=args.left_handed)]
    if args.npy:
        array = open_array(Path(args.npy))
        model_there, blank = origin_of(Path(args.npy), len(array))
        index.check_model(model_there, args.npy)
        if blank:
            rows = some_of([str(row) for row in blank])
            log.warning(
                "%d of %d queries of %s are %s: rows %s", len(blank), len(array), args.npy, BLANK, rows
            )
        labels += [f"{args.npy}[{i}]" for i in range(len(array))]
        parts.append(array)
    if not labels:
        why = f"{args.npy} holds no vectors" if args.npy else "give --text, --pose, --like or --npy"
        raise UserError(f"no query: {why}.")
    widths = {part.shape[1] for part in parts if len(part)} - {index.dim}
    if widths:
        raise UserError(
            f"the queries have dimension {widths.pop()}, the vectors of the index {args.index} "
            f"{index.dim}: they come from different models."
        )
    return labels, np.concatenate([part for part in parts if len(part)])


main = Command("search query", __doc__, add_arguments, run)

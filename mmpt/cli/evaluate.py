"""Judge a model on a table: `python -m mmpt.cli.evaluate --model MODEL --table TABLE --protocol NAME`.

Protocols: zero_shot (prompts for clips and clips for prompts), v2v (nearest clip of train), knn, prototypes
(1, 5, 10 and all clips of a class), linear_probe (C chosen on valid), or all. Clips are embedded once, into
OUT/embeddings. Writes protocols.json, .md and .csv, tables by class and signer, and pictures. Of all, those
that the table does not allow (linear_probe without clips of valid, ...) are left out with their reason.

Refused unless you say that you mean it: a clip or a signer in two splits (--allow-leak), and judging on
training clips (--allow-train); the report then says so.
"""

import argparse
import contextlib
import logging
import math
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmpt.utils.errors import UserError, run_cli
from mmpt.utils.logging import setup_logging

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Parse and judge."""
    from mmpt.datasets.leaks import KINDS
    from mmpt.evaluators.recognition import PROTOCOLS

    parser = argparse.ArgumentParser(
        prog="python -m mmpt.cli.evaluate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="model folder (see mmpt.cli.convert)")
    parser.add_argument("--table", type=Path, required=True, help="table with a column split")
    parser.add_argument(
        "--protocol", action="append", required=True, choices=[*PROTOCOLS, "all"], help="may be repeated"
    )
    parser.add_argument("--split", default="test", help="the clips that are judged (default: test)")
    parser.add_argument(
        "--out", type=Path, help="folder of the report (default: eval in the model's folder's)"
    )
    parser.add_argument("--prompt", help="zero_shot: template, such as 'Sign {text}.' (default: the model's)")
    parser.add_argument("--k", type=int, help="knn: neighbours that vote (default: 5)")
    parser.add_argument("--draws", type=int, help="prototypes: draws of few clips (default: 10)")
    parser.add_argument("--c", type=float, help="linear_probe: C, instead of choosing it on valid")
    parser.add_argument(
        "--allow-leak", action="append", default=[], choices=KINDS, help="a leak that is meant"
    )
    parser.add_argument(
        "--allow-train", action="store_true", help="judge on training clips; the report says so"
    )
    parser.add_argument(
        "--vfeat-dir", type=Path, help="folder of poses or features made from the table's files"
    )
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples of the intervals; 0: none")
    parser.add_argument("--batch-size", type=int, default=64, help="clips at a time (default: 64)")
    parser.add_argument("--workers", type=int, help="processes that read (default: one for each core)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--no-pictures", action="store_true", help="numbers only")
    arguments = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(arguments)
    args.command = shlex.join(["python", "-m", "mmpt.cli.evaluate", *arguments])
    return run_cli(evaluate, args)


def evaluate(args: argparse.Namespace) -> int:
    """Check the table, embed what is needed, run the protocols, write the report."""
    setup_logging(logging.INFO)
    from mmpt.embedding.embedder import SignCLIP
    from mmpt.embedding.table_splits import embed_table, prompt_texts, prompts_of
    from mmpt.evaluators.recognition import PROTOCOLS, Options, Outcome, check_protocol, run_protocol
    from mmpt.evaluators.recognition_report import results_table, save_recognition
    from mmpt.processors.table_file import read_table
    from mmpt.utils.allocator import keep_freed_memory
    from mmpt.utils.parallel import check_workers, cores

    keep_freed_memory()
    names = list(PROTOCOLS) if "all" in args.protocol else list(dict.fromkeys(args.protocol))
    _check_options(args)
    _refuse_what_is_not_used(args, names)
    out = args.out or args.model.parent / "eval"
    given = {name: value for name in ("k", "draws") if (value := getattr(args, name)) is not None}
    options = Options(c=args.c, resamples=args.bootstrap, **given)
    workers = check_workers(args.workers, cores())
    table = read_table(args.table)
    judged = table.of_split(args.split)
    possible: list[str] = []
    not_run: list[str] = []
    for name in names:
        with _left_out_of("all" in args.protocol, not_run):
            check_protocol(name, args.split, {row.split for row in table.rows}, options)
            possible.append(name)
    names = possible
    model = SignCLIP.from_pretrained(args.model, args.device, args.batch_size)
    if "zero_shot" in names:  # what is wrong with the prompts is said before hours of embedding
        prompt_texts(model, table, judged, args.prompt)
    needed = [args.split] + ([] if names == ["zero_shot"] else ["train", "valid"])
    splits, about = embed_table(
        model, table, needed, out / "embeddings", args.allow_leak, args.vfeat_dir, workers
    )
    if args.split == "train":
        about["warnings"].insert(0, "Judged on training data: this says nothing about new clips.")
    about |= {"split": args.split, "command": args.command}
    queries = splits[args.split]
    prompts = prompts_of(model, table, queries, args.prompt) if "zero_shot" in names else None
    outcomes: list[Outcome] = []
    for name in names:
        log.info("protocol %s", name)
        with _left_out_of("all" in args.protocol, not_run):
            outcomes += run_protocol(
                name, queries, splits.get("train"), splits.get("valid"), prompts, options
            )
    if not outcomes:
        raise UserError(not_run[-1])
    about["warnings"] += not_run
    files = save_recognition(out, about, outcomes, queries, not args.no_pictures)
    _show(about, results_table(outcomes), files)
    return 0


def _check_options(args: argparse.Namespace) -> None:
    """Raises UserError for a split or a number that cannot be, and for training clips that are not meant."""
    from mmpt.processors.table_file import SPLITS

    if args.split not in SPLITS:
        raise UserError(f"--split {args.split}: expected one of {', '.join(SPLITS)}.")
    if args.split == "train" and not args.allow_train:
        raise UserError(
            "--split train judges a model on what it learnt: say that you mean it, --allow-train."
        )
    for name, least in (("k", 1), ("draws", 1), ("bootstrap", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f"--{name} {value}: expected at least {least}.")
    if args.c is not None and not 0 < args.c < math.inf:
        raise UserError(f"--c {args.c:g}: expected a number above 0.")


def _refuse_what_is_not_used(args: argparse.Namespace, protocols: list[str]) -> None:
    """Options of a protocol that is not run would be ignored: say so."""
    of_protocol = {"prompt": "zero_shot", "k": "knn", "draws": "prototypes", "c": "linear_probe"}
    for option, protocol in of_protocol.items():
        if getattr(args, option) is not None and protocol not in protocols:
            raise UserError(f"--{option} is for --protocol {protocol}, not for {', '.join(protocols)}.")


@contextlib.contextmanager
def _left_out_of(all_of_them: bool, reasons: list[str]) -> Iterator[None]:
    """A protocol that the table does not allow is an error, or, of all, left out with its reason."""
    try:
        yield
    except UserError as error:
        if not all_of_them:
            raise
        reasons.append(f"Not run: {error}")


def _show(about: dict[str, Any], table: str, files: list[Path]) -> None:
    for line in about["warnings"]:
        print(f"warning: {line}")
    print(table)
    print(f"the report is {files[0]}")


if __name__ == "__main__":
    sys.exit(main())

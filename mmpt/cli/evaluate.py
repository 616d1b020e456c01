"""Evaluate a trained model: a task config on its split, or a model folder on a table.

    signclip evaluate projects/signclip/test_X.yaml [key=value ...]
    signclip evaluate --model MODEL --table TABLE --protocol NAME [--protocol NAME ...]

Needs neither fairseq nor a GPU.

Task config: embeds the clips and prompts of dataset.split, ranks them by the protocol eval.protocol (or
--protocol sentences, --protocol one-shot), and writes results (table, JSON, figures, embeddings) into the
folder that the config names.

Model folder and table: runs protocols of isolated sign recognition: zero_shot (retrieval between clips and
prompts), v2v (nearest training clip), knn, prototypes (1, 5, 10 and all clips of a class), linear_probe (C
chosen on valid), or all of these; and searches: sentences (one text a clip, as CLIP4Clip and CiCo report it)
and one-shot (clips by an example clip, in sign languages that were not trained on). Clips are embedded once,
into OUT/embeddings. Writes protocols.json, .md and .csv, tables by class and signer, and figures. "all" skips
protocols that the table does not allow (such as linear_probe without clips of valid) and reports why. A
config's report is called results.md, a table's protocols.md, because they hold different metrics.

Refuses a clip or a signer in two splits (unless --allow-leak) and evaluation on training clips (unless
--allow-train). The report names what was allowed.
"""

import argparse
import contextlib
import logging
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmpt.cli.command import Command
from mmpt.utils.errors import UserError
from mmpt.utils.logging import setup_logging
from mmpt.utils.output_kinds import PROTOCOLS, SEARCHES
from mmpt.utils.outputs import FORCE_HELP

if TYPE_CHECKING:
    from mmpt.evaluators.recognition.outcome import Options
    from mmpt.processors.table_file import Table

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    from mmpt.datasets.leaks import KINDS

    parser.add_argument("--force", action="store_true", help=FORCE_HELP)
    config = parser.add_argument_group("a task config")
    config.add_argument(
        "taskconfig", nargs="?", help="YAML file, such as projects/signclip/test_fslex_demo.yaml"
    )
    config.add_argument(
        "overrides", nargs="*", metavar="key=value", help="overrides, such as eval.similarity=dot"
    )
    table = parser.add_argument_group("a model folder on a table")
    table.add_argument("--model", type=Path, help="model folder (see `signclip convert`), or org/name")
    table.add_argument("--table", type=Path, help="table of clips, with a column split")
    table.add_argument(
        "--protocol",
        action="append",
        choices=[*PROTOCOLS, *SEARCHES, "all"],
        help=f"may be repeated; all: without {' and '.join(SEARCHES)}, which a task config takes, too",
    )
    table.add_argument("--split", default="test", help="split to evaluate (default: test)")
    table.add_argument("--out", type=Path, help="report folder (default: protocols beside the model folder)")
    table.add_argument("--prompt", help="template of prompts, as 'Sign {text}.' (default: the model's)")
    table.add_argument("--k", type=int, help="knn: number of neighbours (default: 5)")
    table.add_argument("--draws", type=int, help="prototypes, one-shot: random draws (default: 10)")
    _add_one_shot(table)
    table.add_argument("--c", type=float, help="linear_probe: C (default: chosen on valid)")
    table.add_argument(
        "--allow-leak",
        action="append",
        default=[],
        choices=KINDS,
        help="kind of leak to allow (may be repeated)",
    )
    table.add_argument("--allow-train", action="store_true", help="allow --split train; the report notes it")
    table.add_argument(
        "--vfeat-dir", type=Path, help="folder of poses or features extracted from the table's files"
    )
    table.add_argument("--bootstrap", type=int, default=1000, help="bootstrap resamples; 0: no intervals")
    table.add_argument("--batch-size", type=int, default=64, help="clips per batch (default: 64)")
    table.add_argument("--workers", type=int, help="worker processes (default: one per core)")
    table.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    table.add_argument("--no-pictures", action="store_true", help="write no pictures")
    parser.set_defaults(parser=parser)


def _add_one_shot(table: argparse._ArgumentGroup) -> None:
    table.add_argument(
        "--queries",
        choices=["auto", "same-language", "other-language"],
        help="one-shot: which clips are queries (default: auto; see eval.one_shot_queries)",
    )
    table.add_argument(
        "--other-signer",
        action="store_true",
        default=None,
        help="one-shot: leave out queries by the signer of the gallery's clip of the same sign",
    )


def run(args: argparse.Namespace) -> None:
    """Evaluate a task config, or a model folder on a table. Wrong combinations of options exit with 2."""
    setup_logging(logging.INFO)
    if args.taskconfig is not None:
        of_command = ("taskconfig", "overrides", "force", "command_line", "parser")
        of_config = (*of_command, "shard", "merge", "sharding")
        _protocol_override(args)
        given = [k for k, v in vars(args).items() if k not in of_config and v != args.parser.get_default(k)]
        if given:
            option = given[0].replace("_", "-")
            args.parser.error(f"--{option} is for --model and --table, not for a task config")
        _evaluate_config(args)
        return
    if lacking := [f"--{name}" for name in ("model", "table", "protocol") if not getattr(args, name)]:
        args.parser.error(
            f"expected a task config, or --model, --table and --protocol; missing: {', '.join(lacking)}"
        )
    _evaluate_table(args)


def _protocol_override(args: argparse.Namespace) -> None:
    """Turn --protocol of a task config into an override, if it is one of its protocols."""
    if args.protocol and len(args.protocol) == 1 and args.protocol[0] in SEARCHES:
        if any(override.startswith("eval.protocol=") for override in args.overrides):
            args.parser.error("--protocol and eval.protocol=... are the same option: give one of them")
        args.overrides = [*args.overrides, f"eval.protocol={args.protocol[0]}"]
        args.protocol = None


def _evaluate_config(args: argparse.Namespace) -> None:
    """Evaluate the checkpoint that a task config names, save the report and print its table."""
    from mmpt.config import load_config
    from mmpt.config.fairseq_options import option
    from mmpt.config.run_folder import warn_if_moved
    from mmpt.evaluators.evaluation import evaluate_task
    from mmpt.tasks import Task
    from mmpt.utils.allocator import keep_freed_memory

    keep_freed_memory()
    config = load_config(args.taskconfig, args.overrides)
    if not option(config.fairseq, "path"):
        warn_if_moved(args.taskconfig, args.overrides, config.fairseq)
    print(evaluate_task(Task(config), args.taskconfig, args.command_line, args.force, args.sharding))


def _evaluate_table(args: argparse.Namespace) -> None:
    """Check the table, embed the splits that the protocols need, run the protocols, write the report."""
    from mmpt.embedding.embedder import SignCLIP
    from mmpt.embedding.run import EmbedOptions
    from mmpt.embedding.table_splits import embed_table, prompt_texts, prompts_of, shown_clips
    from mmpt.evaluators.recognition.outcome import Outcome
    from mmpt.evaluators.recognition.protocols import WITH_PROMPTS, WITHOUT_SUPPORT, run_protocol
    from mmpt.evaluators.recognition.report import notes_of, report_of, results_table, save_recognition
    from mmpt.evaluators.recognition.searches import check_one_shot
    from mmpt.processors.table_file import read_table
    from mmpt.utils.allocator import keep_freed_memory
    from mmpt.utils.output_kinds import PROTOCOL_REPORT
    from mmpt.utils.outputs import check_output
    from mmpt.utils.parallel import check_workers, cores

    keep_freed_memory()
    run_all = "all" in args.protocol
    requested = _requested_protocols(args)
    out = args.out or args.model.parent / "protocols"
    workers = check_workers(args.workers, cores())
    table = read_table(args.table)
    options = _protocol_options(args, [r.signed_language for r in table.rows if r.split == "train"])
    evaluated = table.of_split(args.split)
    names, skipped = _possible_protocols(args, table, requested, options)
    model = SignCLIP.from_pretrained(args.model, args.device, args.batch_size)
    of = report_of(args.split, model.provenance(), {"file": table.path.name})
    check_output(out, PROTOCOL_REPORT, of, args.force)
    # errors are reported before hours of embedding
    template = None
    if not {*names}.isdisjoint(WITH_PROMPTS):
        template = args.prompt or model.table_templates[0]
        prompt_texts(model, table, evaluated, template)
    if "one-shot" in names:
        check_one_shot(evaluated, options)
    needed = [args.split] + ([] if {*names} <= {*WITHOUT_SUPPORT} else ["train", "valid"])
    embedding = EmbedOptions(workers, force=args.force, sharding=args.sharding)
    splits, about = embed_table(
        model, table, needed, out / "embeddings", args.allow_leak, args.vfeat_dir, embedding
    )
    if args.sharding.shard is not None:
        return
    if args.split == "train":
        about["warnings"].insert(0, "Evaluated on training data: this says nothing about new clips.")
    about |= {"split": args.split, "prompt": template, "command": args.command_line}
    queries = splits[args.split]
    prompts = None if template is None else prompts_of(model, table, queries, template)
    if prompts is not None:
        about["warnings"] += [f"{line}." for line in model.text_processor.what_is_lost(prompts[0])]
    outcomes: list[Outcome] = []
    for name in names:
        log.info("protocol %s", name)
        with _collect_skipped(run_all, skipped):
            outcomes += run_protocol(
                name, queries, splits.get("train"), splits.get("valid"), prompts, options
            )
    if not outcomes:
        raise UserError(skipped[-1])
    about["warnings"] += skipped
    shown = shown_clips(table, queries.ids, model.video_processor.suffix, args.vfeat_dir)
    files = save_recognition(out, about, outcomes, queries, not args.no_pictures, args.force, shown)
    _show(about, [results_table(outcomes), *notes_of(outcomes)], files)


def _possible_protocols(
    args: argparse.Namespace, table: "Table", requested: list[str], options: "Options"
) -> tuple[list[str], list[str]]:
    """The protocols that the table allows, and, with "all", the reasons why others are left out."""
    from mmpt.evaluators.recognition.protocols import check_protocol

    names: list[str] = []
    skipped: list[str] = []
    for name in requested:
        with _collect_skipped("all" in args.protocol, skipped):
            check_protocol(name, args.split, {row.split for row in table.rows}, options)
            names.append(name)
    return names, skipped


def _requested_protocols(args: argparse.Namespace) -> list[str]:
    """The names of the protocols to run. Raises UserError for options that are wrong or would be ignored."""
    every = PROTOCOLS if "all" in args.protocol else ()
    requested = list(dict.fromkeys([*every, *(name for name in args.protocol if name != "all")]))
    _check_options(args)
    _check_used_options(args, requested)
    return requested


def _protocol_options(args: argparse.Namespace, train_languages: list[str]) -> "Options":
    from mmpt.evaluators.recognition.outcome import Options

    names = ("k", "draws", "queries", "other_signer")
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    return Options(c=args.c, resamples=args.bootstrap, train_languages=train_languages, **given)


def _check_options(args: argparse.Namespace) -> None:
    """Raises UserError for an unknown split, a number out of range, and options that are missing."""
    from mmpt.models.hub import is_repo_id
    from mmpt.processors.table_file import SPLITS

    if args.out is None and not args.model.exists() and is_repo_id(str(args.model)):
        raise UserError(f"there is no folder {args.model}: to evaluate a model of the hub, give --out DIR.")
    if args.split not in SPLITS:
        raise UserError(f"--split {args.split}: expected one of {', '.join(SPLITS)}.")
    if args.split == "train" and not args.allow_train:
        raise UserError(
            "--split train evaluates the model on its training clips: give --allow-train to do so."
        )
    for name, least in (("k", 1), ("draws", 1), ("bootstrap", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f"--{name} {value}: expected at least {least}.")
    if args.c is not None and not 0 < args.c < math.inf:
        raise UserError(f"--c {args.c:g}: expected a number above 0.")


def _check_used_options(args: argparse.Namespace, protocols: list[str]) -> None:
    """Raises UserError for an option of a protocol that is not run."""
    of_protocols = {
        "prompt": ("zero_shot", "sentences"),
        "k": ("knn",),
        "draws": ("prototypes", "one-shot"),
        "c": ("linear_probe",),
        "queries": ("one-shot",),
        "other_signer": ("one-shot",),
    }
    for option, users in of_protocols.items():
        if getattr(args, option) is not None and {*users}.isdisjoint(protocols):
            raise UserError(
                f"--{option.replace('_', '-')} is for --protocol {' or '.join(users)}, not for "
                f"{', '.join(protocols)}."
            )


@contextlib.contextmanager
def _collect_skipped(run_all: bool, reasons: list[str]) -> Iterator[None]:
    """With --protocol all, append the reason why a protocol cannot run; otherwise raise its error."""
    try:
        yield
    except UserError as error:
        if not run_all:
            raise
        reasons.append(f"Not run: {error}")


def _show(about: dict[str, Any], results: list[str], files: list[Path]) -> None:
    for line in about["warnings"]:
        print(f"warning: {line}")
    print(*results, sep="\n")
    if about["prompt"] is not None:
        print(f"prompt: {about['prompt']}")
    print(f"report: {files[0]}")


main = Command("evaluate", __doc__, add_arguments, run, shards=True)

if __name__ == "__main__":
    sys.exit(main())

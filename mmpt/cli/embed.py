"""Embed clips or prompts.

    signclip embed --model MODEL --in FOLDER|TABLE|LIST.txt --out DIR
    signclip embed --model MODEL --in FOLDER|TABLE --out DIR --shard 1/4

FOLDER: all poses (or .npy features) in it, at any depth. TABLE: the clips of a .csv, .tsv or .parquet table,
or, with --prompts, its distinct prompts. LIST.txt: prompts, one per line.

Writes embeddings.npy (or .parquet), ids.csv and provenance.json (model, options, source) to DIR. To resume an
interrupted run, repeat the command. With --shard 1/4, it embeds the first of four parts of the clips; run the
other parts in other processes or jobs, then the same command with --merge instead of --shard. Exit status: 0
if everything was embedded, 1 if some clips could not be read (they are listed), 2 if the run could not start,
130 after Ctrl-C.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmpt.cli.command import Command
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.logging import setup_logging
from mmpt.utils.output_kinds import EMBEDDING_FORMATS
from mmpt.utils.outputs import FORCE_HELP

if TYPE_CHECKING:
    from mmpt.embedding.embedder import SignCLIP

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "--model",
        type=Path,
        required=True,
        help="model folder (see `signclip convert`), checkpoint with its config.yaml, or org/name on the hub",
    )
    parser.add_argument(
        "--in", dest="source", type=Path, required=True, help="folder, table, or .txt of prompts"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the embeddings")
    parser.add_argument(
        "--format",
        choices=EMBEDDING_FORMATS,
        default="npy",
        help="file format of the embeddings (default: npy)",
    )
    parser.add_argument("--split", help="with a table: only this split (train, valid, test)")
    parser.add_argument(
        "--prompts", action="store_true", help="with a table: embed its distinct prompts, not its clips"
    )
    parser.add_argument("--prompt", help="template of the prompts, such as '{text}' (default: the model's)")
    parser.add_argument("--window", type=float, metavar="MS", help="embed sliding windows of this length")
    parser.add_argument(
        "--stride", type=float, metavar="MS", help="step between windows (default: half the window)"
    )
    parser.add_argument(
        "--vfeat-dir", type=Path, help="folder of poses or features extracted from a table's files"
    )
    parser.add_argument("--batch-size", type=int, default=64, help="clips or prompts per batch (default: 64)")
    parser.add_argument("--portion", type=int, default=512, help="clips between two saves (default: 512)")
    parser.add_argument("--workers", type=int, help="processes that read clips (default: one per core)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--autocast", choices=["bf16", "fp16"], help="compute in half precision")
    parser.add_argument("--force", action="store_true", help=FORCE_HELP)
    parser.add_argument("--quiet", action="store_true", help="only warnings and errors")


def run(args: argparse.Namespace) -> int:
    """Load the model and embed the clips or the prompts."""
    setup_logging("WARNING" if args.quiet else "INFO")
    if not args.source.exists():
        raise MissingDataError(f"--in: there is no {args.source}: expected a folder, a table or a .txt file.")
    _refuse_unused_options(args)
    if args.portion < 1:
        raise UserError(f"--portion {args.portion}: expected at least 1 clip.")
    from mmpt.embedding.embedder import SignCLIP
    from mmpt.utils.allocator import keep_freed_memory
    from mmpt.utils.files import check_name

    for path in (args.model.name, args.source.name):
        check_name(path)
    keep_freed_memory()
    model = SignCLIP.from_pretrained(args.model, args.device, args.batch_size)
    model.model.autocast = args.autocast
    about: dict[str, Any] = {"model": model.provenance()}
    about["options"] = {"batch_size": args.batch_size, "autocast": args.autocast}
    if args.prompts or args.source.suffix.lower() == ".txt":
        return _embed_prompts(args, model, about)
    return _embed_clips(args, model, about)


def _refuse_unused_options(args: argparse.Namespace) -> None:
    """Raises UserError for options that would have no effect on this source."""
    kind = "prompts of a table" if args.prompts else "clips of a table"
    if args.source.is_dir():
        kind = "clips of a folder"
    elif args.source.suffix.lower() == ".txt":
        kind = "prompts of a list"
    for option, value, kinds in (
        ("--split", args.split, ("clips of a table", "prompts of a table")),
        ("--prompt", args.prompt, ("prompts of a table",)),
        ("--vfeat-dir", args.vfeat_dir, ("clips of a table",)),
        ("--window", args.window, ("clips of a table", "clips of a folder")),
        ("--stride", args.stride, ("clips of a table", "clips of a folder")),
        ("--shard", args.shard, ("clips of a table", "clips of a folder")),
        ("--merge", args.merge or None, ("clips of a table", "clips of a folder")),
    ):
        if value is not None and kind not in kinds:
            raise UserError(f"{option} is for {' or '.join(kinds)}, not for {kind} ({args.source}).")


def _embed_clips(args: argparse.Namespace, model: "SignCLIP", about: dict[str, Any]) -> int:
    from mmpt.embedding.clip_loader import check_windows, folder_jobs, table_jobs
    from mmpt.embedding.run import EmbedOptions, embed_clips
    from mmpt.processors.example import blank_warning
    from mmpt.processors.table_file import read_table
    from mmpt.utils.files import sha256
    from mmpt.utils.parallel import check_workers, cores

    suffix = model.video_processor.suffix
    windows = check_windows(args.window, args.stride, suffix)
    if args.source.is_dir():
        jobs = folder_jobs(args.source, suffix, args.out)
        about["source"] = {"folder": args.source.name}
    else:
        table = read_table(args.source)
        rows = table.of_split(args.split) if args.split else table.rows
        jobs = table_jobs(table, rows, suffix, args.vfeat_dir)
        about["source"] = {"table": args.source.name, "sha256": sha256(args.source), "split": args.split}
    about["options"] |= {"window_ms": args.window, "stride_ms": windows.stride if windows else None}
    workers = check_workers(args.workers, cores())
    options = EmbedOptions(workers, args.portion, args.format, not args.quiet, args.force, args.sharding)
    made = embed_clips(model, jobs, args.out, about, windows, options)
    log.info(
        "%s: %d embeddings of %d clips, %d clips already embedded, %d failed",
        *(args.out, len(made.ids), options.clips(len(jobs)), made.reused, len(made.failed)),
    )
    if made.cut:
        limits = model.dataset_cfg
        log.warning(
            "%d of %d %s are longer than the %d frames that the model reads (dataset.max_video_len; "
            "long_video: %s)",
            *(made.cut, len(made.ids), "windows" if windows else "clips"),
            *(limits.max_video_len, limits.long_video),
        )
    if made.blank:
        what = "windows" if windows else "clips"
        means = model.video_processor.blank_means
        log.warning("%s", blank_warning(made.blank_names(), len(made.ids), means, what))
    for message in made.failed.values():
        log.error("failed: %s", message)
    return 1 if made.failed else 0


def _embed_prompts(args: argparse.Namespace, model: "SignCLIP", about: dict[str, Any]) -> int:
    from mmpt.embedding.storage import (
        FINGERPRINT,
        EmbeddingSet,
        made_of,
        save_embedding_set,
    )
    from mmpt.processors.table_file import read_table
    from mmpt.processors.templates import PromptTemplates
    from mmpt.utils.files import sha256
    from mmpt.utils.lock import folder_lock
    from mmpt.utils.output_kinds import EMBEDDINGS
    from mmpt.utils.outputs import check_output
    from mmpt.utils.text import read_lines

    if args.source.suffix.lower() == ".txt":
        lines = [line for line in read_lines(args.source) if line.strip()]
        prompts = list(dict.fromkeys(lines))
        if len(prompts) < len(lines):
            more = len(lines) - len(prompts)
            log.warning("%s: %d of %d lines repeat another one", args.source, more, len(lines))
    elif args.source.is_dir():
        raise UserError(f"--prompts: {args.source} is a folder: expected a table.")
    else:
        table = read_table(args.source)
        template = args.prompt or model.table_templates[0]
        rows = table.of_split(args.split) if args.split else table.rows
        texts = [prompts[0] for prompts in PromptTemplates([template], table, "--prompt").of_rows(rows)]
        if "" in texts:
            log.warning("%d of %d clips have no sign: they have no prompt", texts.count(""), len(texts))
        prompts = list(dict.fromkeys(filter(None, texts)))
        about["options"] |= {"prompt": template, "split": args.split}
    if not prompts:
        raise UserError(f"{args.source}: no prompts.")
    about["source"] = {"prompts": args.source.name, "sha256": sha256(args.source)}
    about[FINGERPRINT] = model.fingerprint
    check_output(args.out, EMBEDDINGS, made_of(about, model.fingerprint), args.force)
    with folder_lock(args.out, "another embedding"):
        cut = sum(map(model.text_processor.is_cut, prompts))
        made = EmbeddingSet(model.embed_text(prompts), [{"id": prompt} for prompt in prompts], cut=cut)
        save_embedding_set(args.out, made, about, args.format, args.force)
    log.info("%s: embeddings of %d prompts", args.out, len(prompts))
    return 0


main = Command("embed", __doc__, add_arguments, run, shards=True)

if __name__ == "__main__":
    sys.exit(main())

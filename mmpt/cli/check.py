"""Check a table of clips before training.

    signclip check TABLE
    signclip check CONFIG.yaml
    signclip check TABLE --shard 1/4

CONFIG: checks its table with its landmarks, prompts, text model, max_video_len and batch size. Without a
config, a clip may show either hand, and texts are read as by configs/table.yaml.

Counts clips, classes and signers of each split, reads every clip, and reports problems: unreadable files,
missing hands, the same clip or signer in two splits, classes without training clips. Writes a report with
figures. The last form only reads a part of the clips, in as many processes or jobs; --merge in place of
--shard then writes the report. Exit status: 0 without errors (warnings do not count), 1 with errors, 2 if the
table cannot be read.
"""

import argparse
import contextlib
import dataclasses
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmpt.cli.command import Command
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.logging import setup_logging
from mmpt.utils.outputs import FORCE_HELP
from mmpt.utils.shards import Shard, ShardFolder, Sharding, refuse_shards

if TYPE_CHECKING:
    from mmpt.config import Config
    from mmpt.datasets.clip_facts import ClipFacts
    from mmpt.datasets.table_check import TableReport

MAX_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    from mmpt.datasets.leaks import KINDS

    parser.add_argument(
        "table",
        help="CSV, TSV or Parquet file with columns id, path, text, ...; or a task config with "
        "dataset.table_path (YAML file or package:NAME)",
    )
    parser.add_argument(
        "--out", type=Path, help="folder of the report (default: NAME_check next to the table)"
    )
    parser.add_argument(
        "--vfeat-dir", type=Path, help="folder of poses or features extracted from the table's files"
    )
    parser.add_argument(
        "--allow-leak",
        action="append",
        default=[],
        choices=KINDS,
        help="report this kind of leak as a warning (may be repeated)",
    )
    parser.add_argument("--workers", type=int, help="processes that read clips (default: one per core)")
    parser.add_argument("--force", action="store_true", help=FORCE_HELP)


def run(args: argparse.Namespace) -> int:
    """Read the table, write the report and print a summary."""
    setup_logging(logging.INFO)
    from mmpt.datasets.clip_facts import ClipReader
    from mmpt.datasets.fact_shards import merged_facts, read_shard, shards_of
    from mmpt.datasets.table_check import check_table, clip_jobs
    from mmpt.datasets.table_page import checked, save_page, splits_table
    from mmpt.processors.table_file import read_table
    from mmpt.utils.output_kinds import TABLE_CHECK
    from mmpt.utils.outputs import check_output
    from mmpt.utils.parallel import check_workers, cores

    workers = check_workers(args.workers, cores())
    config = _config(args.table)
    path = Path((config and config.dataset.table_path) or args.table)
    folder = args.vfeat_dir or (config.dataset.vfeat_dir if config else None)
    out = args.out or path.parent / f"{path.stem}_check"
    check_output(out, TABLE_CHECK, checked(path), args.force)
    table = read_table(path)
    with _shards(args.sharding, out, shards_of(table, folder, config)) as shards:
        jobs = clip_jobs(table, folder, ClipReader(config) if config else None) if shards else []
        if args.sharding.shard is not None:
            return _show_shard(args.sharding.shard, read_shard(table, jobs, shards[0], workers))
        clips = merged_facts(table, jobs, shards) if shards else None
        report = check_table(table, folder, args.allow_leak, workers, config, clips)
        if config and "train" in report.splits:
            _check_batches(config, folder, report)
        files = save_page(out, report, args.force)
    print(splits_table(report))
    for kind, lines in (("error", report.errors), ("warning", report.warnings)):
        for line in lines[:MAX_SHOWN]:
            print(f"{kind}: {line}")
        if len(lines) > MAX_SHOWN:
            print(f"and {len(lines) - MAX_SHOWN} more {kind}s: see {files[1]}")
    print(f"{report.verdict}; the report is {files[0]}")
    return 1 if report.errors else 0


@contextlib.contextmanager
def _shards(sharding: Sharding, out: Path, of: dict[str, Any]) -> Iterator[list[ShardFolder]]:
    """The locked shards; without --shard and --merge nothing is locked."""
    if sharding == Sharding():
        refuse_shards(out)
        yield []
        return
    with sharding.locked(out, of, "another check") as shards:
        yield shards


def _show_shard(shard: Shard, facts: "dict[str, ClipFacts]") -> int:
    """Report the clips of a shard that cannot be read; what is wrong with the table is for the merge."""
    errors = [clip.error for clip in facts.values() if clip.error is not None]
    for line in errors[:MAX_SHOWN]:
        print(f"error: {line}")
    if len(errors) > MAX_SHOWN:
        print(f"and {len(errors) - MAX_SHOWN} more errors")
    print(f"shard {shard}: {len(facts)} clips read, {len(errors)} of them unreadable")
    return 1 if errors else 0


def _check_batches(config: "Config", folder: str | None, report: "TableReport") -> None:
    """Report batches that the prompts cannot fill. folder: of the clips."""
    from mmpt.tasks import Task

    dataset = dataclasses.replace(config.dataset, vfeat_dir=folder)
    try:
        Task(dataclasses.replace(config, dataset=dataset)).check_batches()
    except MissingDataError:  # of clips, which are reported one by one
        pass
    except UserError as error:
        if str(error) not in report.errors:
            report.errors.append(str(error))


def _config(name: str) -> "Config | None":
    """The task config of this name; None for a table. Raises UserError for a config without a table."""
    if not name.startswith("package:") and Path(name).suffix.lower() not in (".yaml", ".yml"):
        return None
    from mmpt.config import load_config

    config = load_config(name)
    if not config.dataset.table_path:
        raise UserError(
            f"{name} has no dataset.table_path, and this command checks tables: `signclip train --dryrun "
            f"{name}` checks its data."
        )
    return config


main = Command("check", __doc__, add_arguments, run, shards=True)

if __name__ == "__main__":
    sys.exit(main())

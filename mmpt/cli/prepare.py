"""Prepare the pose cache of a config, as training does at its start.

    signclip prepare projects/signclip/X.yaml [key=value ...]
    signclip prepare X.yaml dataset.store_shards=64 --shard 1/8

The cache of a split is one file, or dataset.store_shards files, which training opens as one data set. With
--shard I/N only every N-th of these files is built, so that N processes or jobs build them together; --merge
builds what is missing and prints what the cache holds. Finished files are kept: repeat the command to resume.
"""

import argparse
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmpt.cli.command import Command
from mmpt.utils.errors import UserError
from mmpt.utils.logging import setup_logging

if TYPE_CHECKING:
    from mmpt.tasks import Task

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("taskconfig", help="YAML file or package:NAME")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides of the config")
    parser.add_argument(
        "--split",
        action="append",
        choices=["train", "valid", "test"],
        help="split to prepare (may be repeated; default: train and valid)",
    )


def run(args: argparse.Namespace) -> None:
    """Build the files of the splits."""
    setup_logging(logging.INFO)
    from mmpt.config import load_config
    from mmpt.tasks import Task

    shard = args.sharding.shard
    task = Task(load_config(args.taskconfig, args.overrides))
    files = range(task.config.dataset.store_shards)
    if shard is not None:
        if shard.count > len(files):
            raise UserError(
                f"--shard {args.shard}: dataset.store_shards is {len(files)}: set it to at least "
                f"{shard.count}, here and in training."
            )
        files = files[shard.index - 1 :: shard.count]
    for split in args.split or ["train", "valid"]:
        _prepare(task, split, files)


def _prepare(task: "Task", split: str, files: Sequence[int]) -> None:
    """Build some files of a split's cache."""
    from mmpt.pose.sharded_store import open_shards, shards_of
    from mmpt.processors.recordings import recordings_request

    processor = task.video_processor(training=False)
    if processor.suffix != ".pose":
        raise UserError(f"{task.config.dataset.video_processor} reads features: only poses have a cache.")
    dataset = task.config.dataset
    examples = task.examples(split)
    request = processor.store_request(examples, dataset)
    clips = bad = 0
    for _, store in open_shards(request, shards_of(request, dataset.store_shards), files):
        clips, bad = clips + len(store), bad + len(store.bad)
    log.info(
        "%s: %d files of the pose cache with %d clips (%d unreadable) in %s",
        *(split, len(files), clips, bad, request.cache_dir),
    )

    if split == "train" and dataset.span_sampling is not None:
        request = recordings_request(processor, examples, dataset)
        stores = open_shards(request, shards_of(request, dataset.store_shards), files)
        log.info("%s: %d recordings in %s", split, sum(len(store) for _, store in stores), request.cache_dir)


main = Command("prepare", __doc__, add_arguments, run, shards=True)

"""Run a command as shards, one job for each, and merge their outputs."""

import argparse
import functools
import logging
from collections.abc import Sequence

from mmpt.cluster.job import Step
from mmpt.cluster.submission import Cluster, signclip
from mmpt.cluster.waiting import run_jobs
from mmpt.config import ClusterConfig, load_cluster_config
from mmpt.config.cluster_options import MAX_SHARDS
from mmpt.utils.errors import UserError
from mmpt.utils.logging import setup_logging
from mmpt.utils.parallel import most_processes
from mmpt.utils.processes import run_forwarding_signals
from mmpt.utils.shards import shard_progress

log = logging.getLogger(__name__)

INCOMPLETE = 1
"""Exit status of a shard that is finished, but for files that cannot be read."""


def run_shards(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Run `signclip WORDS --shard I/N` as jobs, then `--merge`; the exit status of the worst.

    args: of the command, with the options of mmpt.cli.command. Nothing is merged if a shard failed.
    Raises UserError if jobs cannot be submitted.
    """
    setup_logging("WARNING" if getattr(args, "quiet", False) else "INFO")
    config = load_cluster_config(args.cluster_config) if args.cluster_config else ClusterConfig()
    # local jobs all run at once
    most = most_processes() if args.cluster == "local" else MAX_SHARDS
    shards = _number(config.shards if args.shards is None else args.shards, most)
    cluster = Cluster(args.cluster, config, words[0])
    part = functools.partial(_with_options, words)
    jobs = [
        cluster.job(f"shard {number}/{shards}", [Step(part("--shard", f"{number}/{shards}"))])
        for number in range(1, shards + 1)
    ]
    statuses = run_jobs(
        cluster,
        jobs,
        args.cancel_on_interrupt,
        shown=not getattr(args, "quiet", False),
        progress=(lambda: shard_progress(args.out).values()) if getattr(args, "out", None) else None,
    )
    worst = max(statuses)
    if worst > INCOMPLETE:
        log.error("not merged: the same command runs what is missing")
        return worst
    return max(worst, run_forwarding_signals(part("--merge")))


def _with_options(words: Sequence[str], *options: str) -> tuple[str, ...]:
    """The command with further options, which stand before `--`."""
    end = [*words, "--"].index("--")
    return signclip(*words[:end], *options, *words[end:])


def _number(shards: int | None, most: int) -> int:
    if shards is None:
        raise UserError("--cluster: the number of shards is not set: give --shards N, or set cluster.shards.")
    if not 1 <= shards <= most:
        local = "" if most == MAX_SHARDS else ", because local jobs all run at once"
        raise UserError(f"--shards, or cluster.shards: got {shards}; expected 1 to {most}{local}.")
    return shards

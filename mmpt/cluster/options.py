"""The options `--cluster ...` of commands."""

import argparse
from collections.abc import Sequence

from mmpt.utils.errors import UserError


def add_cluster_arguments(parser: argparse.ArgumentParser, shards: bool) -> None:
    """Add the options. shards: of a command that runs in shards."""
    group = parser.add_argument_group("jobs of a cluster (docs/scale.md)")
    group.add_argument(
        "--cluster",
        choices=["slurm", "local"],
        help="run as jobs of SLURM, or as processes of this machine in the same way",
    )
    group.add_argument(
        "--cluster-config", metavar="YAML", help="file with the section cluster: (partition, time, ...)"
    )
    if shards:
        group.add_argument("--shards", type=int, metavar="N", help="number of shards, a job each")
    group.add_argument(
        "--cancel-on-interrupt",
        action="store_true",
        help="Ctrl-C cancels the jobs (default: they keep running)",
    )


def check_cluster_arguments(args: argparse.Namespace) -> bool:
    """Whether the command should run as jobs. Raises UserError for options that need --cluster."""
    if args.cluster:
        return True
    for name in ("cluster_config", "shards", "cancel_on_interrupt"):
        if getattr(args, name, None):
            option = "--" + name.replace("_", "-")
            raise UserError(
                f"{option} is for jobs of a cluster: give --cluster slurm or --cluster local, too."
            )
    return False


def without_cluster_arguments(words: Sequence[str]) -> list[str]:
    """The words of a command without the options of clusters, for its jobs. Raises UserError."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_cluster_arguments(parser, shards=True)
    found, rest = parser.parse_known_args(list(words))
    if not found.cluster:
        raise UserError("--cluster: write the option in full.")
    return rest

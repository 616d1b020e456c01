"""What every command shares: how it is parsed, run and reported."""

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from mmpt.registry import nearest
from mmpt.utils.errors import UserError, run_cli
from mmpt.utils.shards import Sharding


class Parser(argparse.ArgumentParser):
    """An argument parser that suggests the nearest choice or option for a misspelt one."""

    def error(self, message: str) -> NoReturn:
        """Print usage and message to stderr, and exit with status 2."""
        wrong = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if wrong:
            message += nearest(wrong[1], re.findall(r"[\w-]+", wrong[2]))
        unknown = re.match(r"unrecognized arguments: (--[\w.-]+)", message)
        if unknown:
            message += "."
            if near := nearest(unknown[1], self._option_string_actions):
                message += near
            elif any(action.dest == "overrides" for action in self._actions):
                message += " Keys of the config are set without dashes: key=value."
        super().error(message)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print the help; argparse ignores that the disk is full."""
        (file or sys.stderr).write(message)


def _add_shard_arguments(parser: argparse.ArgumentParser) -> None:
    """The options --shard and --merge (see mmpt/utils/shards.py and docs/scale.md)."""
    group = parser.add_argument_group("shards (docs/scale.md)")
    group.add_argument("--shard", metavar="I/N", help="only part I of N; run all N, then --merge")
    group.add_argument("--merge", action="store_true", help="join the shards in the output folder")


@dataclass(frozen=True)
class Command:
    """One command of `signclip`: name (words separated by spaces), description, options and function.

    Called with the words after the name (default: of this process), it returns the exit status. parse: for
    commands whose options depend on their first word. shards: whether it has --shard and --merge, which
    become args.sharding, and --cluster. jobs: for other commands with --cluster, runs them there.
    """

    name: str
    description: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]
    parse: Callable[[argparse.ArgumentParser, Sequence[str]], argparse.Namespace] | None = None
    shards: bool = False
    jobs: Callable[[argparse.Namespace], int] | None = None

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Parse and run. Wrong usage raises SystemExit with status 2."""
        words = sys.argv[1:] if argv is None else list(argv)
        return run_cli(self._run, words, words=words)

    def _run(self, words: list[str]) -> int | None:
        parser = self.parser()
        args = self.parse(parser, words) if self.parse else self._parsed(parser, words)
        recorded = [word for word in words if word != "--merge"]  # the result is that of one run
        args.command_line = shlex.join(["signclip", *self.name.split(), *recorded])
        if self.shards:
            args.sharding = Sharding.chosen(args.shard, args.merge)
        if self._has_cluster and check_cluster_arguments(args):
            if self.shards and args.sharding != Sharding():
                raise UserError("--cluster runs all shards and merges them: leave out --shard and --merge.")
            if self.jobs is not None:
                return self.jobs(args)
            from mmpt.cluster.shards import run_shards

            return run_shards(args, [*self.name.split(), *without_cluster_arguments(words)])
        return self.run(args)

    def _parsed(self, parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
        if "--" in words:  # which parsing of intermixed words drops, with what follows
            return parser.parse_args(words)
        return parser.parse_intermixed_args(words)

    @property
    def _has_cluster(self) -> bool:
        return self.shards or self.jobs is not None

    def parser(self, **options: Any) -> argparse.ArgumentParser:
        """The parser, without the extra options that depend on the first word."""
        parser = Parser(
            prog=f"signclip {self.name}",
            description=self.description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **options,
        )
        self.add_all_arguments(parser)
        return parser

    def add_all_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Its own options, and those of shards and jobs."""
        self.add_arguments(parser)
        if self.shards:
            _add_shard_arguments(parser)
        if self._has_cluster:
            add_cluster_arguments(parser, self.shards)


def add_cluster_arguments(parser: argparse.ArgumentParser, shards: bool) -> None:
    """Add the options --cluster ... . shards: of a command that runs in shards."""
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

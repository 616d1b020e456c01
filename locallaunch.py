#!/usr/bin/env python
"""Run experiments on this machine.

    python locallaunch.py projects/signclip/X.yaml[,Y.yaml...] [key=value ...]

A training config is trained, and evaluated afterwards where it says `eval.after_training: true`; a config
whose name begins with test_, or whose task_type is local_predict, is evaluated.
"""

import argparse
import shlex
import sys

from mmpt.cli import run_cli
from mmpt.config import Config, evaluates, load_config
from mmpt.utils.errors import UserError
from mmpt.utils.processes import run_forwarding_signals

PROCESSES = {"local_single": 1, "local_small": 2, "local_big": 4}
JOB_TYPES = [*PROCESSES, "local_predict"]


def job_type(config: Config, path: str, asked: str | None) -> str:
    """What to do with a config: --jobtype, else its task_type. A cluster's types run as local_single.

    Raises UserError for an unknown local type.
    """
    if asked is not None:
        return asked
    if evaluates(path, config):
        return "local_predict"
    if config.task_type in JOB_TYPES:
        return config.task_type
    if config.task_type.startswith("local_"):
        raise UserError(
            f"{path}: task_type: expected one of {', '.join(JOB_TYPES)}, or a cluster's, such as "
            f"sweep_small; got {config.task_type!r}."
        )
    return "local_single"


def commands(path: str, overrides: list[str], asked: str | None) -> list[list[str]]:
    """The commands that run a config, each as an argument list."""
    config = load_config(path, overrides)
    job = job_type(config, path, asked)
    evaluate = [sys.executable, "-m", "mmpt.cli.evaluate", path, *overrides]
    if job == "local_predict":
        return [evaluate]
    train = [sys.executable, "-m", "mmpt.cli.train", path, *overrides]
    if PROCESSES[job] > 1:
        torchrun = [sys.executable, "-m", "mmpt.cli.torchrun"]
        processes = ["--standalone", f"--nproc-per-node={PROCESSES[job]}"]
        train = [*torchrun, *processes, "-m", "mmpt.cli.train", path, *overrides]
    return [train, evaluate] if config.eval.after_training else [train]


def _check_names(paths: list[str], overrides: list[str]) -> None:
    """What loading alone does not see: names that are not registered, settings that contradict each other.

    Raises UserError, which names the config.
    """
    from mmpt.tasks import Task

    for path in paths:
        try:
            Task(load_config(path, overrides))
        except UserError as error:
            raise UserError(f"{path}: {error}") from None


def launch(args: argparse.Namespace) -> int:
    """Run all configs in turn; the first command that fails ends the run, and its exit status is ours."""
    jobs = [path for item in args.configs.split(",") if (path := item.strip())]
    if not jobs:
        raise UserError("no config given: expected one or more YAML files, separated by commas.")
    todo = [command for path in jobs for command in commands(path, args.overrides, args.jobtype)]
    if args.dryrun:
        _check_names(jobs, args.overrides)
        print("\n".join(shlex.join(command) for command in todo))
        return 0
    for command in todo:
        print(f"$ {shlex.join(command)}", file=sys.stderr, flush=True)
        status = run_forwarding_signals(command)
        if status:
            return status
    return 0


def main(argv: list[str] | None = None) -> int:
    """Parse and launch."""
    parser = argparse.ArgumentParser(description="Train and evaluate task configs on this machine.")
    parser.add_argument("configs", help="one YAML file, or several separated by commas")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="overrides, such as dataset.augment2d=true"
    )
    parser.add_argument(
        "--jobtype",
        choices=JOB_TYPES,
        help="1, 2 or 4 processes, or evaluate; default: the config's task_type",
    )
    parser.add_argument(
        "--dryrun", action="store_true", help="check the configs, print the commands, run nothing"
    )
    return run_cli(launch, parser.parse_intermixed_args(argv))


if __name__ == "__main__":
    sys.exit(main())

"""Train the models of task configs, and evaluate them where the config says so.

    signclip train package:fslex_demo
    signclip train projects/signclip/X.yaml[,Y.yaml...] [key=value ...]

A config with `eval.after_training: true` is evaluated after training. A config whose name begins with test_,
or whose task_type is local_predict, is only evaluated. The processes of local_small (2) and local_big (4) are
started with torchrun; in a process that torchrun started, this command trains as one rank.

With --cluster, each config that trains is a job, together with the configs behind it that only evaluate.
cluster.nodes above 1 trains on several nodes, with one process per GPU (cluster.gpus_per_node).
"""

import argparse
import contextlib
import importlib.util
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mmpt.cli.command import Command
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.logging import log_level, setup_logging

if TYPE_CHECKING:
    from mmpt.cluster.job import Step
    from mmpt.config import ClusterConfig
    from mmpt.tasks import Task

log = logging.getLogger(__name__)

PROCESSES = {"local_single": 1, "local_small": 2, "local_big": 4}
JOB_TYPES = [*PROCESSES, "local_predict"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("configs", help="one YAML file or package:NAME, or several separated by commas")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="overrides, such as loss.temperature=0.1"
    )
    parser.add_argument(
        "--jobtype",
        choices=JOB_TYPES,
        help="1, 2 or 4 processes, or evaluate; default: the config's task_type",
    )
    parser.add_argument(
        "--dryrun", action="store_true", help="check configs and data, print the commands, run nothing"
    )
    parser.add_argument(
        "--in-process", action="store_true", help="train one config in this process, without evaluation"
    )
    parser.add_argument(
        "--print-fairseq", action="store_true", help="print the equivalent fairseq-train command and stop"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="replace an evaluation of an older version or of other settings; never other files",
    )
    parser.add_argument("--verbose", action="store_true", help="show fairseq's own log")


def run(args: argparse.Namespace) -> int:
    """Train in this process, or run all configs in turn, each in its own processes.

    The first command that fails ends the run, and its exit status is returned.
    """
    if args.in_process or args.print_fairseq or "RANK" in os.environ:
        return _train_in_process(args)
    from mmpt.utils.processes import run_forwarding_signals

    paths = _paths(args)
    todo = [line for path in paths for line in commands(path, args)]
    if args.dryrun:
        return _dry_run(paths, args, todo)
    for command in todo:
        print(f"$ {shlex.join(command)}", file=sys.stderr, flush=True)
        if status := run_forwarding_signals(command):
            return status
    return 0


def run_jobs(args: argparse.Namespace) -> int:
    """Run the configs as jobs of a cluster; the exit status of the worst."""
    setup_logging(logging.INFO)
    if args.in_process or args.print_fairseq:
        raise UserError("--cluster cannot be used with --in-process or --print-fairseq: leave one out.")
    from mmpt.cluster.submission import Cluster
    from mmpt.cluster.waiting import run_jobs as run_on
    from mmpt.config import load_cluster_config, load_config
    from mmpt.config.run_folder import LAST, save_dir

    paths = _paths(args)
    if args.dryrun:
        return _dry_run(paths, args, [line for path in paths for line in commands(path, args)])
    given = load_cluster_config(args.cluster_config) if args.cluster_config else None
    jobs, cluster = [], None
    for group in _groups(paths, args):
        config = given or load_config(group[0], args.overrides).cluster
        one = Cluster(args.cluster, config, "train")
        if cluster is not None and one.config != cluster.config:
            raise UserError(
                f"{group[0]}: its section cluster: differs from that of {paths[0]}: give one for all with "
                "--cluster-config, or run the configs one by one."
            )
        cluster = one
        jobs.append(cluster.job(group[0], [step for path in group for step in _steps(path, args, config)]))
    assert cluster is not None
    status = max(run_on(cluster, jobs, args.cancel_on_interrupt))
    for folder in dict.fromkeys(save_dir(load_config(path, args.overrides).fairseq) for path in paths):
        if (folder / LAST).is_file():
            log.info("checkpoints are in %s", folder)
    return status


def _paths(args: argparse.Namespace) -> list[str]:
    paths = [path for item in args.configs.split(",") if (path := item.strip())]
    if not paths:
        raise UserError("no config given: expected one or more YAML files, separated by commas.")
    return paths


def _groups(paths: list[str], args: argparse.Namespace) -> list[list[str]]:
    """The configs of each job: one that only evaluates may need what the training before it writes."""
    from mmpt.config import evaluates, load_config

    groups: list[list[str]] = []
    for path in paths:
        evaluation = args.jobtype == "local_predict" or (
            args.jobtype is None and evaluates(path, load_config(path, args.overrides))
        )
        if evaluation and groups:
            groups[-1].append(path)
        else:
            groups.append([path])
    return groups


def _steps(path: str, args: argparse.Namespace, cluster: "ClusterConfig") -> list["Step"]:
    from mmpt.cluster.job import Step

    train = "--in-process"
    return [Step(tuple(line), everywhere=train in line) for line in commands(path, args, cluster)]


def commands(path: str, args: argparse.Namespace, cluster: "ClusterConfig | None" = None) -> list[list[str]]:
    """The commands that run a config, each as an argument list. args: of this command.

    cluster: of the job that runs them, which may have several nodes, each with its own processes.
    """
    from mmpt.config import evaluates, load_config

    overrides, asked = args.overrides, args.jobtype
    force = ["--force"] if args.force else []
    options = [*force, "--verbose"] if args.verbose else force
    config = load_config(path, overrides)
    if asked is None:
        asked = "local_predict" if evaluates(path, config) else config.task_type
    evaluate = [sys.executable, "-m", "mmpt", "evaluate", path, *overrides, *force]
    if asked == "local_predict":
        return [evaluate]
    if asked.startswith("local_") and asked not in PROCESSES:
        raise UserError(
            f"{path}: task_type: expected one of {', '.join(JOB_TYPES)}, or a cluster's, such as "
            f"sweep_small; got {asked!r}."
        )
    processes = PROCESSES.get(asked, 1)  # a cluster's type runs as local_single
    nodes = 1 if cluster is None else cluster.nodes
    if cluster is not None and cluster.gpus_per_node:
        processes = cluster.gpus_per_node
    together = ["--standalone"] if nodes == 1 else []  # otherwise the job says where (mmpt/cluster)
    torchrun = ["mmpt.training.torchrun", *together, f"--nproc-per-node={processes}", "-m"]
    several = processes * nodes > 1
    start = [sys.executable, "-m", *(torchrun if several else []), "mmpt", "train", "--in-process"]
    train = [*start, path, *overrides, *options]
    return [train, evaluate] if config.eval.after_training else [train]


def _dry_run(paths: list[str], args: argparse.Namespace, todo: list[list[str]]) -> int:
    """Check names, settings and data of the configs and print the commands. Raises UserError."""
    from mmpt.config import evaluates, load_config
    from mmpt.tasks import Task

    tasks = []
    for path in paths:
        with _named(path):
            tasks.append(Task(load_config(path, args.overrides)))
    print("\n".join(shlex.join(command) for command in todo), flush=True)
    for path, task in zip(paths, tasks):
        predicts = args.jobtype == "local_predict" or (not args.jobtype and evaluates(path, task.config))
        processes = PROCESSES.get(args.jobtype or task.config.task_type, 1)
        with _named(path):
            _check_data(task, predicts, processes, args.force)
            if not predicts:
                from mmpt.training.run import check_plan, prepare

                check_plan(prepare(path, args.overrides))
    return 0


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Name the config in the UserErrors of the block."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _check_data(task: "Task", predicts: bool, processes: int, force: bool) -> None:
    """Raises UserError for what is refused before clips are read: missing data, results of something else."""
    from mmpt.config.fairseq_options import option

    tested = task.config.dataset.split or "test"
    splits = [tested] if predicts else ["train"]
    if not predicts and not option(task.config.fairseq, "disable_validation"):
        splits.append("valid")
    if not predicts and task.config.eval.after_training:
        splits.append(tested)
    for split in splits:
        task.check_corpus(split, processes)
    if predicts or task.config.eval.after_training:
        from mmpt.evaluators.evaluation import check_results

        check_results(task, force)


def _train_in_process(args: argparse.Namespace) -> int:
    level = logging.INFO if int(os.environ.get("RANK", 0)) == 0 else logging.WARNING
    setup_logging(level)
    _check_fairseq()
    from mmpt.training.run import preflight, prepare

    first_here = int(os.environ.get("LOCAL_RANK", 0)) == 0
    try:
        plan = prepare(args.configs, args.overrides)
    except UserError:
        if first_here:
            raise
        return 2  # the first local rank reports the same error
    with contextlib.nullcontext() if args.verbose else _without_fairseq_log():
        from mmpt.fairseq_plugin.options import parse_fairseq_config
        from mmpt.fairseq_plugin.trainer import train

        setup_logging(level)  # importing fairseq adds a log handler
        settings = parse_fairseq_config(plan.argv, plan.config)
        if args.print_fairseq:
            print(shlex.join(["fairseq-train", "--user-dir", str(Path(__file__).parents[1]), *plan.argv]))
            return 0
        if first_here:
            preflight(plan, args.force)
        with plan.running():
            status = train(plan, settings)
    if level == logging.INFO:
        plan.report()
    return status


@contextlib.contextmanager
def _without_fairseq_log() -> Iterator[None]:
    """Hide fairseq's own log, and the deprecation warnings of fairseq, hydra and torch at every start."""
    names = ("fairseq", "fairseq_cli", "torch", "train", "train_inner", "valid")
    with (
        warnings.catch_warnings(),
        log_level(logging.WARNING, *names),
        # it logs the traceback of a failed save, and then raises an error, which is shown in one line
        log_level(logging.CRITICAL, "fairseq.checkpoint_utils"),
    ):
        warnings.simplefilter("ignore")
        yield


def _check_fairseq() -> None:
    for name in ("fairseq", "hydra", "bitarray", "sacrebleu"):  # fairseq imports the others
        if importlib.util.find_spec(name) is None:
            how = '`pip install "mmpt[train]"` (in a checkout: `make install`)'
            if sys.version_info >= (3, 13):
                how += "; fairseq has wheels for Python 3.11 and 3.12: in a checkout, "
                how += "`python scripts/install_fairseq.py`"
            raise MissingDataError(
                f"training needs {name}, which is not installed: {how}. Evaluating, embedding and the demo "
                "of a trained model work without it."
            )


main = Command("train", __doc__, add_arguments, run, jobs=run_jobs)

if __name__ == "__main__":
    sys.exit(main())

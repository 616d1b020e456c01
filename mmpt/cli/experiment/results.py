"""Run experiments and compare them with published numbers.

    signclip experiment results projects/signclip/test_rwthfs_*.yaml

Trains and evaluates what is missing, and writes results.md, results.csv and results.png after each
experiment. Repeat the command to resume.
"""

import argparse
import logging
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mmpt.cli.command import Command
from mmpt.utils.errors import UserError, run_cli
from mmpt.utils.files import write_text
from mmpt.utils.logging import setup_logging
from mmpt.utils.output_kinds import COMPARISON
from mmpt.utils.outputs import FORCE_HELP, check_output, replace_output
from mmpt.utils.processes import run_forwarding_signals

if TYPE_CHECKING:
    from mmpt.experiments.status import Experiment

INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "configs",
        nargs="+",
        metavar="CONFIG|key=value",
        help="evaluation configs, then overrides for all of them",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(os.environ.get("SIGNCLIP_RUNS", "runs"), "results"),
        help="folder of the table (default: %(default)s)",
    )
    parser.add_argument("--collect", action="store_true", help="run nothing: only collect existing results")
    parser.add_argument(
        "--allow-stand-ins",
        action="store_true",
        help="allow generated data and random weights; the table notes them",
    )
    parser.add_argument(
        "--published",
        type=Path,
        help="table of published numbers (default: those of RWTH fingerspelling)",
    )
    parser.add_argument("--force", action="store_true", help=FORCE_HELP)
    parser.add_argument(
        "--title",
        default="RWTH German Fingerspelling",
        help="title of page and picture (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Check every config, run what is missing, write the table after each.

    Returns 0, or the exit status of the first failure.
    """
    setup_logging(logging.INFO)
    from mmpt.config.package_files import config_path, package_root
    from mmpt.evaluators.reports.tables import check_prompts_ranked
    from mmpt.experiments.comparison import in_published_order, read_published
    from mmpt.experiments.runs import split_overrides
    from mmpt.experiments.status import Experiment

    names, overrides = split_overrides(args.configs)
    paths: dict[str, Path] = {}
    for path in map(config_path, names):
        if paths.setdefault(path.stem, path).resolve() != path.resolve():
            raise UserError(
                f"{paths[path.stem]} and {path} have the same name: expected configs with different names."
            )
    if args.allow_stand_ins:
        overrides.append("dataset.allow_trial_features=true")
    if not paths:
        raise UserError("no config given: expected one or more test_*.yaml.")
    published = read_published(args.published or package_root() / "configs" / "published_rwthfs.csv")
    experiments = [Experiment(paths[name], overrides) for name in in_published_order(paths, published)]
    for experiment in experiments:
        check_prompts_ranked(experiment.config.eval.protocol, "the table of experiments")
    statuses: dict[str, int] = {}
    check_output(args.out, COMPARISON, force=args.force)
    if not args.collect:
        _refuse_stand_ins(experiments, args.allow_stand_ins)
        args.out.mkdir(parents=True, exist_ok=True)  # fails before hours of training
        if args.cluster:
            statuses = _run_as_jobs(experiments, args)
        for experiment in [] if args.cluster else experiments:
            statuses[experiment.name] = run_cli(_run, experiment, args.force, words=())
            if statuses[experiment.name] in INTERRUPTED:
                return statuses[experiment.name]
            text = _write(args, experiments, published, statuses)
    if args.collect or args.cluster:
        text = _write(args, experiments, published, statuses)
    print(f"{text}\nwrote {args.out}: results.md, results.csv, results.png")
    failed = [name for name, status in statuses.items() if status]
    if failed:
        print(
            f"error: {len(failed)} of {len(experiments)} failed: {', '.join(failed)}. See above.",
            file=sys.stderr,
        )
    return next((status for status in statuses.values() if status), 0)


def _refuse_stand_ins(experiments: list["Experiment"], allowed: bool) -> None:
    for experiment in experiments:
        if (notes := experiment.stand_ins()) and not allowed:
            raise UserError(
                f"{experiment.name} would run on stand-ins ({'; '.join(notes)}): its numbers would say "
                "nothing about the method. Give the real data and weights, or --allow-stand-ins."
            )


def _run(experiment: "Experiment", force: bool) -> int:
    """Train and evaluate where needed; the exit status."""
    if experiment.needs_training():
        files = experiment.training_files()  # before: they may be edited in the hours that it takes
        status = _launch(experiment.trained_by, [*experiment.overrides, "eval.after_training=false"])
        if status:
            return status
        experiment.mark_trained(files)
    if not experiment.needs_evaluation():
        return 0
    return _launch(experiment.path, experiment.overrides, force)


def _launch(config: Path | None, overrides: list[str], force: bool = False) -> int:
    command = _command(config, overrides, force)
    print(f"$ {shlex.join(command)}", file=sys.stderr, flush=True)
    return run_forwarding_signals(command)


def _command(config: Path | None, overrides: list[str], force: bool = False) -> list[str]:
    options = ["--force"] if force else []
    return [sys.executable, "-m", "mmpt", "train", str(config), *overrides, *options]


def _run_as_jobs(experiments: list["Experiment"], args: argparse.Namespace) -> dict[str, int]:
    """Train and evaluate what is missing, a job for each experiment; their exit statuses by name."""
    from mmpt.cluster.job import Step
    from mmpt.cluster.submission import Cluster
    from mmpt.cluster.waiting import run_jobs
    from mmpt.config import load_cluster_config

    given = args.cluster_config
    section = load_cluster_config(given) if given else experiments[0].config.cluster
    cluster = Cluster(args.cluster, section, "experiment results")
    jobs, trained = {}, {}
    for experiment in experiments:
        steps = []
        if experiment.needs_training():
            trained[experiment.name] = experiment, experiment.training_files()
            overrides = [*experiment.overrides, "eval.after_training=false"]
            steps.append(Step(tuple(_command(experiment.trained_by, overrides))))
        if steps or experiment.needs_evaluation():
            steps.append(Step(tuple(_command(experiment.path, experiment.overrides, args.force))))
            jobs[experiment.name] = cluster.job(experiment.name, steps)
    statuses = dict(zip(jobs, run_jobs(cluster, list(jobs.values()), args.cancel_on_interrupt)))
    for name, (experiment, files) in trained.items():
        if statuses[name] == 0:
            experiment.mark_trained(files)
    return statuses


def _write(
    args: argparse.Namespace, experiments: list["Experiment"], published: dict, statuses: dict[str, int]
) -> str:
    from mmpt.experiments.comparison import Row, comparison_chart, comparison_csv, comparison_markdown

    rows = []
    for experiment in experiments:
        notes = experiment.stand_ins() + experiment.changed_settings()
        if statuses.get(experiment.name):
            notes.append(f"failed with exit status {statuses[experiment.name]}")
        rows.append(Row(experiment.name, experiment.results(), published.get(experiment.name), notes))
    text = comparison_markdown(rows)
    with replace_output(args.out, COMPARISON, force=args.force) as fresh:
        page = f"# {args.title}\n\n{text}\n![measured and published](results.png)\n"
        write_text(fresh / "results.md", page)
        write_text(fresh / "results.csv", comparison_csv(rows))
        comparison_chart(fresh / "results.png", rows, args.title)
    return text


main = Command("experiment results", __doc__, add_arguments, run, jobs=run)

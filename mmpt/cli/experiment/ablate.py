"""Train and evaluate configs that differ in one setting, with several seeds, and compare them.

    signclip experiment ablate projects/signclip/fslex_best.yaml projects/signclip/ablations/fslex_best_*.yaml
    signclip experiment ablate X.yaml Y.yaml --seeds 1 2 3 --split valid fairseq.optimization.max_epoch=20

Each config is compared with the first. Finished runs are not repeated; after an interruption the same
command resumes. Writes ablations.md, ablations.csv, ablations.json and ablations.png to --out.
"""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mmpt.cli.command import Command
from mmpt.utils.errors import UserError
from mmpt.utils.files import write_json, write_text
from mmpt.utils.logging import setup_logging
from mmpt.utils.output_kinds import ABLATIONS
from mmpt.utils.outputs import FORCE_HELP, check_output, replace_output
from mmpt.utils.text import counted

if TYPE_CHECKING:
    from mmpt.experiments.runs import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "configs", nargs="+", metavar="CONFIG|key=value", help="configs, then overrides for all of them"
    )
    parser.add_argument(
        "--seeds", nargs="+", default=["1", "2", "3", "4", "5"], help="seeds of each (default: 1 to 5)"
    )
    parser.add_argument(
        "--split", default="test", choices=["valid", "test"], help="split to evaluate (default: test)"
    )
    parser.add_argument("--jobs", type=int, help="parallel runs, without --cluster (default: one per core)")
    parser.add_argument("--out", type=Path, help="folder (default: runs/ablations/NAME OF THE FIRST CONFIG)")
    parser.add_argument("--force", action="store_true", help=FORCE_HELP)


def run(args: argparse.Namespace) -> int:
    """Train what is missing, then write table and picture. Returns 1 if a run failed."""
    setup_logging(logging.INFO)
    from mmpt.config import config_path
    from mmpt.evaluators.reports.tables import csv_text
    from mmpt.experiments.ablations import Ablation, compare, picture, table
    from mmpt.experiments.runs import run_all, seeds_of, split_overrides

    names, given = split_overrides(args.configs)
    words, more = split_overrides(args.seeds)
    configs, overrides, seeds = [config_path(name) for name in names], (*given, *more), seeds_of(words)
    if len({path.stem for path in configs}) < len(configs) or not configs:
        raise UserError("expected one or more configs with different names.")
    out = args.out or Path(os.environ.get("SIGNCLIP_RUNS", "runs")) / "ablations" / configs[0].stem
    of = {"config": configs[0].name, "split": args.split, "overrides": " ".join(overrides)}
    check_output(out, ABLATIONS, of, args.force)
    _check_clips(configs, overrides, args.split)
    runs_of = {path: [_run(path, seed, overrides, args.split, out) for seed in seeds] for path in configs}
    launcher = None
    if args.cluster:
        from mmpt.cluster.trainings import ClusterTrainings

        launcher = ClusterTrainings(args, configs[0], overrides)
    failed = run_all([run for runs in runs_of.values() for run in runs], args.jobs, args.force, launcher)
    ablations = []
    for path, runs in runs_of.items():
        done = [(run, results) for run in runs if run not in failed and (results := run.results())]
        if done:
            ablations.append(Ablation.of_runs(path, done, configs[0]))
    if not ablations or ablations[0].name != configs[0].stem:
        raise UserError(f"{configs[0].stem} has no results: see {runs_of[configs[0]][0].folder / 'log.txt'}.")
    rows = compare(ablations)
    settings = f"{args.split} split, seeds {' '.join(map(str, seeds))} {' '.join(overrides)}".strip()
    text = f"{table(rows, ablations[0])}\n{settings}.\n"
    with replace_output(out, ABLATIONS, of, args.force) as fresh:
        write_text(fresh / "ablations.md", f"# {configs[0].stem}\n\n{text}\n![ablations](ablations.png)\n")
        write_text(fresh / "ablations.csv", csv_text(rows))
        write_json(fresh / "ablations.json", rows)
        picture(fresh / "ablations.png", rows, configs[0].stem)
    print(f"{text}\nwrote {out}: ablations.md, ablations.csv, ablations.json, ablations.png")
    if failed:
        print(
            f"error: {counted(len(failed), 'run')} failed: {', '.join(run.name for run in failed)}",
            file=sys.stderr,
        )
    return int(bool(failed))


def _check_clips(configs: list[Path], overrides: tuple[str, ...], split: str) -> None:
    """Raises UserError, before any training, if a config evaluates other clips or by another protocol."""
    from mmpt.config import load_config
    from mmpt.evaluators.reports.tables import check_prompts_ranked
    from mmpt.tasks import Task

    known: list[str] = []
    protocol = load_config(configs[0], overrides).eval.protocol
    check_prompts_ranked(protocol, "the table of ablations")
    for path in configs:
        config = load_config(path, overrides)
        if config.eval.protocol != protocol:
            raise UserError(
                f"{path}: eval.protocol is {config.eval.protocol}, but {protocol} in {configs[0]}: "
                "their numbers are not comparable. Run the command once for each protocol."
            )
        examples = Task(config).dataset(split).examples
        clips = [example.video_id for example in examples]
        known = known or clips
        if clips != known:
            raise UserError(
                f"{path}: the {len(clips)} clips of its {split} split are not the {len(known)} of "
                f"{configs[0]}: compared configs must evaluate the same clips, in the same order."
            )


def _run(path: Path, seed: int, overrides: tuple[str, ...], split: str, out: Path) -> "Run":
    from mmpt.experiments.runs import Run

    given = (*overrides, f"fairseq.common.seed={seed}", f"dataset.split={split}")
    return Run(f"{path.stem}/seed{seed}", path, given, out / path.stem / f"seed{seed}")


main = Command("experiment ablate", __doc__, add_arguments, run, jobs=run)

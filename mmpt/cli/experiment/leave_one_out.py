"""Leave one sign language out: train on the others, evaluate on it, and compare with an SVM.

    signclip experiment leave-one-out --config projects/signclip/fslex_best.yaml
    signclip experiment leave-one-out --config X.yaml --languages ase asq bzs gsg sgg --seeds 1 2 3
    signclip experiment leave-one-out --config X.yaml --folds asq,bzs eso,ise loss.mixup=0
    signclip experiment leave-one-out --config letters.yaml signs.yaml both.yaml --folds ase bzs gsg ise

Every fold trains for the config's number of epochs, without validation, and its last checkpoint is evaluated:
nothing is chosen on the held-out language. Finished folds are not repeated; after an interruption the same
command resumes. Writes table.md, table.csv, folds.json and folds.png to --out.
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
from mmpt.utils.logging import log_level, setup_logging
from mmpt.utils.output_kinds import FOLDS
from mmpt.utils.outputs import FORCE_HELP, check_output, replace_output

if TYPE_CHECKING:
    from mmpt.experiments.folds import Fold
    from mmpt.experiments.runs import Run

# one-handed Latin alphabets of the lexicon
LATIN = ["ase", "asq", "bzs", "eso", "gsg", "ise", "lls", "mfs", "psr", "sgg", "ssp", "svk", "swl"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "--config",
        nargs="+",
        required=True,
        metavar="YAML",
        help="training configs of the folds; each has its own table",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides of the config")
    parser.add_argument(
        "--languages",
        nargs="+",
        default=LATIN,
        metavar="CODE",
        help=f"all languages: one is held out, the others train (default: {' '.join(LATIN)})",
    )
    parser.add_argument(
        "--folds", nargs="+", metavar="CODE,CODE", help="languages held out together (default: each alone)"
    )
    parser.add_argument("--seeds", nargs="+", default=["1"], help="seeds of each fold (default: 1)")
    parser.add_argument(
        "--svm-features",
        nargs="+",
        default=[],
        metavar="YAML",
        help="configs for SVMs on other features, with the clips and prompts of --config",
    )
    parser.add_argument("--jobs", type=int, help="parallel runs, without --cluster (default: one per core)")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder (default: runs/leave_one_out/NAME OF THE CONFIG); several configs: a folder in it for "
        "each",
    )
    parser.add_argument("--force", action="store_true", help=FORCE_HELP)


def run(args: argparse.Namespace) -> int:
    """Run each config. Returns 1 if a fold failed."""
    setup_logging(logging.INFO)
    from mmpt.config import config_path, load_config
    from mmpt.evaluators.reports.tables import check_prompts_ranked
    from mmpt.experiments.runs import split_overrides

    for name in ("config", "languages", "folds", "seeds", "svm_features"):
        if getattr(args, name) is not None:
            words, overrides = split_overrides(getattr(args, name))
            setattr(args, name, words)
            args.overrides = [*args.overrides, *overrides]
    configs = [config_path(name) for name in args.config]
    if len({path.stem for path in configs}) < len(configs):
        raise UserError("--config: expected configs with different names.")
    for path in configs:
        config = load_config(path, args.overrides)  # all mistakes are reported before anything is trained
        check_prompts_ranked(config.eval.protocol, "the table of folds")
    runs_folder = Path(os.environ.get("SIGNCLIP_RUNS", "runs"))
    failed = 0
    for path in configs:
        out = args.out or runs_folder / "leave_one_out" / path.stem
        each = argparse.Namespace(**{**vars(args), "config": path})
        with log_level(logging.WARNING, "mmpt.tasks.task"):
            failed |= _leave_one_out(each, out / path.stem if args.out and len(configs) > 1 else out)
    return failed


def _leave_one_out(args: argparse.Namespace, out: Path) -> int:
    """Train what is missing of one config, then write table and picture. Returns 1 if a fold failed."""
    from mmpt.config import config_path, load_config
    from mmpt.experiments.folds import (
        check_folds,
        folds_of,
        picture,
        result_of,
        table,
        table_csv,
        with_clips_of,
    )
    from mmpt.experiments.runs import run_all, seeds_of

    together = None if args.folds is None else [group.split(",") for group in args.folds]
    of = {"config": args.config.name, "overrides": " ".join(args.overrides)}  # more folds or seeds extend it
    check_output(out, FOLDS, of, args.force)
    folds, seeds = folds_of(args.languages, together), seeds_of(args.seeds)
    runs = {(fold, seed): _run(args, fold, seed, out) for fold in folds for seed in seeds}
    config = load_config(args.config, args.overrides)
    others = {config_path(path).stem: with_clips_of(load_config(path), config) for path in args.svm_features}
    if len(others) < len(args.svm_features):
        raise UserError("--svm-features: expected configs with different names.")
    check_folds(config, folds, others)
    launcher = None
    if args.cluster:
        from mmpt.cluster.trainings import ClusterTrainings

        launcher = ClusterTrainings(args, args.config, args.overrides)
    failed = run_all(list(runs.values()), args.jobs, args.force, launcher)
    done = {fold: [run for seed in seeds if (run := runs[fold, seed]) not in failed] for fold in folds}
    results = [result_of(fold, finished, config, others) for fold, finished in done.items() if finished]
    if not results:
        raise UserError(f"no fold has results; the reason is in {failed[0].folder / 'log.txt'}.")
    text = table(results)
    title = f"{args.config.stem}: sign languages held out in turn"
    settings = (
        f"Config {args.config} {' '.join(args.overrides)}, seeds {' '.join(map(str, seeds))}; each fold "
        f"trains on the others of {' '.join(args.languages)}."
    )
    with replace_output(out, FOLDS, of, args.force) as fresh:
        write_text(fresh / "table.md", f"# {title}\n\n{settings}\n\n{text}\n![folds](folds.png)\n")
        write_text(fresh / "table.csv", table_csv(results))
        write_json(fresh / "folds.json", [result.facts() for result in results])
        picture(fresh / "folds.png", results, title)
    print(f"{title}\n\n{text}\nwrote {out}: table.md, table.csv, folds.json, folds.png")
    if failed:
        print(f"error: {len(failed)} trainings failed: {', '.join(r.name for r in failed)}", file=sys.stderr)
    return int(bool(failed))


def _run(args: argparse.Namespace, fold: "Fold", seed: int, out: Path) -> "Run":
    from mmpt.experiments.runs import Run

    overrides = (*args.overrides, *fold.overrides, f"fairseq.common.seed={seed}")
    name = f"{fold.name}/seed{seed}"
    return Run(name, args.config, overrides, out / fold.name / f"seed{seed}", select="last")


main = Command("experiment leave-one-out", __doc__, add_arguments, run, jobs=run)

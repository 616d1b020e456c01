"""Train the model of a task config: `python -m mmpt.cli.train projects/signclip/X.yaml [key=value ...]`.

One process; `locallaunch.py` starts as many as the config asks for. --print-fairseq shows the equivalent
`fairseq-train` command, which trains the same model but does not lock its folder or stop on signals.
"""

import argparse
import importlib.util
import logging
import os
import shlex
import sys
import warnings
from pathlib import Path

from mmpt.utils.errors import MissingDataError, UserError, run_cli
from mmpt.utils.logging import setup_logging


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        prog="mmpt.cli.train", description="Train the model of a task config with fairseq."
    )
    parser.add_argument("taskconfig", help="YAML file, such as projects/signclip/fslex_demo.yaml")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="overrides, such as loss.temperature=0.1"
    )
    parser.add_argument(
        "--print-fairseq", action="store_true", help="print the equivalent fairseq-train command and stop"
    )
    parser.add_argument("--verbose", action="store_true", help="show fairseq's own log")
    args = parser.parse_intermixed_args(argv)
    return run_cli(_train, args)


def _train(args: argparse.Namespace) -> int:
    level = logging.INFO if int(os.environ.get("RANK", 0)) == 0 else logging.WARNING
    setup_logging(level)
    _check_fairseq()
    from mmpt.training.preflight import preflight
    from mmpt.training.run import prepare

    first_here = int(os.environ.get("LOCAL_RANK", 0)) == 0
    try:
        plan = prepare(args.taskconfig, args.overrides)
    except UserError:
        if first_here:
            raise
        return 2  # the first process of this machine reports the same error
    if not args.verbose:  # fairseq, hydra and torch emit deprecation warnings at every start
        warnings.simplefilter("ignore")
        logging.getLogger("fairseq").setLevel(logging.WARNING)
    from mmpt.fairseq_plugin.launch import train
    from mmpt.fairseq_plugin.options import parse_fairseq_config

    setup_logging(level)  # importing fairseq installs a log handler of its own
    settings = parse_fairseq_config(plan.argv, plan.config)
    if args.print_fairseq:
        print(shlex.join(["fairseq-train", "--user-dir", str(Path(__file__).parents[1]), *plan.argv]))
        return 0
    if first_here:
        preflight(plan)
    with plan.running():
        status = train(plan, settings, args.verbose)
    if level == logging.INFO:
        plan.report()
    return status


def _check_fairseq() -> None:
    if importlib.util.find_spec("fairseq") is None:
        raise MissingDataError(
            "training needs fairseq, which is not installed: `make install`, or `pip install -r "
            "requirements-train.txt` and then "
            "`pip install --no-deps ve-fairseq==0.12.3`. Evaluating, embedding and the demo work without it."
        )


if __name__ == "__main__":
    sys.exit(main())

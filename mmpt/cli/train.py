"""Train the model of a task config: `python -m mmpt.cli.train projects/signclip/X.yaml [key=value ...]`.

One process. `locallaunch.py` starts it, in as many copies as the config asks for; `fairseq-train` with the
arguments that --print-fairseq shows does the same.
"""

import argparse
import contextlib
import importlib.util
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmpt.config import Config, load_config, save_config
from mmpt.config.compare import SAVED
from mmpt.utils.allocator import keep_freed_memory
from mmpt.utils.errors import MissingDataError, UserError, run_cli
from mmpt.utils.files import remove_leftovers
from mmpt.utils.lock import folder_lock
from mmpt.utils.logging import setup_logging

log = logging.getLogger(__name__)

UNFINISHED = "*.pt.tmp"
"""fairseq's own way to name a checkpoint that it is writing."""


def main(argv: list[str] | None = None) -> int:
    """Parse, check everything that can be checked early, and hand over to fairseq."""
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
    setup_logging(logging.INFO)
    config = load_config(args.taskconfig, args.overrides)
    _need_fairseq()
    if not args.verbose:  # fairseq, hydra and torch warn of each other's ways, at every start
        warnings.simplefilter("ignore")
        logging.getLogger("fairseq").setLevel(logging.WARNING)
    from mmpt.fairseq_plugin.args import save_dir, train_argv
    from mmpt.fairseq_plugin.checkpoints import keep_best
    from mmpt.fairseq_plugin.settings import settings_of

    setup_logging(logging.INFO)  # fairseq's import puts a handler of its own in place
    if not args.print_fairseq:
        keep_best(save_dir(config.fairseq))
    arguments = train_argv(config, args.taskconfig, args.overrides)
    settings = settings_of(arguments, config)
    if args.print_fairseq:
        print(shlex.join(["fairseq-train", "--user-dir", str(Path(__file__).parents[1]), *arguments]))
        return 0
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:  # this machine's other processes would find the same
        _check_data(config)
    folder = save_dir(config.fairseq)
    if int(os.environ.get("RANK", 0)) > 0:
        return _go_on_or_begin(config, settings, args.verbose, loaded=lambda: None)
    with folder_lock(folder, "another training run"), _without_leftovers(folder):
        # not before: until then the file is what the checkpoints in the folder were made with
        status = _go_on_or_begin(
            config, settings, args.verbose, loaded=lambda: save_config(config, folder / SAVED)
        )
    _tell_what_is_there(config, folder)
    return status


@contextlib.contextmanager
def _without_leftovers(folder: Path) -> Iterator[None]:
    """Remove what is half-written: by killed runs, before the block, and by the block itself, after it."""
    remove_leftovers(folder, UNFINISHED)
    try:
        yield
    finally:
        remove_leftovers(folder, UNFINISHED)


def _tell_what_is_there(config: Config, folder: Path) -> None:
    """Say where the checkpoints are. Raises UserError where there are none, as nothing was trained."""
    from mmpt.config.fairseq_options import option
    from mmpt.fairseq_plugin.args import LAST

    if (folder / LAST).is_file():
        log.info("checkpoints are in %s", folder)
    elif option(config.fairseq, "no_save"):
        log.info("no checkpoint was saved (fairseq.checkpoint.no_save)")
    else:
        raise UserError(
            f"nothing was trained, and no checkpoint is in {folder}: the run that restore_file names is at "
            "its end (raise max_epoch, or take finetune_from_model), or a limit such as stop_min_lr is "
            "reached before the first update."
        )


def _go_on_or_begin(config: Config, settings: Any, verbose: bool, loaded: Callable[[], None]) -> int:
    """Run fairseq (see _run_fairseq). Raises UserError where the checkpoint that it goes on from does not
    fit, which the config beside it did not show."""
    from mmpt.fairseq_plugin.going_on import gone_on_from, what_else
    from mmpt.fairseq_plugin.resuming import UnfitCheckpointError

    checkpoint = gone_on_from(config.fairseq)
    try:
        return _run_fairseq(settings, verbose, loaded)
    except UnfitCheckpointError as error:
        if checkpoint is None:
            raise
        reason = f"{type(error.__cause__).__name__}: {error.__cause__}"
        raise UserError(
            f"{checkpoint} was made with another model, loss or optimizer, and does not fit ({reason}). Go "
            f"on with the settings that it was made with, {what_else(config.fairseq, checkpoint)}."
        ) from error


def _need_fairseq() -> None:
    if importlib.util.find_spec("fairseq") is None:
        raise MissingDataError(
            "training needs fairseq, which is not installed: `make install`, or `pip install -r "
            "requirements-train.txt` and then "
            "`pip install --no-deps ve-fairseq==0.12.3`. Evaluating, embedding and the demo work without it."
        )


def _check_data(config: Config) -> None:
    """Fail on missing data and contradictions before fairseq is set up and anything is written.

    fairseq makes the task again, and then it reports what is in its splits: here it is silent.
    """
    import torch

    from mmpt.config.fairseq_options import option
    from mmpt.fairseq_plugin.args import initial_weights, save_dir
    from mmpt.fairseq_plugin.going_on import check_gone_on
    from mmpt.losses import needs_common_batches
    from mmpt.tasks import Task
    from mmpt.utils.device import choose_device

    task = Task(config)
    report = logging.getLogger("mmpt.tasks.task")
    report.setLevel(logging.WARNING)
    try:
        together = "RANK" in os.environ and needs_common_batches(config.loss)  # started by torchrun
        processes = int(os.environ["WORLD_SIZE"]) if together else 1
        task.dataset("train").batches(option(config.fairseq, "batch_size"), 1, processes)
        if not option(config.fairseq, "disable_validation"):
            task.dataset("valid")
    finally:
        report.setLevel(logging.NOTSET)
    initial_weights(config.fairseq, save_dir(config.fairseq))
    check_gone_on(config)
    task.build_loss()
    with torch.device("meta"):  # shapes only
        task.build_model(pretrained=False)
    if config.eval.after_training:
        choose_device(config.eval.device)


def _run_fairseq(cfg: Any, verbose: bool, loaded: Callable[[], None]) -> int:
    """Train, and return the exit status. loaded: see go_on_as_before."""
    import torch
    from fairseq.distributed import utils as distributed_utils
    from fairseq_cli import train as fairseq_train

    from mmpt.fairseq_plugin.resuming import go_on_as_before
    from mmpt.fairseq_plugin.stopping import stop_on_signals

    keep_freed_memory()
    if (
        "RANK" in os.environ
    ):  # started by torchrun: fairseq's own detection takes for granted that there are GPUs
        distributed = cfg.distributed_training
        distributed.distributed_init_method = "env://"
        distributed.distributed_world_size = int(os.environ["WORLD_SIZE"])
        distributed.distributed_rank = int(os.environ["RANK"])
        distributed.device_id = int(os.environ["LOCAL_RANK"])
        distributed.distributed_no_spawn = True
        cfg.checkpoint.load_checkpoint_on_all_dp_ranks = True  # sent by pickle otherwise, which torch refuses
        if not torch.cuda.is_available():
            distributed.distributed_backend = "gloo"
            distributed.ddp_backend = "legacy_ddp"  # fairseq's default hands torch a GPU's number
    if not verbose:
        for name in ("fairseq", "fairseq_cli", "torch", "train", "train_inner", "valid"):
            logging.getLogger(name).setLevel(logging.WARNING)
        # a save that fails is a traceback in its log, and then an error, which we tell in one line
        logging.getLogger("fairseq.checkpoint_utils").setLevel(logging.CRITICAL)
    if (
        cfg.distributed_training.distributed_world_size > 1
    ):  # one process alone must not leave the others waiting
        with go_on_as_before(loaded):
            distributed_utils.call_main(cfg, fairseq_train.main)
        return 0
    with stop_on_signals() as stop, go_on_as_before(loaded):
        distributed_utils.call_main(cfg, fairseq_train.main)
    if stop.received:
        log.warning("stopped by %s: the same command goes on from the last checkpoint", stop.received.name)
    return stop.status


if __name__ == "__main__":
    sys.exit(main())

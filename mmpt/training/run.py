"""A task config -> the plan of a training run: one config, one task, one decision what it starts from.

`prepare` reads no data; `preflight` reads data and shapes, before fairseq is set up and anything is written.
"""

import contextlib
import functools
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmpt import __version__
from mmpt.config import Config, load_config, save_config
from mmpt.config.fairseq_options import option, to_argv
from mmpt.config.run_folder import DATA, LAST, SAVED_CONFIG, TOKENIZER, VERSION, save_dir, warn_if_moved
from mmpt.evaluators.evaluation import check_results
from mmpt.losses import needs_common_batches
from mmpt.models.building import shapes_only
from mmpt.models.loading import check_tokenizer
from mmpt.models.text_model import load_tokenizer, tokenizer_digest
from mmpt.tasks import Task
from mmpt.training.neighbours import check_one_process
from mmpt.training.options import Groups, check_fine_tuning, check_options, check_resets, normalise
from mmpt.training.resume import Start, adopt_best, check_foreign, check_resume, find_start, training_data
from mmpt.training.signals import StopRequest
from mmpt.utils.device import choose_device
from mmpt.utils.errors import UserError
from mmpt.utils.files import remove_leftovers, write_json
from mmpt.utils.lock import folder_lock

log = logging.getLogger(__name__)

_HALF_WRITTEN = ("checkpoint*.pt.tmp", "crash.pt.tmp")
"""How fairseq names its files while it writes them."""


@dataclass(frozen=True)
class TrainingPlan:
    """All that is decided before training: made by `prepare`, checked by `preflight`.

    options: of fairseq, by group, as it is given them. stop: set by a signal while training runs. at_end: is
    called when training has ended, in whatever way.
    """

    config_file: str
    overrides: tuple[str, ...]
    config: Config
    task: Task
    start: Start
    options: Groups
    stop: StopRequest = field(default_factory=StopRequest)
    at_end: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def folder(self) -> Path:
        """Where checkpoints go."""
        return save_dir(self.config.fairseq)

    @property
    def argv(self) -> list[str]:
        """The arguments of `fairseq-train` that run this plan."""
        argv = [self.config_file, "--task", "mmtask", "--arch", "mmarch", "--criterion", "mmloss"]
        for override in self.overrides:
            argv += ["--override", override]
        return argv + to_argv(self.options)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Hold the run's folder for this process, and remove half-written files before and after the block.

        Other ranks than 0 leave both to rank 0. Raises UserError if another run holds the folder.
        """
        if int(os.environ.get("RANK", 0)) > 0:
            yield
            return
        with folder_lock(self.folder, "another training run"):
            remove_leftovers(self.folder, *_HALF_WRITTEN)
            adopt_best(self.start)
            try:
                yield
            finally:
                remove_leftovers(self.folder, *_HALF_WRITTEN)

    @functools.cached_property
    def data(self) -> dict[str, str]:
        """Hashes of the data (see training_data), as it was when they were first asked for."""
        return training_data(self.config)

    def save_record(self) -> None:
        """Write the resolved config and the hashes of the data beside the checkpoints.

        Not before the checkpoint has been loaded: until then the file there describes what it was made with.
        """
        save_config(self.config, self.folder / SAVED_CONFIG)
        tokenizer = tokenizer_digest(load_tokenizer(self.config.dataset.bert_name))
        write_json(self.folder / DATA, {**self.data, TOKENIZER: tokenizer, VERSION: __version__})

    def report(self) -> None:
        """Log where the checkpoints are. Raises UserError if there are none because nothing was trained."""
        if (self.folder / LAST).is_file():
            log.info("checkpoints are in %s", self.folder)
        elif option(self.config.fairseq, "no_save"):
            log.info("no checkpoint was saved (fairseq.checkpoint.no_save)")
        else:
            raise UserError(
                f"nothing was trained, and no checkpoint is in {self.folder}: the run that restore_file "
                "names has ended (raise max_epoch, or use finetune_from_model), or a limit such as "
                "stop_min_lr is reached before the first update."
            )


def prepare(config_file: str, overrides: Sequence[str] = ()) -> TrainingPlan:
    """Load a task config, once, and decide how it is trained. Reads no data and writes nothing.

    Raises UserError for a config that cannot be trained, and for a foreign file that training would overwrite
    (see mmpt.training.resume).
    """
    config = load_config(config_file, overrides)
    task = Task(config)
    task.build_loss()  # refuses options that it does not have
    check_options(config, config_file)
    warn_if_moved(config_file, overrides, config.fairseq)
    start = find_start(config.fairseq)
    if not start.own:
        check_foreign(save_dir(config.fairseq))
    check_resets(config, start)
    check_fine_tuning(config, start)
    return TrainingPlan(config_file, tuple(overrides), config, task, start, options=normalise(config, start))


def check_plan(plan: TrainingPlan) -> None:
    """Raises UserError for a checkpoint that is missing or of another run, or an impossible model."""
    plan.start.check_exists()
    check_resume(plan.config, plan.start, plan.data)
    if plan.start.checkpoint is not None and not plan.config.model.init_ignore:
        check_tokenizer(plan.start.checkpoint, plan.config.dataset.bert_name)
    with shapes_only():
        plan.task.build_model(pretrained=False)


def preflight(plan: TrainingPlan, force: bool = False) -> None:
    """Raises UserError or MissingDataError for what would fail during training.

    Data that cannot be read or fill no batch, a checkpoint that is missing or does not fit, a loss or model
    that cannot be built, a device that evaluation asks for and is not there, results that evaluation may not
    replace (unless `force`). The splits stay open in `plan.task`.
    """
    config, task = plan.config, plan.task
    check_one_process(config.dataset)
    common = "RANK" in os.environ and needs_common_batches(config.loss)
    processes = int(os.environ["WORLD_SIZE"]) if common else 1
    task.dataset("train").batches(option(config.fairseq, "batch_size"), 1, processes)
    if not option(config.fairseq, "disable_validation"):
        task.dataset("valid")
    check_plan(plan)
    if config.eval.after_training:
        choose_device(config.eval.device)
        check_results(task, force)
    grouped = config.dataset.batch_sampler == "prompt_groups" and config.dataset.clips_per_prompt > 1
    if grouped and not config.loss.label_aware:
        log.warning(
            "dataset.batch_sampler: prompt_groups puts several clips of a prompt into a batch, and the loss "
            "takes each for a negative of the others: set loss.label_aware: true"
        )


_active: list[TrainingPlan] = []


@contextlib.contextmanager
def active(plan: TrainingPlan) -> Iterator[None]:
    """Make `plan` the one that fairseq's task runs: fairseq itself builds its task from text arguments."""
    _active.append(plan)
    try:
        yield
    finally:
        _active.pop()


def active_plan() -> TrainingPlan | None:
    """The plan that training runs; None under plain `fairseq-train`."""
    return _active[-1] if _active else None

"""Checks that read data and shapes, before fairseq is set up and anything is written."""

import logging
import os

from mmpt.config.fairseq_options import option
from mmpt.evaluators.evaluation import check_results
from mmpt.losses import needs_common_batches
from mmpt.models.building import shapes_only
from mmpt.models.loading import check_tokenizer
from mmpt.training.neighbours import check_one_process
from mmpt.training.resume import check_resume
from mmpt.training.run import TrainingPlan
from mmpt.utils.device import choose_device

log = logging.getLogger(__name__)


def check_plan(plan: TrainingPlan) -> None:
    """Raises UserError for a checkpoint that is missing or of another run, or an impossible model."""
    plan.start.check_exists()
    check_resume(plan.config, plan.start, plan.data)
    if plan.start.checkpoint is not None and not plan.config.model.init_ignore:
        check_tokenizer(plan.start.checkpoint, plan.config.dataset.bert_name)
    plan.task.build_loss()
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

"""The task: a training plan's data and model for fairseq, and the log of its epochs."""

import json
import logging
import math
from argparse import ArgumentParser, Namespace
from typing import Any

import torch
from fairseq.logging import metrics
from fairseq.models import BaseFairseqModel, register_model, register_model_architecture
from fairseq.tasks import LegacyFairseqTask, register_task
from fairseq_cli.train import should_stop_early

from mmpt.config.fairseq_options import option
from mmpt.fairseq_plugin.dataset import FairseqMMDataset
from mmpt.fairseq_plugin.reading import Batches
from mmpt.losses import needs_common_batches
from mmpt.models.dual_encoder import DualEncoder
from mmpt.models.finetuning import add_adapters, check_filled
from mmpt.models.loading import load_weights
from mmpt.models.word_rows import train_used_rows
from mmpt.training import TrainingPlan, prepare
from mmpt.training.epoch_log import EpochLog
from mmpt.training.neighbours import EpochBatches
from mmpt.training.non_finite import NonFinite
from mmpt.training.resume import adopt_best, check_resume
from mmpt.training.run import active_plan
from mmpt.training.validation import ValidationRetrieval
from mmpt.utils.checkpoint import fit_position_tables, load_state_dict_file
from mmpt.utils.distributed import world_size

log = logging.getLogger(__name__)


@register_task("mmtask")
class FairseqMMTask(LegacyFairseqTask):
    """Adapter around the plan's mmpt.tasks.Task, which does not know fairseq."""

    uses_ema = True  # fairseq then hands the EMA model to train_step and valid_step

    @staticmethod
    def add_args(parser: ArgumentParser) -> None:
        """The task config and overrides of it."""
        parser.add_argument(
            "taskconfig", metavar="YAML", help="task config, such as projects/signclip/fslex_demo.yaml"
        )
        parser.add_argument(
            "--override",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="override of the config, such as loss.temperature=0.1",
        )

    @classmethod
    def setup_task(cls, args: Namespace, **kwargs: Any) -> "FairseqMMTask":
        """The task of the plan that `signclip train` runs; under plain `fairseq-train`, of the arguments."""
        return cls(args, active_plan() or _plan_of_arguments(args))

    def __init__(self, args: Namespace, plan: TrainingPlan):
        super().__init__(args)
        self.plan = plan
        self.mmtask = plan.task
        self.epoch_batches: EpochBatches | None = None
        if plan.config.dataset.batch_sampler == "neighbours":
            size = option(plan.config.fairseq, "batch_size")
            self.epoch_batches = EpochBatches(plan.task, int(size))
        self.non_finite = NonFinite(plan.config.loss.max_nonfinite)
        self._reading: dict[FairseqMMDataset, Batches] = {}
        plan.at_end.callback(self._end_reading)
        self._epoch = 0
        self._log = EpochLog(plan.folder, option(plan.config.fairseq, "max_epoch", 0))

    def load_dataset(self, split: str, combine: bool = False, **kwargs: Any) -> None:
        """Make the training or validation split available to fairseq."""
        if split not in self.datasets:
            self.datasets[split] = FairseqMMDataset(
                self.mmtask.dataset(split),
                self.mmtask.fixed_padding(),
                needs_common_batches(self.plan.config.loss),
            )

    def get_batch_iterator(
        self,
        dataset: FairseqMMDataset,
        *,
        epoch: int,
        max_sentences: int,
        seed: int,
        num_shards: int,
        shard_id: int,
        num_workers: int,
        data_buffer_size: int,
        skip_remainder_batch: bool,
        grouped_shuffling: bool = False,
        **not_used: Any,
    ) -> Batches:
        """The iterator over the batches that MMDataset draws for an epoch.

        fairseq's options that filter clips or draw batches are not used. The workers of an epoch end with it:
        fairseq's stay until Python's garbage collector finds them, and torch then waits 5 seconds for each.
        The thread that fills the buffer ends them, so there is one wherever there are workers.
        """
        dataset.set_epoch(epoch)
        self._reading[dataset] = Batches(
            dataset,
            dataset.collater,
            dataset.batches(max_sentences),
            seed=seed,
            num_shards=num_shards,
            shard_id=shard_id,
            num_workers=num_workers,
            epoch=epoch,
            buffer_size=max(data_buffer_size, int(num_workers > 0)),
            skip_remainder_batch=skip_remainder_batch,
            grouped_shuffling=grouped_shuffling,
            persistent_workers=False,
        )
        return self._reading[dataset]

    def _end_reading(self) -> None:
        for batches in self._reading.values():
            batches.end()

    def build_mmmodel(self) -> DualEncoder:
        """The towers, with the weights that fine-tuning starts from and, with model.lora_rank, adapters.

        The checkpoint of a run that resumes is loaded by the trainer, into position tables of its size.
        """
        config, start = self.plan.config, self.plan.start
        model = self.mmtask.build_model()
        if start.weights is not None:
            start.check_exists()
            trust, ignore = config.eval.trust_checkpoint, config.model.init_ignore
            check_filled(model, load_weights(model, start.weights, trust=trust, ignore=ignore))
            log.info("starting from the weights in %s", start.weights)
        elif start.own:
            assert start.checkpoint is not None
            fit_position_tables(model, load_state_dict_file(start.checkpoint))
        if config.model.lora_rank:
            add_adapters(model, config.model.lora_rank)
        if self._adam_leaves_unused_rows():
            train_used_rows(model, self.mmtask.dataset("train").token_ids())
        return model

    def _adam_leaves_unused_rows(self) -> bool:
        """Whether the optimizer is a FusedAdam without weight decay: rows without gradients do not change."""
        fairseq = self.plan.config.fairseq
        other = ("fp16", "bf16", "amp", "use_old_adam", "weight_decay", "memory_efficient_fp16")
        return option(fairseq, "optimizer") == "adam" and not any(option(fairseq, name) for name in other)

    def max_positions(self) -> None:
        """No limit: the aligner has cut the clips."""

    @property
    def source_dictionary(self) -> None:
        """None: prompts are tokenized by the text model's tokenizer."""

    @property
    def target_dictionary(self) -> None:
        """None."""

    def train_step(
        self,
        sample: dict[str, Any],
        model: Any,
        criterion: Any,
        optimizer: Any,
        update_num: int,
        ignore_grad: bool = False,
        ema_model: torch.nn.Module | None = None,
    ) -> tuple[torch.Tensor, int, dict[str, Any]]:
        """The loss of a batch, with its gradients added to those of the parameters.

        With loss.cached_chunk, larger batches are embedded that many clips at a time. A batch whose loss or
        gradients are not finite is skipped (see NonFinite).
        """
        chunk = self.mmtask.config.loss.cached_chunk
        plain_step = super().train_step

        def backward(loss: torch.Tensor) -> None:
            optimizer.backward(loss * 0 if ignore_grad else loss)

        def step() -> tuple[torch.Tensor, int, dict[str, Any]]:
            if chunk is None or len(sample["label"]) <= chunk:
                return plain_step(sample, model, criterion, optimizer, update_num, ignore_grad)
            model.train()
            model.set_num_updates(update_num)
            return criterion.cached_step(model, sample, chunk, backward)

        return self.non_finite.step(step, sample, optimizer, update_num)

    def begin_epoch(self, epoch: int, model: torch.nn.Module) -> None:
        """Start the epoch's clock."""
        self._log.begin(epoch)

    def begin_valid_epoch(self, epoch: int, model: torch.nn.Module) -> None:
        """Begin to collect embeddings for the retrieval metrics."""
        self._epoch = epoch
        size = int(self.args.batch_size_valid or self.args.batch_size)
        batches = len(self.datasets["valid"].batches(size))
        kind = self.plan.config.eval.similarity
        self._retrieval = ValidationRetrieval(kind, math.ceil(batches / world_size()))

    def valid_step(
        self,
        sample: dict[str, Any],
        model: torch.nn.Module,
        criterion: Any,
        ema_model: torch.nn.Module | None = None,
    ) -> Any:
        """The loss of a batch. Validation uses the EMA weights where there are some, as evaluation does."""
        result = super().valid_step(sample, model if ema_model is None else ema_model, criterion)
        self._retrieval.add(sample, criterion.last_outputs)
        return result

    def reduce_metrics(self, logging_outputs: list[dict[str, Any]], criterion: Any) -> None:
        """Log the loss, and after the last validation batch the retrieval metrics."""
        criterion.__class__.reduce_metrics(logging_outputs)
        if not criterion.training and self._retrieval.complete:
            for name, value in self._retrieval.metrics().items():
                metrics.log_scalar(name, float(value), round=4)  # numpy numbers are refused in a checkpoint

    def post_validate(self, model: torch.nn.Module, stats: dict[str, Any], agg: Any) -> None:
        """End what reads ahead, of which max_valid_steps leaves a rest, and report the epoch."""
        self._reading[self.datasets["valid"]].end()
        values = {"update": stats["num_updates"], "train_loss": metrics.get_smoothed_value("train", "loss")}
        for name in ("loss", "v2t_R@1", "t2v_P@1"):
            if name in stats:
                values[f"valid_{name}"] = float(stats[name])
        self._log.end(self._epoch, values, saved=self._epoch % self.args.save_interval == 0)

    def get_checkpoint_dict(self) -> dict[str, Any]:
        """The patience counter, which fairseq does not save."""
        names = [name for name in ("best", "num_runs") if hasattr(should_stop_early, name)]
        return {type(self).__name__: {name: getattr(should_stop_early, name) for name in names}}

    def set_checkpoint_dict(self, state: dict[str, Any]) -> None:
        """Restore the patience counter."""
        for name, value in state.items():
            setattr(should_stop_early, name, value)


def _plan_of_arguments(args: Namespace) -> TrainingPlan:
    """The plan of plain `fairseq-train`: the checks of `signclip train` without its lock and signals."""
    log.warning(
        "started by fairseq-train: save_dir is not locked, SIGTERM and Ctrl-C write no checkpoint, and "
        "half-written files of a killed run stay; `signclip train` does all three"
    )
    given = {"fairseq.checkpoint.save_dir": str(args.save_dir), "fairseq.common.seed": args.seed}
    plan = prepare(args.taskconfig, [*args.override, *(f"{k}={json.dumps(v)}" for k, v in given.items())])
    check_resume(plan.config, plan.start, plan.data)
    adopt_best(plan.start)
    return plan


@register_model("mmmodel")
class FairseqMMModel(BaseFairseqModel):
    """The dual encoder as a fairseq model; saved parameter names begin with `mmmodel.`, as in MMPT."""

    mmmodel: DualEncoder

    def __init__(self, mmmodel: DualEncoder):
        super().__init__()
        self.mmmodel = mmmodel

    @classmethod
    def build_model(cls, args: Any, task: Any) -> "FairseqMMModel":
        """The model of the task's config; `args` is not used."""
        return cls(task.build_mmmodel())

    def forward(self, *batch: Any) -> dict[str, torch.Tensor]:
        """See DualEncoder.forward. No other thread uses the model meanwhile."""
        self.mmmodel.exclusive = True
        try:
            return self.mmmodel(*batch)
        finally:
            self.mmmodel.exclusive = False

    def train(self, mode: bool = True) -> "FairseqMMModel":
        """As nn.Module.train, which walks over all modules; fairseq calls it twice in every update."""
        if not mode == self.training == self.mmmodel.training:
            super().train(mode)
        return self

    def set_num_updates(self, num_updates: int) -> None:
        """Do nothing: no module depends on the update. fairseq's method walks over all modules."""


@register_model_architecture("mmmodel", "mmarch")
def mmarch(args: Any) -> None:
    """The one architecture: the task config describes it."""

"""The task: config -> data and model for fairseq; validation retrieval; one line an epoch."""

import logging
import math
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import torch
from fairseq.logging import metrics
from fairseq.tasks import LegacyFairseqTask, register_task

from mmpt.config import load_config
from mmpt.evaluators import rank_metrics, similarity
from mmpt.fairseq_plugin.args import LAST, initial_weights
from mmpt.fairseq_plugin.dataset import FairseqMMDataset
from mmpt.fairseq_plugin.non_finite import NonFinite
from mmpt.losses import needs_common_batches
from mmpt.models.finetuning import check_filled
from mmpt.models.lora import add_adapters
from mmpt.tasks import Task
from mmpt.utils.checkpoint import fit_position_tables, load_into, load_state_dict_file
from mmpt.utils.distributed import gather_objects, world_size

log = logging.getLogger(__name__)


@register_task("mmtask")
class FairseqMMTask(LegacyFairseqTask):
    """Adapter around mmpt.tasks.Task, which knows nothing of fairseq."""

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
            help="override of the config, e.g. loss.temperature=0.1",
        )

    @classmethod
    def setup_task(cls, args: Namespace, **kwargs: Any) -> "FairseqMMTask":
        """The task of a config file and its overrides."""
        return cls(args)

    def __init__(self, args: Namespace):
        super().__init__(args)
        config = load_config(args.taskconfig, args.override)
        self.mmtask = Task(config, seed=args.seed)
        self.save_dir = Path(args.save_dir)
        self._epoch_start = time.monotonic()
        self._pending: list[dict[str, Any]] = []
        self._valid_steps = self._valid_batches = 0
        self.non_finite = NonFinite(config.loss.max_nonfinite)

    def load_dataset(self, split: str, combine: bool = False, **kwargs: Any) -> None:
        """Make the training or validation split available to fairseq."""
        if split not in self.datasets:
            self.datasets[split] = FairseqMMDataset(
                self.mmtask.dataset(split),
                self.mmtask.fixed_padding(),
                needs_common_batches(self.mmtask.config.loss),
            )

    def build_mmmodel(self) -> torch.nn.Module:
        """The towers, with the weights that fine-tuning starts from, unless a run is being resumed; and, with
        model.lora_rank, adapters."""
        config = self.mmtask.config
        model = self.mmtask.build_model()
        start = initial_weights(config.fairseq, self.save_dir)
        if start is not None:
            state = load_state_dict_file(start, trust=config.eval.trust_checkpoint)
            left_out = load_into(model, state, ignore=config.model.init_ignore, where=str(start))
            check_filled(model, left_out)
            log.info("starting from the weights in %s", start)
        elif (self.save_dir / LAST).is_file():
            fit_position_tables(model, load_state_dict_file(self.save_dir / LAST))
        if config.model.lora_rank:
            add_adapters(model, config.model.lora_rank)
        return model

    def max_positions(self) -> None:
        """No limit: the aligner has cut the clips."""

    @property
    def source_dictionary(self) -> None:
        """None: prompts are tokenized by the text model's tokenizer."""

    @property
    def target_dictionary(self) -> None:
        """None."""

    # ---- one line an epoch, with retrieval on the validation split
    def begin_epoch(self, epoch: int, model: torch.nn.Module) -> None:
        """Start the epoch's clock."""
        self._epoch_start = time.monotonic()

    def begin_valid_epoch(self, epoch: int, model: torch.nn.Module) -> None:
        """Forget the embeddings of the last validation."""
        self._epoch = epoch
        self._pending = []
        self._valid_steps = 0
        size = int(self.args.batch_size_valid or self.args.batch_size)
        self._valid_batches = len(self.datasets["valid"].batches(size))

    uses_ema = True  # with fairseq.ema.store_ema, fairseq hands the running mean of the weights to both steps

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
        """A batch's loss and gradients; with loss.cached_chunk, larger batches by that many clips at a time.
        The running mean of the weights does not take part in it.

        A batch whose loss or gradients are not finite changes nothing: see NonFinite.
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

    def valid_step(
        self,
        sample: dict[str, Any],
        model: torch.nn.Module,
        criterion: Any,
        ema_model: torch.nn.Module | None = None,
    ) -> Any:
        """Loss of a batch, and its embeddings, kept until the split is complete.

        Where there is a running mean of the weights, it is that which is judged, since it is what will be
        used.
        """
        model = model if ema_model is None else ema_model
        result = super().valid_step(sample, model, criterion)
        outputs = criterion.last_outputs
        self._pending.append(
            {
                "index": sample["index"].cpu(),
                "label": sample["label"].cpu(),
                "video": outputs["pooled_video"].float().cpu(),
                "text": outputs["pooled_text"].float().cpu(),
            }
        )
        self._valid_steps += 1
        return result

    def reduce_metrics(self, logging_outputs: list[dict[str, Any]], criterion: Any) -> None:
        """Log the loss, and after the last validation batch the retrieval metrics as well."""
        criterion.__class__.reduce_metrics(logging_outputs)
        if not criterion.training and self._valid_steps == math.ceil(self._valid_batches / world_size()):
            v2t, t2v = self._retrieval()
            metrics.log_scalar("v2t_R@1", v2t["R@1"], round=4)
            metrics.log_scalar("t2v_P@1", t2v["P@1"], round=4)

    def _retrieval(self) -> tuple[dict[str, float], dict[str, float]]:
        """V2T and T2V metrics over the whole validation split, from the batches of all processes."""
        rows = {key: torch.cat([part[key] for part in self._pending]) for key in self._pending[0]}
        parts = gather_objects(rows)
        rows = {key: torch.cat([part[key] for part in parts]) for key in rows}
        # shards are filled up with a clip that is there already: each counts once
        first = {int(index): place for place, index in reversed(list(enumerate(rows["index"].tolist())))}
        places = torch.tensor([first[index] for index in sorted(first)])
        labels = rows["label"][places]
        prompt_places = torch.stack(
            [places[(labels == label).nonzero()[0, 0]] for label in range(int(labels.max()) + 1)]
        )
        scores = similarity(
            rows["text"][prompt_places].numpy(),
            rows["video"][places].numpy(),
            self.mmtask.config.eval.similarity,
        )
        ranked = rank_metrics(scores, labels.numpy())
        return ranked["v2t"], ranked["t2v"]

    def post_validate(self, model: torch.nn.Module, stats: dict[str, Any], agg: Any) -> None:
        """Print the epoch's summary line."""
        train_loss = metrics.get_smoothed_value("train", "loss")
        seconds = time.monotonic() - self._epoch_start
        scores = ""
        if "v2t_R@1" in stats:
            scores = f" | valid V2T R@1 {float(stats['v2t_R@1']):.3f} T2V P@1 {float(stats['t2v_P@1']):.3f}"
        losses = f"train loss {train_loss:.4f} | valid loss {float(stats['loss']):.4f}"
        saved = "" if self._epoch % self.args.save_interval == 0 else " | not saved"
        line = f"epoch {self._epoch} | {losses}{scores} | {seconds:.1f} s{saved}"
        logging.getLogger("mmpt.epoch").info(line)

    # ---- what early stopping knows survives an interruption
    def get_checkpoint_dict(self) -> dict[str, Any]:
        """The patience counter, which fairseq itself forgets."""
        from fairseq_cli.train import should_stop_early

        kept = {
            name: getattr(should_stop_early, name)
            for name in ("best", "num_runs")
            if hasattr(should_stop_early, name)
        }
        return {type(self).__name__: kept}

    def set_checkpoint_dict(self, state: dict[str, Any]) -> None:
        """Restore the patience counter."""
        from fairseq_cli.train import should_stop_early

        for name, value in state.items():
            setattr(should_stop_early, name, value)

"""The loss as a fairseq criterion."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.logging import metrics

from mmpt.losses import cached_loss_backward
from mmpt.losses.cached import INPUTS, inputs_of
from mmpt.losses.mixup import draw_mixup
from mmpt.models.prompts import BatchLayout


@register_criterion("mmloss")
class MMCriterion(FairseqCriterion):
    """Embeds a batch with both towers and applies the task's loss.

    fairseq optimises and saves the parameters of a loss (a learnt temperature) along with the model. A batch
    marked `filler` (see FairseqMMDataset.collater) has no loss, and with loss.gather its clips are no
    candidates.
    """

    def __init__(self, task: Any):
        super().__init__(task)
        self.loss = task.mmtask.build_loss()
        self.mixup = task.mmtask.config.loss.mixup
        self.gather = task.mmtask.config.loss.gather

    @classmethod
    def build_criterion(cls, args: Any, task: Any) -> "MMCriterion":
        """The criterion of the task's config."""
        return cls(task)

    def forward(
        self, model: torch.nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[torch.Tensor, int, dict[str, Any]]:
        """The loss, its sample size and what to log.

        The loss is a mean over the batch, so the sample size is 1. Loss and size of a filler are 0.
        """
        inputs, loss_of = self._mixed(sample)
        outputs = model(*inputs_of(inputs))
        video, text = outputs["pooled_video"].float(), outputs["pooled_text"].float()
        loss = loss_of(video, text, sample["label"])
        self.last_outputs = {name: value.detach() for name, value in outputs.items()}
        return _result(loss, sample)

    def cached_step(
        self,
        model: torch.nn.Module,
        sample: dict[str, Any],
        chunk: int,
        backward: Callable[[torch.Tensor], None],
    ) -> tuple[torch.Tensor, int, dict[str, Any]]:
        """What forward returns, after the backward pass, in the memory of `chunk` clips.

        See cached_loss_backward. backward: called with the loss of the whole batch.
        """
        inputs, loss_of = self._mixed(sample)
        columns = {"labels": sample["label"], **{name: inputs[name] for name in INPUTS}}
        layout: BatchLayout | None = sample.get("layout")
        parts = [
            {name: values[start : start + chunk] for name, values in columns.items()}
            | {"layout": None if layout is None else layout.part(start, start + chunk)}
            for start in range(0, len(sample["label"]), chunk)
        ]
        value = cached_loss_backward(model, loss_of, parts, backward)
        loss = torch.tensor(value, device=sample["label"].device)
        return _result(loss, sample)

    def _mixed(self, sample: dict[str, Any]) -> tuple[dict[str, Any], Callable[..., torch.Tensor]]:
        """The model's input and the loss function; with loss.mixup, of mixed clips."""
        loss = self._filler_loss if sample.get("filler") else self.loss
        if not (self.training and self.mixup):
            return sample, loss
        mixup = draw_mixup(len(sample["label"]), self.mixup, sample["vfeats"].device)
        layout: BatchLayout | None = sample.get("layout")
        frames = None if layout is None else layout.frames
        mixed = {**sample, "vfeats": mixup.clips(sample["vfeats"], sample["vmasks"], frames)}
        return mixed, partial(mixup.loss, loss)

    def _filler_loss(self, video: torch.Tensor, text: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """0, with gradients of 0.

        With loss.gather it still takes part in the collective operations that the other processes wait for.
        """
        rows = 0 if self.gather else len(video)
        return self.loss(video[:rows], text[:rows], labels[:rows]) * 0

    @staticmethod
    def reduce_metrics(logging_outputs: list[dict[str, Any]]) -> None:
        """Log the mean loss of a batch."""
        batches = sum(log.get("sample_size", 0) for log in logging_outputs)
        total = sum(float(log.get("loss", 0.0)) for log in logging_outputs)
        metrics.log_scalar("loss", total / max(batches, 1), batches, round=4)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """True: every entry is a number."""
        return True


def _result(loss: torch.Tensor, sample: dict[str, Any]) -> tuple[torch.Tensor, int, dict[str, Any]]:
    size = 0 if sample.get("filler") else 1
    layout: BatchLayout | None = sample.get("layout")
    logged = {
        "loss": loss.detach(),
        "nsentences": size * len(sample["label"]),
        "ntokens": size * (int(sample["vmasks"].sum()) if layout is None else sum(layout.frames)),
        "sample_size": size,
    }
    return loss, size, logged

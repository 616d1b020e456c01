"""The loss as a fairseq criterion."""

from typing import Any

import torch
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.logging import metrics

from mmpt.losses.mixup import draw_mixup


@register_criterion("mmloss")
class MMCriterion(FairseqCriterion):
    """Embeds a batch with both towers and applies the task's loss.

    A loss with parameters (a learnt temperature) is optimised and saved by fairseq along with the model.
    """

    def __init__(self, task: Any):
        super().__init__(task)
        self.loss = task.mmtask.build_loss()
        self.mixup = task.mmtask.config.loss.mixup

    @classmethod
    def build_criterion(cls, args: Any, task: Any) -> "MMCriterion":
        """The criterion of the task's config."""
        return cls(task)

    def forward(
        self, model: torch.nn.Module, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[torch.Tensor, int, dict[str, Any]]:
        """Loss (a mean over the batch, so its sample size is 1), 1, and what to log."""
        clips = len(sample["label"])
        vfeats = sample["vfeats"]
        mixup = draw_mixup(clips, self.mixup) if self.training and self.mixup else None
        if mixup is not None:
            vfeats = mixup.clips(vfeats, sample["vmasks"])
        outputs = model(vfeats, sample["vmasks"], sample["caps"], sample["cmasks"])
        video, text = outputs["pooled_video"].float(), outputs["pooled_text"].float()
        if mixup is not None:
            loss = mixup.loss(self.loss, video, text, sample["label"])
        else:
            loss = self.loss(video, text, labels=sample["label"])
        logging_output = {
            "loss": loss.detach(),
            "nsentences": clips,
            "ntokens": int(sample["vmasks"].sum()),
            "sample_size": 1,
        }
        self.last_outputs = {name: value.detach() for name, value in outputs.items()}
        return loss, 1, logging_output

    @staticmethod
    def reduce_metrics(logging_outputs: list[dict[str, Any]]) -> None:
        """Log the mean loss of a batch."""
        batches = sum(log.get("sample_size", 0) for log in logging_outputs)
        total = sum(float(log.get("loss", 0.0)) for log in logging_outputs)
        metrics.log_scalar("loss", total / max(batches, 1), batches, round=4)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """Yes: every entry is a number."""
        return True

"""Batches whose loss or gradients are not finite: left out and reported, up to a limit."""

import logging
from typing import Any

import torch

from mmpt.utils.errors import UserError

log = logging.getLogger(__name__)

_NAMED = 8


class NonFinite:
    """Counts such batches; more than `limit` of them end the run with a UserError that names the clips."""

    def __init__(self, limit: int):
        self.limit = limit
        self.count = 0

    def check(
        self,
        result: tuple[torch.Tensor, int, dict[str, Any]],
        sample: dict[str, Any],
        optimizer: Any,
        update: int,
    ) -> tuple[torch.Tensor, int, dict[str, Any]]:
        """What a training step returned (loss, sample size, what to log), or, where its loss or a gradient is
        not finite, the same with no gradients and no weight in the epoch's mean.
        """
        loss, size, logged = result
        what = None if bool(torch.isfinite(loss.detach())) else f"loss {float(loss.detach())}"
        if what is None and not _finite_gradients(optimizer):
            what = "gradients that are not finite"
        if what is None:
            return result
        self.count += 1
        ids = sample["video_id"]
        clips = ", ".join(ids[:_NAMED]) + (f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else "")
        message = f"update {update}: {what} in the batch of {clips}"
        if self.count > self.limit:
            raise UserError(
                f"{message}; {self.limit} such batches were left out before (loss.max_nonfinite). Look at "
                "these clips, lower fairseq.optimization.lr, or set clip_norm."
            )
        log.warning("%s: left out", message)
        optimizer.zero_grad()
        return (
            torch.zeros_like(loss),
            0 * size,
            {**logged, "loss": torch.zeros_like(logged["loss"]), "sample_size": 0},
        )


def _finite_gradients(optimizer: Any) -> bool:
    gradients = [parameter.grad for parameter in optimizer.params if parameter.grad is not None]
    return not gradients or bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients)))

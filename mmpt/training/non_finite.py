"""Batches whose loss or gradients are not finite: skipped and reported, up to a limit."""

import logging
import math
from collections.abc import Callable
from typing import Any

import torch

from mmpt.utils.distributed import world_size
from mmpt.utils.errors import UserError
from mmpt.utils.logging import some_of

Result = tuple[torch.Tensor, int, dict[str, Any]]
"""What a training step returns: loss, sample size, what to log."""

log = logging.getLogger(__name__)


class NonFinite:
    """Counts such batches; more than `limit` of them end the run with a UserError that names the clips.

    Attributes:
        norm: the norm of the parameters' gradients as they are, if `step` left them as the last batch made
            them; otherwise None.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.count = 0
        self.norm: float | None = None

    def step(self, step: Callable[[], Result], sample: dict[str, Any], optimizer: Any, update: int) -> Result:
        """Run `step`, which adds the gradients of a batch to those of the parameters, and return its result.

        If its loss or a gradient is not finite, the result has no weight in the epoch's mean, and the
        gradients of earlier batches of the same update (gradient accumulation) stay as they were. With
        several processes these are lost as well, since gradients are averaged over the processes.
        """
        earlier = _take_gradients(optimizer) if world_size() == 1 else {}
        result = self._check(step(), sample, optimizer, update)
        for parameter, gradient in earlier.items():
            self.norm = None
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        return result

    def _check(self, result: Result, sample: dict[str, Any], optimizer: Any, update: int) -> Result:
        loss, size, logged = result
        value, norm = _loss_and_norm(loss, optimizer)
        if math.isfinite(value) and math.isfinite(norm):
            self.norm = norm
            return loss, size, {**logged, "loss": _on_cpu(value, logged)}
        self.norm = None
        what = f"loss {value}" if not math.isfinite(value) else "gradients that are not finite"
        self.count += 1
        message = f"update {update}: {what} in the batch of {some_of(sample['video_id'])}"
        if self.count > self.limit:
            raise UserError(
                f"{message}; {self.limit} such batches were skipped before (loss.max_nonfinite). Look at "
                "these clips, lower fairseq.optimization.lr, or set clip_norm."
            )
        log.warning("%s: skipped", message)
        optimizer.zero_grad()
        no_loss = {**logged, "loss": _on_cpu(0.0, logged), "sample_size": 0}
        return torch.zeros_like(loss), 0 * size, no_loss


def _on_cpu(value: float, logged: dict[str, Any]) -> torch.Tensor:
    """A loss for the log, on the CPU, which then does not wait for it again.

    Of every process: fairseq sums what is logged over the processes, first what is on the CPU, then the rest.
    """
    return torch.tensor(value, dtype=logged["loss"].dtype)


def _take_gradients(optimizer: Any) -> dict[torch.nn.Parameter, torch.Tensor]:
    """The gradients of the parameters, which are left without."""
    found = {parameter: parameter.grad for parameter in optimizer.params if parameter.grad is not None}
    for parameter in found:
        parameter.grad = None
    return found


def _loss_and_norm(loss: torch.Tensor, optimizer: Any) -> tuple[float, float]:
    """The loss and the norm of all gradients, with one synchronisation on a GPU."""
    gradients = [parameter.grad for parameter in optimizer.params if parameter.grad is not None]
    loss = loss.detach().reshape(())
    norm = torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros_like(loss)
    kind = torch.promote_types(loss.dtype, norm.dtype)
    value, total = torch.stack([loss.to(kind), norm.to(loss.device, kind)]).tolist()
    return value, total

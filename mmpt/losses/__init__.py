"""Training objectives: clips [B, H], their prompts [B, H] and optional labels [B] -> a scalar."""

import dataclasses
import inspect

import torch
from torch import Tensor, nn

from mmpt.config.schema import LossConfig
from mmpt.losses.cached import cached_loss_backward
from mmpt.losses.contrastive import LOSSES, needs_common_batches
from mmpt.losses.mm_contra import MMContraLoss
from mmpt.losses.sigmoid import MMSigmoidLoss
from mmpt.utils.errors import UserError

__all__ = [
    "LOSSES",
    "EnsembleLoss",
    "MMContraLoss",
    "MMSigmoidLoss",
    "build_loss",
    "cached_loss_backward",
    "needs_common_batches",
]


_OF_EVERY_LOSS = ("loss_cls", "mixup", "max_nonfinite", "cached_chunk")
"""Keys of the section `loss` that work with every loss and are not passed to it."""


def build_loss(loss_cfg: LossConfig, ensemble_size: int = 1) -> nn.Module:
    """The loss of the config section `loss`, for an ensemble of that size.

    A loss supports the options that are parameters of its constructor. Raises UserError for an unknown
    loss.loss_cls, and for an unsupported option that is not at its default.
    """
    made = LOSSES.get(loss_cfg.loss_cls, "loss.loss_cls")
    supported = inspect.signature(made).parameters
    options, unsupported = {}, {}
    for field in dataclasses.fields(loss_cfg):
        value = getattr(loss_cfg, field.name)
        if field.name in supported:
            options[field.name] = value
        elif field.name not in _OF_EVERY_LOSS and value != field.default:
            unsupported[field.name] = (value, field.default)
    if unsupported:
        given = ", ".join(f"loss.{name} is {value}" for name, (value, _) in unsupported.items())
        defaults = ", ".join(f"loss.{name}={default}" for name, (_, default) in unsupported.items())
        raise UserError(
            f"{given}, which {loss_cfg.loss_cls} does not support: leave the default: {defaults}."
        )
    loss = made(**options)
    return loss if ensemble_size == 1 else EnsembleLoss(loss, ensemble_size)


class EnsembleLoss(nn.Module):
    """Mean of a loss over the ensemble's models, each on its part of the embeddings.

    The models share the parameters of the loss. A loss with `takes_ensemble`, which accepts [M, B, H],
    computes all of them in one call. With `gather`, or in one thread on a CPU, they are computed one after
    the other.

    Args:
        loss: the loss of one model, for clips [B, H] and prompts [B, H].
        ensemble_size: number of models.
    """

    def __init__(self, loss: nn.Module, ensemble_size: int):
        super().__init__()
        self.loss = loss
        self.ensemble_size = ensemble_size
        self.at_once = getattr(loss, "takes_ensemble", False) and not getattr(loss, "gather", False)

    def forward(self, pooled_video: Tensor, pooled_text: Tensor, labels: Tensor | None = None) -> Tensor:
        """The loss, a scalar, of clips and their prompts, both [B, ensemble_size * H]."""
        size = self.ensemble_size
        sides = [side.unflatten(-1, (size, -1)).transpose(0, 1) for side in (pooled_video, pooled_text)]
        if self.at_once and (torch.get_num_threads() > 1 or pooled_video.device.type != "cpu"):
            return self.loss(*sides, labels)
        return torch.stack([self.loss(video, text, labels) for video, text in zip(*sides)]).mean()

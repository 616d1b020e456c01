"""Training objectives: clips [B, H], their prompts [B, H] and optional labels [B] -> a scalar."""

from typing import Any

from torch import nn

from mmpt.losses.cached import cached_loss_backward
from mmpt.losses.contrastive import needs_common_batches
from mmpt.losses.ensemble import EnsembleLoss
from mmpt.losses.mm_contra import MMContraLoss
from mmpt.losses.registry import LOSSES
from mmpt.losses.sigmoid import MMSigmoidLoss

__all__ = [
    "LOSSES",
    "EnsembleLoss",
    "MMContraLoss",
    "MMSigmoidLoss",
    "build_loss",
    "cached_loss_backward",
    "needs_common_batches",
]


def build_loss(loss_cfg: Any, ensemble_size: int = 1) -> nn.Module:
    """The loss of the config section `loss`, for an ensemble of that size.

    Raises UserError for an unknown loss.loss_cls and for unsupported options.
    """
    loss = LOSSES.get(loss_cfg.loss_cls, "loss.loss_cls").from_config(loss_cfg)
    return loss if ensemble_size == 1 else EnsembleLoss(loss, ensemble_size)

"""Training objectives: clips [B, H], their prompts [B, H] and optional labels [B] in, a scalar out."""

from typing import Any

from torch import nn

from mmpt.losses.cached import cached_loss_backward
from mmpt.losses.contrastive import needs_common_batches
from mmpt.losses.members import MembersLoss
from mmpt.losses.mm_contra import MMContraLoss
from mmpt.losses.registries import LOSSES
from mmpt.losses.sigmoid import MMSigmoidLoss

__all__ = [
    "LOSSES",
    "MMContraLoss",
    "MMSigmoidLoss",
    "MembersLoss",
    "build_loss",
    "cached_loss_backward",
    "needs_common_batches",
]


def build_loss(loss_cfg: Any, members: int = 1) -> nn.Module:
    """The loss called `loss_cfg.loss_cls`, built from the config section `loss`, for a model of so many
    members (model.members). Raises UserError."""
    loss = LOSSES.get(loss_cfg.loss_cls, "loss.loss_cls").from_config(loss_cfg)
    return loss if members == 1 else MembersLoss(loss, members)

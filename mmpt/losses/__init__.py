"""Training objectives. Each takes clips [B, H], prompts [B, H] and optional labels [B], and returns a
scalar."""

from typing import Any

from torch import nn

from mmpt.losses.mm_contra import MMContraLoss
from mmpt.losses.registries import LOSSES

__all__ = ["LOSSES", "MMContraLoss", "build_loss"]


def build_loss(loss_cfg: Any) -> nn.Module:
    """The loss called `loss_cfg.loss_cls`, built from the config section `loss`. Raises UserError."""
    return LOSSES.get(loss_cfg.loss_cls, "loss.loss_cls").from_config(loss_cfg)

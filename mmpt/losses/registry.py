"""The registry of losses."""

from torch import nn

from mmpt.registry import Registry

LOSSES: Registry[type[nn.Module]] = Registry("loss")
"""loss.loss_cls -> a loss, whose constructor takes the options that it supports (see build_loss)."""

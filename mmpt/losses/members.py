"""The loss of an ensemble whose members' embeddings stand side by side (model.members)."""

import torch
from torch import Tensor, nn


class MembersLoss(nn.Module):
    """A loss for each member in its own space, and their mean. The members share the loss's parameters.

    Args:
        loss: of one member, clips [B, H] and prompts [B, H].
        members: how many.
    """

    def __init__(self, loss: nn.Module, members: int):
        super().__init__()
        self.loss = loss
        self.members = members

    def forward(self, pooled_video: Tensor, pooled_text: Tensor, labels: Tensor | None = None) -> Tensor:
        """A scalar, of clips [B, members * H] and their prompts [B, members * H]."""
        sides = (side.chunk(self.members, dim=-1) for side in (pooled_video, pooled_text))
        return torch.stack([self.loss(video, text, labels) for video, text in zip(*sides)]).mean()

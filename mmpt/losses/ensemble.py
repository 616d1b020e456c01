"""The loss of an ensemble (model.ensemble_size)."""

import torch
from torch import Tensor, nn


class EnsembleLoss(nn.Module):
    """Mean of a loss over the ensemble's models, each on its part of the embeddings.

    The models share the parameters of the loss.

    Args:
        loss: the loss of one model, for clips [B, H] and prompts [B, H].
        ensemble_size: number of models.
    """

    def __init__(self, loss: nn.Module, ensemble_size: int):
        super().__init__()
        self.loss = loss
        self.ensemble_size = ensemble_size

    def forward(self, pooled_video: Tensor, pooled_text: Tensor, labels: Tensor | None = None) -> Tensor:
        """The loss, a scalar, of clips and their prompts, both [B, ensemble_size * H]."""
        sides = (side.chunk(self.ensemble_size, dim=-1) for side in (pooled_video, pooled_text))
        return torch.stack([self.loss(video, text, labels) for video, text in zip(*sides)]).mean()

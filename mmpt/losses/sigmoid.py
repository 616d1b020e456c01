"""Sigmoid loss: binary classification of every clip-prompt pair of the batch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmpt.losses.contrastive import LOSSES, LogitScale, check_similarity, reshape_scalars, similarity_block
from mmpt.utils.errors import UserError


@LOSSES.register("MMSigmoidLoss")
class MMSigmoidLoss(nn.Module):
    """SigLIP's loss (Zhai et al. 2023, https://arxiv.org/abs/2303.15343).

    -log sigmoid(z (logit scale * similarity + bias)) with z = 1 for pairs and -1 for the others, summed over
    all N x N and divided by N. The bias is learnt and starts at -10, as in the paper, so that the many
    negatives do not dominate the first steps.

    Args:
        similarity: "cosine" (the paper) or "dot".
        temperature: similarities are divided by it. The paper starts from 0.1.
        learnable_temperature: learn it, starting from `temperature`.
        max_logit_scale: bound of the learnt 1 / temperature.
        label_aware: pairs with the same label count as pairs.
        gather: compare with the batches of all processes, as in MMContraLoss.
        bias: the starting bias.
    """

    takes_ensemble = True

    def __init__(
        self,
        similarity: str = "cosine",
        temperature: float = 0.1,
        learnable_temperature: bool = False,
        max_logit_scale: float = 100.0,
        label_aware: bool = False,
        gather: bool = False,
        bias: float = -10.0,
    ):
        super().__init__()
        check_similarity(similarity)
        if not math.isfinite(bias):
            raise UserError(f"the starting bias of the sigmoid loss is {bias}; expected a finite number.")
        self.similarity = similarity
        self.label_aware = label_aware
        self.gather = gather
        self.logit_scale = LogitScale(temperature, learnable_temperature, max_logit_scale)
        self.bias = nn.Parameter(torch.tensor([float(bias)]))
        self.register_load_state_dict_pre_hook(reshape_scalars)

    def forward(self, pooled_video: Tensor, pooled_text: Tensor, labels: Tensor | None = None) -> Tensor:
        """The loss, a scalar, of clips [B, H] and their prompts [B, H]; of [M, B, H], the mean over M models.

        labels int64 [B]: equal labels mark equal prompts; [B, K]: see contrastive.describes.
        """
        if self.label_aware and labels is None:
            raise UserError("loss.label_aware needs labels: the batch has none.")
        used = labels if self.label_aware else None
        block = similarity_block(pooled_video, pooled_text, used, self.similarity, self.gather)
        logits = block.video_to_text * self.logit_scale() + self.bias
        if block.positives is None:
            pairs = F.one_hot(block.targets, logits.shape[-1]).bool()
        else:
            pairs = block.positives[0]
        sign = torch.where(pairs, 1.0, -1.0)
        return -F.logsigmoid(sign * logits).sum() * block.share

"""InfoNCE in both directions: VideoCLIP's MMContraLoss, with newer variants as options."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from mmpt.losses.contrastive import LOSSES, LogitScale, check_similarity, similarity_block
from mmpt.utils.errors import UserError


@LOSSES.register("MMContraLoss")
class MMContraLoss(nn.Module):
    """InfoNCE: cross-entropy of clips over prompts plus that of prompts over clips, each a batch mean.

    The defaults are VideoCLIP's (https://arxiv.org/abs/2109.14084): raw dot products, no temperature, and the
    sum, not the mean, of the two directions.

    Args:
        similarity: "dot" or "cosine".
        temperature: logits are divided by it.
        learnable_temperature: learn it, starting from `temperature`.
        max_logit_scale: bound of the learnt 1 / temperature.
        label_smoothing: share of the target that is spread evenly over all candidates.
        label_aware: pairs with the same label are positives of each other: the target is spread evenly over
            all of them (SupCon, https://arxiv.org/abs/2004.11362, its L_out, without the self-comparison that
            two towers lack).
        gather: compare with the batches of all processes. Each process then returns the part of its rows; the
            mean over processes is the loss of the global batch (see all_gather_with_grad).
    """

    takes_ensemble = True

    def __init__(
        self,
        similarity: str = "dot",
        temperature: float = 1.0,
        learnable_temperature: bool = False,
        max_logit_scale: float = 100.0,
        label_smoothing: float = 0.0,
        label_aware: bool = False,
        gather: bool = False,
    ):
        super().__init__()
        check_similarity(similarity)
        if not 0 <= label_smoothing < 1:
            raise UserError(
                f"loss.label_smoothing is {label_smoothing}; expected a number from 0 to below 1."
            )
        self.similarity = similarity
        self.label_smoothing = label_smoothing
        self.label_aware = label_aware
        self.gather = gather
        self.logit_scale = LogitScale(temperature, learnable_temperature, max_logit_scale)

    def forward(self, pooled_video: Tensor, pooled_text: Tensor, labels: Tensor | None = None) -> Tensor:
        """The loss, a scalar, of clips [B, H] and their prompts [B, H]; of [M, B, H], the mean over M models.

        labels int64 [B]: equal labels mark equal prompts; [B, K]: see contrastive.describes.
        """
        if self.label_aware and labels is None:
            raise UserError("loss.label_aware needs labels: the batch has none.")
        used = labels if self.label_aware else None
        block = similarity_block(pooled_video, pooled_text, used, self.similarity, self.gather)
        scale = self.logit_scale()
        loss = block.video_to_text.new_zeros(())
        for direction, logits in enumerate((block.video_to_text, block.text_to_video)):
            target = block.targets
            if block.positives is not None:
                target = block.positives[direction].to(logits.dtype)
                target = target / target.sum(1, keepdim=True)
            models = math.prod(logits.shape[:-2])
            loss = loss + F.cross_entropy(
                (logits * scale).flatten(0, -2),
                target.repeat(models, *[1] * (target.ndim - 1)),
                label_smoothing=self.label_smoothing,
                reduction="sum",
            )
        return loss * block.share

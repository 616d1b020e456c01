"""Mixup of clips (https://arxiv.org/abs/1710.09412), for any contrastive loss."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmpt.utils.errors import UserError


@dataclass(frozen=True)
class Mixup:
    """How the clips of one batch were mixed: clip i is `share` of itself and the rest of clip `order[i]`."""

    order: Tensor
    share: float

    def clips(self, vfeats: Tensor, vmasks: Tensor) -> Tensor:
        """Mixed clips [B, T, D] of clips [B, T, D] that all have the same number of frames, in `vmasks` [B,
        T].

        Raises UserError where they have not: the end of a longer clip would be mixed with nothing.
        """
        if not bool((vmasks == vmasks[:1]).all()):
            raise UserError(
                "loss.mixup mixes clips frame by frame, but the clips of a batch differ in length: set "
                "dataset.clip_frames, and change no clip's length after it."
            )
        return self.share * vfeats + (1 - self.share) * vfeats[self.order]

    def loss(
        self, criterion: Callable[..., Tensor], video: Tensor, text: Tensor, labels: Tensor | None
    ) -> Tensor:
        """The loss of mixed clips' embeddings [B, H] against prompts [B, H]: each clip belongs to its own
        prompt by `share`, and by the rest to the prompt of the clip that was mixed in.
        """
        other = None if labels is None else labels[self.order]
        own = criterion(video, text, labels=labels)
        return self.share * own + (1 - self.share) * criterion(video, text[self.order], labels=other)


def draw_mixup(clips: int, alpha: float) -> Mixup:
    """A random pairing of `clips` clips and a share from Beta(alpha, alpha), at least one half.

    From torch's random numbers, which fairseq sets anew from the seed and the number of each update.
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    return Mixup(torch.randperm(clips), max(share, 1 - share))

"""Mixup of clips (https://arxiv.org/abs/1710.09412), for any contrastive loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmpt.utils.device import put
from mmpt.utils.errors import UserError


@dataclass(frozen=True)
class Mixup:
    """Mixes the clips of a batch: `share` of clip i plus 1 - `share` of clip `order[i]`."""

    order: Tensor
    share: float

    def clips(self, vfeats: Tensor, vmasks: Tensor, frames: Sequence[int] | None = None) -> Tensor:
        """Clips [B, T, D] with masks [B, T], all of the same length -> mixed clips [B, T, D].

        frames: of each clip, if they are known. Raises UserError if the lengths differ.
        """
        equal = bool((vmasks == vmasks[:1]).all()) if frames is None else len(set(frames)) == 1
        if not equal:
            raise UserError(
                "loss.mixup mixes clips frame by frame, but the clips of a batch differ in length: set "
                "dataset.clip_frames, and no augmentation that changes the length."
            )
        return self.share * vfeats + (1 - self.share) * vfeats[self.order]

    def loss(
        self, criterion: Callable[..., Tensor], video: Tensor, text: Tensor, labels: Tensor | None
    ) -> Tensor:
        """The loss of mixed clips' embeddings [B, H] against prompts [B, H].

        The targets are mixed like the clips: `share` of the own prompt, the rest of the other clip's prompt.
        """
        other = None if labels is None else labels[self.order]
        own = criterion(video, text, labels=labels)
        return self.share * own + (1 - self.share) * criterion(video, text[self.order], labels=other)


def draw_mixup(clips: int, alpha: float, device: torch.device | None = None) -> Mixup:
    """A random pairing of `clips` clips, on a device, and a share from Beta(alpha, alpha), at least one half.

    Uses torch's RNG, which fairseq reseeds at each update from the seed and the update number.
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    return Mixup(put(torch.randperm(clips), device or torch.device("cpu")), max(share, 1 - share))

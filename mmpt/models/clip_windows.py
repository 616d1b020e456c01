"""Clips longer than the tower: overlapping windows, whose vectors are pooled into one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mmpt.config.schema import DatasetConfig, ModelConfig
from mmpt.models.pooling import POOLINGS
from mmpt.utils.errors import UserError

_AT_ONCE = 64
"""Windows that are embedded at once without gradients; bounds the memory of an hour-long clip."""


@dataclass(frozen=True)
class WindowOptions:
    """How a clip of more than `length` frames is divided.

    The windows start every `step` frames; the last one ends at the last frame of the clip, so that every
    frame is in a window. pooling: mean, or attention (a learnt score for each window).
    """

    length: int
    step: int
    pooling: str = "mean"

    @classmethod
    def of(cls, model_cfg: ModelConfig, dataset_cfg: DatasetConfig) -> "WindowOptions | None":
        """The options of a config; None unless dataset.long_video is windows. Raises UserError."""
        length, step = dataset_cfg.max_video_len, dataset_cfg.window_step
        if dataset_cfg.long_video != "windows":
            for name, given in (
                ("dataset.window_step", step),
                ("model.window_pooling", model_cfg.window_pooling),
            ):
                if given not in (None, "mean"):
                    raise UserError(
                        f"{name} is {given}, which has no effect with dataset.long_video: "
                        f"{dataset_cfg.long_video}: set that to windows, or leave it out."
                    )
            return None
        if step is not None and step > length:
            raise UserError(
                f"dataset.window_step is {step}, but a window has {length} frames (dataset.max_video_len): "
                f"expected at most {length}, so that no frame is left out."
            )
        return cls(length, step or max(1, length // 2), model_cfg.window_pooling)

    def counts(self, frames: np.ndarray) -> np.ndarray:
        """Windows of clips of int64 [N] frames."""
        return 1 + -(-np.maximum(frames - self.length, 0) // self.step)

    def of_clips(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The windows of clips of int64 [B] frames: int64 [W] the clip of each, int64 [W] its first frame."""
        last = (frames - self.length).clamp(min=0)
        counts = 1 + (last + self.step - 1) // self.step
        clips = torch.arange(len(frames), device=frames.device).repeat_interleave(counts)
        number = torch.arange(len(clips), device=frames.device) - (counts.cumsum(0) - counts)[clips]
        return clips, torch.minimum(number * self.step, last[clips])


class ClipWindows(nn.Module):
    """Pools the vectors of a clip's windows. `pooling` has parameters with WindowOptions.pooling attention.

    width: of the vectors, which are those of the tower, before the projection: with l2_norm the pooled vector
    has unit length too.
    """

    def __init__(self, options: WindowOptions, width: int):
        super().__init__()
        self.options = options
        self.pooling = POOLINGS.get(options.pooling, "model.window_pooling")(width)

    def forward(
        self,
        embed: Callable[[Tensor, Tensor, Sequence[int] | None], Tensor],
        vfeats: Tensor,
        vmasks: Tensor,
        frames: Sequence[int] | None = None,
    ) -> Tensor:
        """embed(vfeats, vmasks, frames) [..., B, H] for clips of any length.

        A clip of at most options.length frames has one window: itself. frames: of each clip, if they are
        known.
        """
        longest = self.options.length
        if vfeats.shape[1] <= longest:
            # they are pooled too: distributed training stops at a parameter without a gradient
            clips, vectors = torch.arange(len(vfeats), device=vmasks.device), embed(vfeats, vmasks, frames)
        else:
            index = torch.arange(1, vmasks.shape[1] + 1, device=vmasks.device)
            clips, first = self.options.of_clips((vmasks.bool() * index).amax(1))
            at_once = max(1, len(clips)) if torch.is_grad_enabled() else _AT_ONCE
            parts = zip(clips.split(at_once), first.split(at_once))
            vectors = torch.cat([embed(*_cut(vfeats, vmasks, *part, longest), None) for part in parts], -2)
        pooled: Tensor = self.pooling(vectors, clips, torch.ones_like(clips, dtype=torch.bool), len(vfeats))
        return pooled


def _cut(vfeats: Tensor, vmasks: Tensor, clips: Tensor, first: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Windows of `length` frames, padded behind the end of the batch: [W, length, D] and [W, length]."""
    frames = first[:, None] + torch.arange(length, device=first.device)
    inside = frames < vfeats.shape[1]
    frames = frames.clamp(max=vfeats.shape[1] - 1)
    return vfeats[clips[:, None], frames], vmasks[clips[:, None], frames].bool() & inside

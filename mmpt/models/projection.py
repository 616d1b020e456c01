"""Pooling and projections that map both towers into one space."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mmpt.models.bert import init_weights
from mmpt.models.bert_settings import BertSettings
from mmpt.models.clip_windows import ClipWindows, WindowOptions
from mmpt.models.layers import Linear
from mmpt.models.pooling import POOLINGS
from mmpt.utils.errors import UserError


class Projection(nn.Module):
    """SignCLIP's multimodal_projection: a linear map without bias, with `l2_norm` to unit length."""

    def __init__(self, width: int, out_width: int, l2_norm: bool, init_std: float):
        super().__init__()
        self.linear = Linear(width, out_width, bias=False)
        self.l2_norm = l2_norm
        init_weights(self.linear, init_std)

    def forward(self, pooled: Tensor) -> Tensor:
        """[B, width] -> [B, out_width]."""
        projected = self.linear(pooled)
        return F.normalize(projected, dim=-1) if self.l2_norm else projected


class Space(nn.Module):
    """A video tower with the pooling and projections into one space, as wide as the text model.

    Args:
        video_encoder: the tower (MMBertForEncoder, or one that offers the same).
        text: sizes of the text model.
        projection: False (the towers must have the same width), True (a linear map after each tower) or
            "l2_norm" (the same, then unit length).
        pooling: frames -> one vector: mean, max or attention.
        windows: how clips longer than the tower are divided; None: the tower gets them whole.
    """

    def __init__(
        self,
        video_encoder: Any,
        text: BertSettings,
        projection: bool | str,
        pooling: str,
        windows: WindowOptions | None = None,
    ):
        super().__init__()
        video_width = video_encoder.bert.settings.hidden_size
        self.video_encoder = video_encoder
        self.video_pooling = POOLINGS.get(pooling, "model.pooling")(video_width)
        self.clip_windows = None if windows is None else ClipWindows(windows, video_width)
        l2_norm = _wants_l2_norm(projection)
        self.video_projection: nn.Module = nn.Identity()
        self.text_projection: nn.Module = nn.Identity()
        if projection:
            width, init_std = text.hidden_size, text.initializer_range
            self.video_projection = Projection(video_width, width, l2_norm, init_std)
            self.text_projection = Projection(width, width, l2_norm, init_std)
        elif video_width != text.hidden_size:
            raise UserError(
                f"the video tower has width {video_width} (model.video_hidden_size) and the text tower "
                f"{text.hidden_size}: set model.multimodal_projection: true to project them to one width."
            )

    def forward(self, vfeats: Tensor, vmasks: Tensor, frames: Sequence[int] | None = None) -> Tensor:
        """See embed_clips."""
        return embed_clips(self, vfeats, vmasks, frames)


def embed_clips(space: Any, vfeats: Tensor, vmasks: Tensor, frames: Sequence[int] | None = None) -> Tensor:
    """Clips float [B, T, vfeat_dim] with masks bool [B, T] -> [B, H].

    space: a Space, or a model with the attributes of one. frames: of each clip, if they are known.
    """
    return space.video_projection(pool_clips(space, space.video_encoder, vfeats, vmasks, frames))


def pool_clips(
    space: Any, tower: Any, vfeats: Tensor, vmasks: Tensor, frames: Sequence[int] | None = None
) -> Tensor:
    """As embed_clips, without the projection: pooled vectors of the tower, [B, H]."""

    def embed(vfeats: Tensor, vmasks: Tensor, frames: Sequence[int] | None) -> Tensor:
        known = [] if frames is None else [frames]
        hidden, packing, counted = tower.encode(vfeats, vmasks, *known)
        pooled: Tensor = space.video_pooling(hidden, packing.sequences, counted, packing.batch)
        return pooled

    windows: ClipWindows | None = space.clip_windows
    return embed(vfeats, vmasks, frames) if windows is None else windows(embed, vfeats, vmasks, frames)


def _wants_l2_norm(projection: bool | str) -> bool:
    if projection not in (False, True, "l2_norm"):
        raise UserError(f"model.multimodal_projection is {projection!r}; expected false, true or 'l2_norm'.")
    return projection == "l2_norm"

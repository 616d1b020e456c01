"""Dual encoders embed clips and prompts separately in one space: interface, video side and text side."""

import abc
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmpt.models.bert import BertModel, init_weights
from mmpt.models.bert_settings import BertSettings
from mmpt.models.clip_windows import ClipWindows, WindowOptions
from mmpt.models.layers import Linear
from mmpt.models.packing import PackedModule
from mmpt.models.pooling import POOLINGS
from mmpt.models.precision import autocast_dtype
from mmpt.models.prompts import BatchLayout, Prompts, TextCache, distinct_prompts, pool_text, text_inputs
from mmpt.models.signwriting_bert import SignWritingBert
from mmpt.registry import Registry
from mmpt.utils.device import put
from mmpt.utils.errors import UserError

MODELS: Registry[Any] = Registry("model")
"""model.model_cls -> a subclass of DualEncoder."""


class DualEncoder(PackedModule, abc.ABC):
    """Base class of the models. An embedding depends only on its example, not on batch, order or padding.

    Attributes:
        text_settings: sizes of the text model that it was built from.
        packed: compute real tokens only, and each distinct prompt of a batch once (see set_packed).
        windows: how clips longer than the tower are divided (see ClipWindows); None: they are not.
        exclusive: set by the trainer: no other thread uses the model, and gradients are read from `.grad`.
        autocast: "bf16" or "fp16": half precision where the device supports it; embeddings stay float32.
    """

    text_settings: BertSettings
    windows: WindowOptions | None = None
    exclusive: bool = False
    autocast: str | None = None

    @property
    def hidden_size(self) -> int:
        """Embedding dimension, H."""
        return self.text_settings.hidden_size

    def encode_video(self, vfeats: Tensor, vmasks: Tensor, frames: Sequence[int] | None = None) -> Tensor:
        """Clips float [B, T, vfeat_dim] with masks bool [B, T] (true: a real frame) -> [B, H].

        frames: of each clip, with padding after them; None: the CPU waits for a GPU to know them.
        """
        return self._cast(self._embed_clips, vfeats, vmasks, frames)

    def encode_text(self, caps: Tensor, cmasks: Tensor, prompts: Prompts | None = None) -> Tensor:
        """Prompts as token ids int64 [B, L] with masks bool [B, L] -> [B, H].

        A row is `[CLS] [SEP] tokens [SEP]` and padding. Each distinct prompt is computed once, and so
        with one dropout mask. Raises UserError if a prompt is longer than the position table.

        prompts: which are distinct; None: the CPU waits for a GPU to know it.
        """
        return self._cast(self._embed_prompts, caps, cmasks, prompts)

    def prepare_for_short_batches(self) -> None:
        """Make batches of few frames faster, for a model whose weights and device no longer change."""

    @abc.abstractmethod
    def _embed_clips(self, vfeats: Tensor, vmasks: Tensor, frames: Sequence[int] | None = None) -> Tensor:
        """encode_video."""

    @abc.abstractmethod
    def _pool_prompts(self, ids: Tensor, mask: Tensor, prompts: Prompts | None = None) -> Tensor:
        """`[CLS] tokens [SEP]` as ids int64 [B, L] with mask bool [B, L] -> pooled [B, H]."""

    def _embed_prompts(self, caps: Tensor, cmasks: Tensor, prompts: Prompts | None = None) -> Tensor:
        """encode_text."""
        if not self.packed:
            return self._pool_prompts(*text_inputs(caps, cmasks, cut=False))
        if prompts is None:
            ids, mask, which = distinct_prompts(*text_inputs(caps, cmasks))
        else:
            rows, which = (put(torch.tensor(part), caps.device) for part in (prompts.rows, prompts.which))
            ids, mask = text_inputs(caps[rows], cmasks[rows], longest=max(prompts.lengths))
        return self._pool_prompts(ids, mask, prompts)[which]

    def _cast(self, encode: Callable[..., Tensor], inputs: Tensor, masks: Tensor, known: Any) -> Tensor:
        """encode(inputs, masks, known) under autocast."""
        device = inputs.device.type
        dtype = autocast_dtype(self.autocast, device)
        if dtype is None:
            return encode(inputs, masks, known)
        if dtype == torch.float16 and self.training and torch.is_grad_enabled():
            raise UserError(
                "model.autocast is fp16: small gradients would underflow. To train, set it to bf16, or unset "
                "it and set fairseq.common.fp16=true, which scales the loss."
            )
        with torch.autocast(device, dtype):
            return encode(inputs, masks, known).float()

    def forward(
        self,
        vfeats: Tensor,
        vmasks: Tensor,
        caps: Tensor,
        cmasks: Tensor,
        layout: BatchLayout | None = None,
    ) -> dict[str, Tensor]:
        """{"pooled_video": [B, H], "pooled_text": [B, H]} of a batch of pairs."""
        frames, prompts = (None, None) if layout is None else (layout.frames, layout.prompts)
        return {
            "pooled_video": self.encode_video(vfeats, vmasks, frames),
            "pooled_text": self.encode_text(caps, cmasks, prompts),
        }


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


class WithTextTower(DualEncoder):
    """A dual encoder with a separate text encoder for prompts, whose BERT is trained or frozen."""

    text_encoder: BertModel | SignWritingBert
    freeze_text: bool
    text_cache: TextCache

    def _take_text_tower(self, text_encoder: BertModel | SignWritingBert, freeze: bool) -> None:
        """Set the text encoder. A frozen BERT has no gradients and no dropout, and caches prompts."""
        self.text_settings = text_encoder.settings
        self.text_encoder = text_encoder
        self.freeze_text = freeze
        self.text_cache = TextCache(text_encoder.bert)
        if freeze:
            text_encoder.bert.requires_grad_(False)
            text_encoder.bert.eval()

    def train(self, mode: bool = True) -> "WithTextTower":
        """As nn.Module.train, but a frozen BERT stays in evaluation mode (no dropout)."""
        super().train(mode)
        if self.freeze_text:
            self.text_encoder.bert.eval()
        return self

    def _pool_prompts(self, ids: Tensor, mask: Tensor, prompts: Prompts | None = None) -> Tensor:
        return self.text_encoder.pool(ids, mask, self._pool_words, prompts)

    def _pool_words(self, ids: Tensor, mask: Tensor, prompts: Prompts | None) -> Tensor:
        if self.freeze_text and self.packed:
            keys = None if prompts is None else prompts.keys
            return self.text_cache.lookup(ids, mask, self._run_bert, keys)
        return self._run_bert(ids, mask, None if prompts is None else prompts.lengths)

    def _run_bert(self, ids: Tensor, mask: Tensor, lengths: Sequence[int] | None = None) -> Tensor:
        return pool_text(*self.text_encoder.bert.encode(ids, mask, lengths=lengths), mask)

"""The interface of dual encoders, which embed clips and prompts separately in one space."""

import abc
from collections.abc import Callable

import torch
from torch import Tensor

from mmpt.models.bert_settings import BertSettings
from mmpt.models.clip_windows import WindowOptions
from mmpt.models.packing import PackedModule
from mmpt.models.precision import autocast_dtype
from mmpt.models.prompts import distinct_prompts, text_inputs
from mmpt.utils.errors import UserError


class DualEncoder(PackedModule, abc.ABC):
    """Base class of the models. An embedding depends only on its example, not on batch, order or padding.

    Attributes:
        text_settings: sizes of the text model that it was built from.
        packed: compute real tokens only, and each distinct prompt of a batch once (see set_packed).
        windows: how clips longer than the tower are divided (see ClipWindows); None: they are not.
        autocast: "bf16" or "fp16": half precision where the device supports it; embeddings stay float32.
    """

    text_settings: BertSettings
    windows: WindowOptions | None = None
    autocast: str | None = None

    @property
    def hidden_size(self) -> int:
        """Embedding dimension, H."""
        return self.text_settings.hidden_size

    def encode_video(self, vfeats: Tensor, vmasks: Tensor) -> Tensor:
        """Clips float [B, T, vfeat_dim] with masks bool [B, T] (true: a real frame) -> [B, H]."""
        return self._cast(self._embed_clips, vfeats, vmasks)

    def encode_text(self, caps: Tensor, cmasks: Tensor) -> Tensor:
        """Prompts as token ids int64 [B, L] with masks bool [B, L] -> [B, H].

        A row is `[CLS] [SEP] tokens [SEP]` and padding. Each distinct prompt is computed once, and so
        with one dropout mask. Raises UserError if a prompt is longer than the position table.
        """
        return self._cast(self._embed_prompts, caps, cmasks)

    def prepare_for_short_batches(self) -> None:
        """Make batches of few frames faster, for a model whose weights and device no longer change."""

    @abc.abstractmethod
    def _embed_clips(self, vfeats: Tensor, vmasks: Tensor) -> Tensor:
        """encode_video."""

    @abc.abstractmethod
    def _pool_prompts(self, ids: Tensor, mask: Tensor) -> Tensor:
        """`[CLS] tokens [SEP]` as ids int64 [B, L] with mask bool [B, L] -> pooled [B, H]."""

    def _embed_prompts(self, caps: Tensor, cmasks: Tensor) -> Tensor:
        """encode_text."""
        ids, mask = text_inputs(caps, cmasks, cut=self.packed)
        if not self.packed:
            return self._pool_prompts(ids, mask)
        ids, mask, which = distinct_prompts(ids, mask)
        return self._pool_prompts(ids, mask)[which]

    def _cast(self, encode: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, masks: Tensor) -> Tensor:
        """encode(inputs, masks) under autocast."""
        device = inputs.device.type
        dtype = autocast_dtype(self.autocast, device)
        if dtype is None:
            return encode(inputs, masks)
        if dtype == torch.float16 and self.training and torch.is_grad_enabled():
            raise UserError(
                "model.autocast is fp16: small gradients would underflow. To train, set it to bf16, or unset "
                "it and set fairseq.common.fp16=true, which scales the loss."
            )
        with torch.autocast(device, dtype):
            return encode(inputs, masks).float()

    def forward(self, vfeats: Tensor, vmasks: Tensor, caps: Tensor, cmasks: Tensor) -> dict[str, Tensor]:
        """{"pooled_video": [B, H], "pooled_text": [B, H]} of a batch of pairs."""
        return {
            "pooled_video": self.encode_video(vfeats, vmasks),
            "pooled_text": self.encode_text(caps, cmasks),
        }

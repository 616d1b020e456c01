"""What every dual encoder offers: a clip and a prompt become vectors of one space, each without looking at
the other."""

import abc
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmpt.models.bert_settings import BertSettings
from mmpt.models.precision import autocast_dtype
from mmpt.models.prompts import distinct_prompts, text_inputs
from mmpt.utils.errors import UserError


class DualEncoder(nn.Module, abc.ABC):
    """What every model offers. Outputs depend on one example only: not on its batch, its order or its
    padding."""

    text_settings: BertSettings
    """Sizes of the text model it was built from."""
    packed: bool = True
    """Compute real tokens only, and each prompt of a batch once; False computes all, for comparison."""

    autocast: str | None = None
    """Half precision to compute in where the device has it, "bf16" or "fp16"; embeddings stay float32."""

    @property
    def hidden_size(self) -> int:
        """Numbers in an embedding."""
        return self.text_settings.hidden_size

    def encode_video(self, vfeats: Tensor, vmasks: Tensor) -> Tensor:
        """Clips float [B, T, vfeat_dim] with masks bool [B, T] (true: a real frame) -> [B, H]."""
        return self._cast(self._embed_clips, vfeats, vmasks)

    def encode_text(self, caps: Tensor, cmasks: Tensor) -> Tensor:
        """Prompts as token ids int64 [B, L], rows `[CLS] [SEP] tokens [SEP]` and padding, with masks bool [B,
        L] -> [B, H]. Raises UserError if a prompt is longer than the position table.

        Each different prompt is computed once (and so with one dropout mask)."""
        return self._cast(self._embed_prompts, caps, cmasks)

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
                "model.autocast is fp16: small gradients would vanish. To train, set it to bf16, or leave it "
                "out and set fairseq.common.fp16=true, which scales the loss."
            )
        with torch.autocast(device, dtype):
            return encode(inputs, masks).float()

    def forward(self, vfeats: Tensor, vmasks: Tensor, caps: Tensor, cmasks: Tensor) -> dict[str, Tensor]:
        """{"pooled_video": [B, H], "pooled_text": [B, H]} of a batch of pairs."""
        return {
            "pooled_video": self.encode_video(vfeats, vmasks),
            "pooled_text": self.encode_text(caps, cmasks),
        }

"""An ensemble that is trained, saved and used as one model (Lakshminarayanan et al. 2017).

https://arxiv.org/abs/1612.01474
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmpt.models.bert import BertModel
from mmpt.models.clip_windows import WindowOptions
from mmpt.models.dual_encoder import WithTextTower
from mmpt.models.projection import Space
from mmpt.models.prompts import Prompts
from mmpt.models.signwriting_bert import SignWritingBert
from mmpt.models.stacking import can_stack, run_stacked, stacked_copy
from mmpt.models.video_bert import MMBertForEncoder

_SHORT = 256
"""Frames of a batch, with padding, up to which one module with all weights is faster on a CPU."""


class MMFusionEnsemble(WithTextTower):
    """Several video towers, each with its own projections, that share one text tower (model.ensemble_size).

    The embeddings of the ensemble's models are concatenated: [B, ensemble_size * H]. The dot product of two
    embeddings is therefore the sum of the models' dot products. With projection "l2_norm" each model's part
    has unit length, and cosine similarity is the mean of the models' cosine similarities. The models
    differ in their random initialisation and dropout. The loss is computed per model (EnsembleLoss).

    Args: as MMFusionSeparate, with one video tower for each model.
    """

    def __init__(
        self,
        video_encoders: Sequence[MMBertForEncoder],
        text_encoder: BertModel | SignWritingBert,
        *,
        projection: bool | str = False,
        pooling: str = "mean",
        freeze_text: bool = False,
        windows: WindowOptions | None = None,
    ):
        super().__init__()
        settings = text_encoder.settings
        spaces = [Space(tower, settings, projection, pooling, windows) for tower in video_encoders]
        self.windows = windows
        self.members = nn.ModuleList(spaces)  # the parameter names of saved checkpoints begin with `members.`
        self._take_text_tower(text_encoder, freeze_text)
        self._together: tuple[nn.Module | None] = (None,)  # in a tuple: no part of the saved model

    @property
    def hidden_size(self) -> int:
        """Embedding dimension: that of one model times the number of models."""
        return len(self.members) * self.text_settings.hidden_size

    def prepare_for_short_batches(self) -> None:
        """See DualEncoder: up to _SHORT frames are embedded by one module with copied weights."""
        self._together = (stacked_copy(list(self.members)),)

    def _embed_clips(self, vfeats: Tensor, vmasks: Tensor, frames: Sequence[int] | None = None) -> Tensor:
        together = None if self.training else self._together[0]
        if together is not None and vmasks.numel() <= _SHORT:
            return together(vfeats, vmasks, frames).transpose(0, 1).flatten(1)
        return _concatenated(list(self.members), vfeats, vmasks, frames)

    def _embed_prompts(self, caps: Tensor, cmasks: Tensor, prompts: Prompts | None = None) -> Tensor:
        pooled = super()._embed_prompts(caps, cmasks, prompts)
        return _concatenated([space.get_submodule("text_projection") for space in self.members], pooled)


def _concatenated(modules: Sequence[nn.Module], *args: Any) -> Tensor:
    """The modules' results [B, H] for the same arguments, as [B, M * H]."""
    if not can_stack(modules):
        return torch.cat([module(*args) for module in modules], -1)
    return run_stacked(modules, *args).transpose(0, 1).flatten(1)

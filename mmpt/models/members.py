"""An ensemble that is trained, saved and used as one model (Lakshminarayanan et al. 2017,
https://arxiv.org/abs/1612.01474)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmpt.models.bert import BertModel
from mmpt.models.projection import Space, embed_clips
from mmpt.models.text_tower import WithTextTower
from mmpt.models.video_bert import MMBertForEncoder


class MMFusionMembers(WithTextTower):
    """Several video towers, each in a space of its own with one text tower (model.members).

    An embedding is the members' embeddings side by side, [B, members * H]. So the dot product of two is the
    sum of the members' dot products; where each member's part has unit length (projection "l2_norm"), cosine
    is the mean of the members' cosines. The members differ by the random numbers they start from and by
    their dropout; the loss trains each in its own space (losses/members.py).

    Args: as MMFusionSeparate, with one video tower a member.
    """

    def __init__(
        self,
        video_encoders: Sequence[MMBertForEncoder],
        text_encoder: BertModel,
        *,
        projection: bool | str = False,
        pooling: str = "mean",
        freeze_text: bool = False,
    ):
        super().__init__()
        spaces = [Space(tower, text_encoder.settings, projection, pooling) for tower in video_encoders]
        self.members = nn.ModuleList(spaces)
        self._take_text_tower(text_encoder, freeze_text)

    @property
    def hidden_size(self) -> int:
        return len(self.members) * self.text_settings.hidden_size

    def _embed_clips(self, vfeats: Tensor, vmasks: Tensor) -> Tensor:
        return torch.cat([embed_clips(space, vfeats, vmasks) for space in self.members], -1)

    def _embed_prompts(self, caps: Tensor, cmasks: Tensor) -> Tensor:
        pooled = super()._embed_prompts(caps, cmasks)
        maps = [space.get_submodule("text_projection") for space in self.members]
        return torch.cat([into_space(pooled) for into_space in maps], -1)

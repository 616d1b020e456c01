"""The dual encoders: a clip and a prompt become vectors of one space, each without looking at the other.

MMFusionSeparate and MMFusionShare are the names of VideoCLIP/MMPT (https://arxiv.org/abs/2109.14084).
"""

import abc
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmpt.models.bert import BertModel, BertSettings, init_weights
from mmpt.models.packing import Packing
from mmpt.models.pooling import POOLINGS, mean_of
from mmpt.models.pretrained import PretrainedBert, load_bert
from mmpt.models.registries import MODELS, TEXT_ENCODERS, VIDEO_ENCODERS
from mmpt.models.video_bert import MMBertForEncoder
from mmpt.utils.errors import UserError


class DualEncoder(nn.Module, abc.ABC):
    """What every model offers. Outputs depend on one example only: not on its batch, its order or its
    padding."""

    text_settings: BertSettings
    """Sizes of the text model it was built from."""
    packed: bool = True
    """Compute real tokens only, and each prompt of a batch once; False computes all, for comparison."""

    @property
    def hidden_size(self) -> int:
        """Numbers in an embedding."""
        return self.text_settings.hidden_size

    @abc.abstractmethod
    def encode_video(self, vfeats: Tensor, vmasks: Tensor) -> Tensor:
        """Clips float [B, T, vfeat_dim] with masks bool [B, T] (true: a real frame) -> [B, H]."""

    @abc.abstractmethod
    def encode_text(self, caps: Tensor, cmasks: Tensor) -> Tensor:
        """Prompts as token ids int64 [B, L], rows `[CLS] [SEP] tokens [SEP]` and padding, with masks bool [B,
        L] -> [B, H]. Raises UserError if a prompt is longer than the position table."""

    @abc.abstractmethod
    def _encode_prompts(self, ids: Tensor, mask: Tensor) -> Tensor:
        """`[CLS] tokens [SEP]` as ids int64 [B, L] with mask bool [B, L] -> pooled [B, H]."""

    def _pooled_text(self, caps: Tensor, cmasks: Tensor) -> Tensor:
        """Pooled prompts [B, H], each different one computed once (and so with one dropout mask)."""
        ids, mask = text_inputs(caps, cmasks, cut=self.packed)
        if not self.packed:
            return self._encode_prompts(ids, mask)
        ids, mask, which = distinct_prompts(ids, mask)
        return self._encode_prompts(ids, mask)[which]

    def forward(self, vfeats: Tensor, vmasks: Tensor, caps: Tensor, cmasks: Tensor) -> dict[str, Tensor]:
        """{"pooled_video": [B, H], "pooled_text": [B, H]} of a batch of pairs."""
        return {
            "pooled_video": self.encode_video(vfeats, vmasks),
            "pooled_text": self.encode_text(caps, cmasks),
        }


class Projection(nn.Module):
    """Linear map of a pooled vector, without bias; with `l2_norm`, to unit length (SignCLIP's
    multimodal_projection)."""

    def __init__(self, width: int, l2_norm: bool, init_std: float):
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False)
        self.l2_norm = l2_norm
        init_weights(self.linear, init_std)

    def forward(self, pooled: Tensor) -> Tensor:
        projected = self.linear(pooled)
        return F.normalize(projected, dim=-1) if self.l2_norm else projected


def text_inputs(caps: Tensor, cmasks: Tensor, cut: bool = True) -> tuple[Tensor, Tensor]:
    """What a text tower reads: `[CLS] tokens [SEP]`, cut to the batch's longest if `cut`.

    Returns ids int64 [B, L'] and their mask bool [B, L'].
    """
    if caps.ndim != 2 or caps.shape != cmasks.shape or caps.shape[1] < 3:
        raise UserError(
            f"caps have shape {tuple(caps.shape)} and cmasks {tuple(cmasks.shape)}; both must be [prompts, "
            "tokens], with [CLS] [SEP] first and a [SEP] at the end of each prompt."
        )
    cmasks = cmasks.bool()
    used = caps.shape[1]
    if cut:
        used = int((cmasks * torch.arange(1, used + 1, device=cmasks.device)).max()) if len(caps) else 3
        used = max(used, 3)
    ids = torch.cat([caps[:, :1], caps[:, 2:used]], 1)
    mask = torch.cat([cmasks[:, :1], cmasks[:, 2:used]], 1)
    return ids, mask


def pool_text(hidden: Tensor, packing: Packing, mask: Tensor) -> Tensor:
    """Mean over the tokens of each prompt, without [CLS]: hidden [N, H], mask bool [B, L] -> [B, H]."""
    counted = packing.pack(mask) & (packing.columns > 0)
    return mean_of(hidden, packing.sequences, counted, packing.batch)


def distinct_prompts(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The different rows among ids int64 [B, L] with mask bool [B, L], whatever stands in the padding.

    Returns ids [U, L], mask [U, L], and int64 [B]: which of these each row is.
    """
    rows, which = torch.unique((ids + 1) * mask, dim=0, return_inverse=True)
    return (rows - 1).clamp(min=0), rows > 0, which


@MODELS.register("MMFusionSeparate")
class MMFusionSeparate(DualEncoder):
    """Two towers: a video tower, and a BERT for the text.

    The pooled video is the mean (or `pooling`) over frames and [SEP], the pooled text the mean over tokens
    and the last [SEP].

    Args:
        video_encoder, text_encoder: the towers, of one width.
        projection: False, True (a linear map behind each tower) or "l2_norm" (the same, then unit length).
        pooling: of the video tower: mean, max or attention.
        freeze_text: leave the text tower as it is: no gradients, no dropout. Projections still train.
    """

    def __init__(
        self,
        video_encoder: MMBertForEncoder,
        text_encoder: BertModel,
        *,
        projection: bool | str = False,
        pooling: str = "mean",
        freeze_text: bool = False,
    ):
        super().__init__()
        settings = text_encoder.settings
        self.text_settings = settings
        self.video_encoder = video_encoder
        self.text_encoder = text_encoder
        self.video_pooling = POOLINGS.get(pooling, "model.pooling")(self.hidden_size)
        l2_norm = _wants_l2_norm(projection)
        self.video_projection: nn.Module = nn.Identity()
        self.text_projection: nn.Module = nn.Identity()
        if projection:
            self.video_projection = Projection(self.hidden_size, l2_norm, settings.initializer_range)
            self.text_projection = Projection(self.hidden_size, l2_norm, settings.initializer_range)
        self.freeze_text = freeze_text
        if freeze_text:
            text_encoder.requires_grad_(False)
            text_encoder.eval()

    def train(self, mode: bool = True) -> "MMFusionSeparate":
        """As every module's, but a frozen text tower stays in evaluation mode (no dropout)."""
        super().train(mode)
        if self.freeze_text:
            self.text_encoder.eval()
        return self

    def encode_video(self, vfeats: Tensor, vmasks: Tensor) -> Tensor:
        hidden, packing, counted = self.video_encoder.encode(vfeats, vmasks)
        return self.video_projection(self.video_pooling(hidden, packing.sequences, counted, packing.batch))

    def encode_text(self, caps: Tensor, cmasks: Tensor) -> Tensor:
        return self.text_projection(self._pooled_text(caps, cmasks))

    def _encode_prompts(self, ids: Tensor, mask: Tensor) -> Tensor:
        return pool_text(*self.text_encoder.encode(ids, mask), mask)

    @classmethod
    def from_config(
        cls, model_cfg: Any, dataset_cfg: Any, pretrained: PretrainedBert | None = None
    ) -> "MMFusionSeparate":
        """The model that the config sections `model` and `dataset` describe, initialised from
        `dataset.bert_name`.

        `pretrained` is given by those who have loaded it already, or who will load weights over it and need
        only its sizes (`load_bert(name, weights=False)`).
        """
        bert = load_bert(dataset_cfg.bert_name) if pretrained is None else pretrained
        video_encoder = _video_encoder(
            model_cfg.video_encoder_cls,
            "model.video_encoder_cls",
            model_cfg,
            dataset_cfg,
            bert,
            model_cfg.num_hidden_video_layers,
        )
        text_encoder = TEXT_ENCODERS.get(model_cfg.text_encoder_cls, "model.text_encoder_cls")(bert.settings)
        bert.fill(text_encoder)
        return cls(
            video_encoder,
            text_encoder,
            projection=model_cfg.multimodal_projection,
            pooling=model_cfg.pooling,
            freeze_text=model_cfg.freeze_text,
        )


@MODELS.register("MMFusionShare")
class MMFusionShare(DualEncoder):
    """One tower for both: frames enter through its frame MLP, prompts through its word embeddings.

    Video as in MMFusionSeparate; in a prompt the tokens behind [CLS] are of type 1. The tower has all layers
    of the pretrained text model.

    Args:
        mm_encoder: the tower.
        text_offset: added to the positions of the tokens behind [CLS]. 0 continues from [CLS]; VideoCLIP's
            first release put prompts behind the video's place, which is `max_video_len + 1`.
        pooling: of the video side: mean, max or attention.
    """

    def __init__(self, mm_encoder: MMBertForEncoder, *, text_offset: int = 0, pooling: str = "mean"):
        super().__init__()
        self.text_settings = mm_encoder.bert.settings
        self.mm_encoder = mm_encoder
        self.text_offset = text_offset
        self.video_pooling = POOLINGS.get(pooling, "model.pooling")(self.hidden_size)

    def encode_video(self, vfeats: Tensor, vmasks: Tensor) -> Tensor:
        hidden, packing, counted = self.mm_encoder.encode(vfeats, vmasks)
        return self.video_pooling(hidden, packing.sequences, counted, packing.batch)

    def encode_text(self, caps: Tensor, cmasks: Tensor) -> Tensor:
        return self._pooled_text(caps, cmasks)

    def _encode_prompts(self, ids: Tensor, mask: Tensor) -> Tensor:
        index = torch.arange(ids.shape[1], device=ids.device)
        positions = index + self.text_offset * (index > 0)
        return pool_text(*self.mm_encoder.bert.encode(ids, mask, positions, (index > 0).long()), mask)

    @classmethod
    def from_config(
        cls, model_cfg: Any, dataset_cfg: Any, pretrained: PretrainedBert | None = None
    ) -> "MMFusionShare":
        """As MMFusionSeparate.from_config, with `model.mm_encoder_cls` as the tower."""
        bert = load_bert(dataset_cfg.bert_name) if pretrained is None else pretrained
        if model_cfg.multimodal_projection or model_cfg.freeze_text:
            raise UserError(
                "model.multimodal_projection and model.freeze_text belong to MMFusionSeparate: "
                "with model_cls MMFusionShare leave them unset."
            )
        name = model_cfg.mm_encoder_cls or "MMBertForEncoder"
        layers = bert.settings.num_hidden_layers
        mm_encoder = _video_encoder(name, "model.mm_encoder_cls", model_cfg, dataset_cfg, bert, layers)
        return cls(mm_encoder, pooling=model_cfg.pooling)


def _video_encoder(
    name: str, where: str, model_cfg: Any, dataset_cfg: Any, bert: PretrainedBert, num_layers: int
) -> Any:
    """The tower called `name` (in config key `where`), filled from the pretrained text model."""
    tower = VIDEO_ENCODERS.get(name, where)(
        bert.settings,
        vfeat_dim=model_cfg.vfeat_dim,
        max_video_len=dataset_cfg.max_video_len,
        num_layers=num_layers,
        cls_id=bert.cls_id,
        sep_id=bert.sep_id,
        conv1d=model_cfg.conv1d or 0,
        dropout=model_cfg.dropout,
    )
    bert.fill(tower.bert)
    return tower


def _wants_l2_norm(projection: bool | str) -> bool:
    if projection not in (False, True, "l2_norm"):
        raise UserError(
            f"model.multimodal_projection is {projection!r}; false, true or 'l2_norm' was expected."
        )
    return projection == "l2_norm"

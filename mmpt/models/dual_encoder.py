"""The dual encoders: a clip and a prompt become vectors of one space, each without looking at the other.

MMFusionSeparate and MMFusionShare are the names of VideoCLIP/MMPT (https://arxiv.org/abs/2109.14084).
"""

import abc
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmpt.models.bert import (
    BertEncoder,
    BertIntermediate,
    BertModel,
    BertSettings,
    ResidualOutput,
    init_weights,
)
from mmpt.models.bert_settings import fresh_settings
from mmpt.models.finetuning import freeze
from mmpt.models.pooling import POOLINGS
from mmpt.models.precision import autocast_dtype
from mmpt.models.pretrained import PretrainedBert, load_bert
from mmpt.models.prompts import TextCache, distinct_prompts, pool_text, text_inputs
from mmpt.models.registries import MODELS, TEXT_ENCODERS, VIDEO_ENCODERS
from mmpt.models.video_bert import MMBertForEncoder
from mmpt.utils.errors import UserError

_SHARED_TOWER = "MMBertForEncoder"  # where model.mm_encoder_cls is not set


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


class Projection(nn.Module):
    """Linear map of a pooled vector, without bias; with `l2_norm`, to unit length (SignCLIP's
    multimodal_projection)."""

    def __init__(self, width: int, out_width: int, l2_norm: bool, init_std: float):
        super().__init__()
        self.linear = nn.Linear(width, out_width, bias=False)
        self.l2_norm = l2_norm
        init_weights(self.linear, init_std)

    def forward(self, pooled: Tensor) -> Tensor:
        projected = self.linear(pooled)
        return F.normalize(projected, dim=-1) if self.l2_norm else projected


@MODELS.register("MMFusionSeparate")
class MMFusionSeparate(DualEncoder):
    """Two towers: a video tower, and a BERT for the text.

    The pooled video is the mean (or `pooling`) over frames and [SEP], the pooled text the mean over tokens
    and the last [SEP].

    Args:
        video_encoder, text_encoder: the towers, of one width unless there is a projection.
        projection: False, True (a linear map behind each tower) or "l2_norm" (the same, then unit length).
        pooling: of the video tower: mean, max or attention.
        freeze_text: leave the text tower as it is: no gradients, no dropout, each prompt computed once until
            its weights change. Projections still train.
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
        video_width = video_encoder.bert.settings.hidden_size
        self.video_pooling = POOLINGS.get(pooling, "model.pooling")(video_width)
        l2_norm = _wants_l2_norm(projection)
        self.video_projection: nn.Module = nn.Identity()
        self.text_projection: nn.Module = nn.Identity()
        if projection:
            width, init_std = self.hidden_size, settings.initializer_range
            self.video_projection = Projection(video_width, width, l2_norm, init_std)
            self.text_projection = Projection(width, width, l2_norm, init_std)
        elif video_width != self.hidden_size:
            raise UserError(
                f"the video tower is {video_width} wide (model.video_hidden_size) and the text tower "
                f"{self.hidden_size}: set model.multimodal_projection: true, to bring them together."
            )
        self.freeze_text = freeze_text
        self.text_cache = TextCache(text_encoder)
        if freeze_text:
            text_encoder.requires_grad_(False)
            text_encoder.eval()

    def train(self, mode: bool = True) -> "MMFusionSeparate":
        """As every module's, but a frozen text tower stays in evaluation mode (no dropout)."""
        super().train(mode)
        if self.freeze_text:
            self.text_encoder.eval()
        return self

    def _embed_clips(self, vfeats: Tensor, vmasks: Tensor) -> Tensor:
        hidden, packing, counted = self.video_encoder.encode(vfeats, vmasks)
        return self.video_projection(self.video_pooling(hidden, packing.sequences, counted, packing.batch))

    def _embed_prompts(self, caps: Tensor, cmasks: Tensor) -> Tensor:
        return self.text_projection(super()._embed_prompts(caps, cmasks))

    def _pool_prompts(self, ids: Tensor, mask: Tensor) -> Tensor:
        if self.freeze_text and self.packed:
            return self.text_cache.lookup(ids, mask, self._run_text_tower)
        return self._run_text_tower(ids, mask)

    def _run_text_tower(self, ids: Tensor, mask: Tensor) -> Tensor:
        return pool_text(*self.text_encoder.encode(ids, mask), mask)

    @classmethod
    def check(cls, model_cfg: Any) -> None:
        """Raises UserError, before anything is loaded, for towers that are not there."""
        VIDEO_ENCODERS.get(model_cfg.video_encoder_cls, "model.video_encoder_cls")
        TEXT_ENCODERS.get(model_cfg.text_encoder_cls, "model.text_encoder_cls")

    @classmethod
    def from_config(
        cls, model_cfg: Any, dataset_cfg: Any, pretrained: PretrainedBert | None = None
    ) -> "MMFusionSeparate":
        """The model that the config sections `model` and `dataset` describe, initialised from
        `dataset.bert_name`.

        `pretrained` is given by those who have loaded it already, or who will load weights over it and need
        only its sizes (`load_bert(name, weights=False)`).
        """
        cls.check(model_cfg)
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
        model = cls(
            video_encoder,
            text_encoder,
            projection=model_cfg.multimodal_projection,
            pooling=model_cfg.pooling,
            freeze_text=model_cfg.freeze_text or model_cfg.train_projections_only,
        )
        return _with_options(model, model_cfg)


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

    def _embed_clips(self, vfeats: Tensor, vmasks: Tensor) -> Tensor:
        hidden, packing, counted = self.mm_encoder.encode(vfeats, vmasks)
        return self.video_pooling(hidden, packing.sequences, counted, packing.batch)

    def _pool_prompts(self, ids: Tensor, mask: Tensor) -> Tensor:
        index = torch.arange(ids.shape[1], device=ids.device)
        positions = index + self.text_offset * (index > 0)
        return pool_text(*self.mm_encoder.bert.encode(ids, mask, positions, (index > 0).long()), mask)

    @classmethod
    def check(cls, model_cfg: Any) -> None:
        """As MMFusionSeparate.check; and for options that one tower cannot have."""
        VIDEO_ENCODERS.get(model_cfg.mm_encoder_cls or _SHARED_TOWER, "model.mm_encoder_cls")
        if model_cfg.multimodal_projection or model_cfg.freeze_text:
            raise UserError(
                "model.multimodal_projection and model.freeze_text belong to MMFusionSeparate: "
                "with model_cls MMFusionShare leave them unset."
            )
        if model_cfg.video_hidden_size is not None:
            raise UserError(
                "model.video_hidden_size: MMFusionShare has one tower, as wide as the text model."
            )

    @classmethod
    def from_config(
        cls, model_cfg: Any, dataset_cfg: Any, pretrained: PretrainedBert | None = None
    ) -> "MMFusionShare":
        """As MMFusionSeparate.from_config, with `model.mm_encoder_cls` as the tower."""
        cls.check(model_cfg)
        bert = load_bert(dataset_cfg.bert_name) if pretrained is None else pretrained
        name = model_cfg.mm_encoder_cls or _SHARED_TOWER
        layers = bert.settings.num_hidden_layers
        mm_encoder = _video_encoder(name, "model.mm_encoder_cls", model_cfg, dataset_cfg, bert, layers)
        return _with_options(cls(mm_encoder, pooling=model_cfg.pooling), model_cfg)


def _video_encoder(
    name: str, where: str, model_cfg: Any, dataset_cfg: Any, bert: PretrainedBert, num_layers: int
) -> Any:
    """The tower called `name` (in config key `where`), filled from the pretrained text model, or, with a
    width of its own, left as it was drawn.
    """
    settings = bert.settings
    if model_cfg.video_hidden_size is not None:
        settings = fresh_settings(
            settings, model_cfg.video_hidden_size, num_layers, (bert.cls_id, bert.sep_id)
        )
    tower = VIDEO_ENCODERS.get(name, where)(
        settings,
        vfeat_dim=model_cfg.vfeat_dim,
        max_video_len=dataset_cfg.max_video_len,
        num_layers=num_layers,
        cls_id=bert.cls_id,
        sep_id=bert.sep_id,
        conv1d=model_cfg.conv1d or 0,
        dropout=model_cfg.dropout,
    )
    if settings is bert.settings:
        bert.fill(tower.bert)
    return tower


def _with_options(model: Any, model_cfg: Any) -> Any:
    """The model, told how to compute and what to train: its weights do not depend on it, its results but for
    rounding neither."""
    model.autocast = model_cfg.autocast
    for module in model.modules():
        if isinstance(module, BertEncoder):
            module.checkpointing = model_cfg.activation_checkpointing
        if model_cfg.compile and isinstance(module, BertIntermediate | ResidualOutput):
            # the parts with the same shapes whatever is packed; in place, so that parameters keep their names
            module.compile(dynamic=True)
    freeze(model, model_cfg.train_last_layers, model_cfg.train_projections_only, model_cfg.lora_rank)
    return model


def _wants_l2_norm(projection: bool | str) -> bool:
    if projection not in (False, True, "l2_norm"):
        raise UserError(
            f"model.multimodal_projection is {projection!r}; false, true or 'l2_norm' was expected."
        )
    return projection == "l2_norm"

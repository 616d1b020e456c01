"""MMFusionShare: one tower for clips and prompts (VideoCLIP/MMPT, https://arxiv.org/abs/2109.14084)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmpt.config.schema import DatasetConfig, ModelConfig
from mmpt.models.building import build_video_tower
from mmpt.models.clip_windows import ClipWindows, WindowOptions
from mmpt.models.dual_encoder import MODELS, DualEncoder, pool_clips
from mmpt.models.pooling import POOLINGS
from mmpt.models.prompts import Prompts, pool_text
from mmpt.models.text_model import PretrainedBert
from mmpt.models.video_bert import VIDEO_ENCODERS, MMBertForEncoder
from mmpt.utils.errors import UserError


@MODELS.register("MMFusionShare")
class MMFusionShare(DualEncoder):
    """One tower for clips, through its frame MLP, and prompts, through its word embeddings.

    Clips are embedded as in MMFusionSeparate. In a prompt, the tokens after [CLS] have token type 1. The
    tower has all layers of the pretrained text model.

    Args:
        mm_encoder: the tower.
        text_offset: added to the positions of the tokens after [CLS]. With 0 they follow [CLS]. VideoCLIP's
            first release put prompts after the positions of the video: `max_video_len + 1`.
        pooling: of the video side: mean, max or attention.
        windows: see Space.
    """

    def __init__(
        self,
        mm_encoder: MMBertForEncoder,
        *,
        text_offset: int = 0,
        pooling: str = "mean",
        windows: WindowOptions | None = None,
    ):
        super().__init__()
        self.text_settings = mm_encoder.bert.settings
        self.mm_encoder = mm_encoder
        self.text_offset = text_offset
        self.video_pooling = POOLINGS.get(pooling, "model.pooling")(self.hidden_size)
        self.clip_windows = None if windows is None else ClipWindows(windows, self.hidden_size)
        self.windows = windows

    def _embed_clips(self, vfeats: Tensor, vmasks: Tensor, frames: Sequence[int] | None = None) -> Tensor:
        return pool_clips(self, self.mm_encoder, vfeats, vmasks, frames)

    def _pool_prompts(self, ids: Tensor, mask: Tensor, prompts: Prompts | None = None) -> Tensor:
        index = torch.arange(ids.shape[1], device=ids.device)
        positions = index + self.text_offset * (index > 0)
        lengths = None if prompts is None else prompts.lengths
        encoded = self.mm_encoder.bert.encode(ids, mask, positions, (index > 0).long(), lengths)
        return pool_text(*encoded, mask)

    @classmethod
    def check(cls, model_cfg: ModelConfig) -> None:
        """Raises UserError for an unknown tower, and for options that need two towers."""
        if model_cfg.mm_encoder_cls:
            VIDEO_ENCODERS.get(model_cfg.mm_encoder_cls, "model.mm_encoder_cls")
        if model_cfg.multimodal_projection or model_cfg.freeze_text:
            raise UserError(
                "model.multimodal_projection and model.freeze_text belong to MMFusionSeparate: "
                "with model_cls MMFusionShare leave them unset."
            )
        if model_cfg.ensemble_size > 1:
            raise UserError(
                "model.ensemble_size belongs to MMFusionSeparate: with MMFusionShare leave it unset."
            )
        if model_cfg.video_hidden_size is not None:
            raise UserError(
                "model.video_hidden_size: MMFusionShare has one tower, as wide as the text model: leave it "
                "unset."
            )

    @classmethod
    def from_config(
        cls, model_cfg: ModelConfig, dataset_cfg: DatasetConfig, bert: PretrainedBert
    ) -> "MMFusionShare":
        """The model with `model.mm_encoder_cls` as its tower, initialised from `bert`."""
        layers = bert.settings.num_hidden_layers
        tower = build_video_tower("mm_encoder_cls", model_cfg, dataset_cfg, bert, layers)
        return cls(tower, pooling=model_cfg.pooling, windows=WindowOptions.of(model_cfg, dataset_cfg))

"""MMFusionSeparate: a video tower and a text tower (VideoCLIP/MMPT, https://arxiv.org/abs/2109.14084)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mmpt.config.schema import DatasetConfig, ModelConfig
from mmpt.models.bert import TEXT_ENCODERS, BertModel
from mmpt.models.building import build_video_tower
from mmpt.models.clip_windows import WindowOptions
from mmpt.models.dual_encoder import MODELS, Space, WithTextTower, embed_clips
from mmpt.models.ensemble import MMFusionEnsemble
from mmpt.models.prompts import Prompts
from mmpt.models.signwriting_bert import SignWritingBert
from mmpt.models.text_model import PretrainedBert
from mmpt.models.video_bert import VIDEO_ENCODERS, MMBertForEncoder


@MODELS.register("MMFusionSeparate")
class MMFusionSeparate(WithTextTower):
    """Two towers: a video tower, and a BERT for the text.

    A clip's embedding is the mean (or `pooling`) over frames and [SEP], a prompt's the mean over tokens and
    the last [SEP].

    Args:
        video_encoder, text_encoder: the towers, of the same width unless there is a projection.
        projection: False, True (a linear map behind each tower) or "l2_norm" (the same, then unit length).
        pooling: of the video tower: mean, max or attention.
        freeze_text: do not train the text tower (no gradients, no dropout, features are cached). Projections
        are still trained.
        windows: see Space.
    """

    def __init__(
        self,
        video_encoder: MMBertForEncoder,
        text_encoder: BertModel | SignWritingBert,
        *,
        projection: bool | str = False,
        pooling: str = "mean",
        freeze_text: bool = False,
        windows: WindowOptions | None = None,
    ):
        super().__init__()
        # attribute names and order are those of published checkpoints
        space = Space(video_encoder, text_encoder.settings, projection, pooling, windows)
        self.video_encoder = video_encoder
        self._take_text_tower(text_encoder, freeze_text)
        self.windows = windows
        self.clip_windows = space.clip_windows
        self.video_pooling = space.video_pooling
        self.video_projection = space.video_projection
        self.text_projection = space.text_projection

    def _embed_clips(self, vfeats: Tensor, vmasks: Tensor, frames: Sequence[int] | None = None) -> Tensor:
        return embed_clips(self, vfeats, vmasks, frames)

    def _embed_prompts(self, caps: Tensor, cmasks: Tensor, prompts: Prompts | None = None) -> Tensor:
        return self.text_projection(super()._embed_prompts(caps, cmasks, prompts))

    @classmethod
    def check(cls, model_cfg: ModelConfig) -> None:
        """Raises UserError for unknown towers, before any file is read."""
        VIDEO_ENCODERS.get(model_cfg.video_encoder_cls, "model.video_encoder_cls")
        TEXT_ENCODERS.get(model_cfg.text_encoder_cls, "model.text_encoder_cls")

    @classmethod
    def from_config(
        cls, model_cfg: ModelConfig, dataset_cfg: DatasetConfig, bert: PretrainedBert
    ) -> "MMFusionSeparate | MMFusionEnsemble":
        """The model of the config sections, initialised from `bert`.

        With `model.ensemble_size` above 1 it is an MMFusionEnsemble.
        """
        layers = model_cfg.num_hidden_video_layers
        windows = WindowOptions.of(model_cfg, dataset_cfg)
        towers = [
            build_video_tower("video_encoder_cls", model_cfg, dataset_cfg, bert, layers)
            for _ in range(model_cfg.ensemble_size)
        ]
        text_encoder = TEXT_ENCODERS.get(model_cfg.text_encoder_cls, "model.text_encoder_cls")(bert.settings)
        bert.fill(text_encoder.bert)
        options: dict[str, Any] = {
            "projection": model_cfg.multimodal_projection,
            "pooling": model_cfg.pooling,
            "freeze_text": model_cfg.freeze_text or model_cfg.train_projections_only,
            "windows": windows,
        }
        if len(towers) > 1:
            return MMFusionEnsemble(towers, text_encoder, **options)
        return cls(towers[0], text_encoder, **options)

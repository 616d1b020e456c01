"""Towers and dual encoders."""

from typing import Any

from mmpt.models.bert import BertModel, BertSettings
from mmpt.models.dual_encoder import DualEncoder
from mmpt.models.ensemble import MMFusionEnsemble
from mmpt.models.one_tower import MMFusionShare
from mmpt.models.pretrained import PretrainedBert, load_bert, load_tokenizer
from mmpt.models.registries import MODELS, TEXT_ENCODERS, VIDEO_ENCODERS
from mmpt.models.two_towers import MMFusionSeparate
from mmpt.models.video_bert import MMBertForEncoder

__all__ = [
    "MODELS",
    "TEXT_ENCODERS",
    "VIDEO_ENCODERS",
    "BertModel",
    "BertSettings",
    "DualEncoder",
    "MMBertForEncoder",
    "MMFusionEnsemble",
    "MMFusionSeparate",
    "MMFusionShare",
    "PretrainedBert",
    "build_model",
    "load_bert",
    "load_tokenizer",
]


def build_model(model_cfg: Any, dataset_cfg: Any, pretrained: PretrainedBert | None = None) -> DualEncoder:
    """The model called `model_cfg.model_cls`, built from the config sections `model` and `dataset`.

    Initialised from the text model `dataset_cfg.bert_name`, or from `pretrained` if it is given. Raises
    UserError for unknown names and for settings that do not fit the text model.
    """
    return MODELS.get(model_cfg.model_cls, "model.model_cls").from_config(model_cfg, dataset_cfg, pretrained)

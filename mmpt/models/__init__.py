"""Towers and dual encoders."""

from mmpt.models.bert import BertModel
from mmpt.models.bert_settings import BertSettings
from mmpt.models.building import build_model
from mmpt.models.dual_encoder import MODELS, DualEncoder
from mmpt.models.ensemble import MMFusionEnsemble
from mmpt.models.one_tower import MMFusionShare
from mmpt.models.text_model import load_bert, load_tokenizer
from mmpt.models.two_towers import MMFusionSeparate
from mmpt.models.video_bert import MMBertForEncoder, VideoTowerOptions

__all__ = [
    "MODELS",
    "BertModel",
    "BertSettings",
    "DualEncoder",
    "MMBertForEncoder",
    "MMFusionEnsemble",
    "MMFusionSeparate",
    "MMFusionShare",
    "VideoTowerOptions",
    "build_model",
    "load_bert",
    "load_tokenizer",
]

"""Build the model that a task config describes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from mmpt.config.schema import DatasetConfig, ModelConfig
from mmpt.models.bert import TEXT_ENCODERS, BertEncoder, BertIntermediate, ResidualOutput
from mmpt.models.bert_settings import fresh_settings
from mmpt.models.dual_encoder import MODELS, DualEncoder, WithTextTower
from mmpt.models.finetuning import freeze
from mmpt.models.packing import PackedModule
from mmpt.models.text_model import PretrainedBert, load_bert
from mmpt.models.video_bert import VIDEO_ENCODERS, MMBertForEncoder, VideoTowerOptions
from mmpt.processors.text import TEXT_PROCESSORS
from mmpt.utils.errors import UserError

_MOST_LAYERS = 1000
"""In all video towers; building more takes minutes."""


def build_model(
    model_cfg: ModelConfig, dataset_cfg: DatasetConfig, pretrained: PretrainedBert | None = None
) -> DualEncoder:
    """Build `model_cfg.model_cls` from the config sections `model` and `dataset`.

    pretrained: initialises the towers; None loads `dataset_cfg.bert_name`. Pass
    `load_bert(name, weights=False)` where a checkpoint will replace the weights anyway. Raises UserError for
    unknown names and for options that do not fit the text model.
    """
    model_class = MODELS.get(model_cfg.model_cls, "model.model_cls")
    model_class.check(model_cfg)
    check_reads_signs(model_cfg, dataset_cfg)
    bert = load_bert(dataset_cfg.bert_name) if pretrained is None else pretrained
    positions = bert.settings.max_position_embeddings
    if issubclass(model_class, WithTextTower) and dataset_cfg.max_len > positions + 1:
        raise UserError(
            f"dataset.max_len is {dataset_cfg.max_len}, but the text model {bert.name} has only {positions} "
            f"positions: set it to at most {positions + 1}."
        )
    layers = model_cfg.ensemble_size * max(model_cfg.num_hidden_video_layers, model_cfg.conv1d)
    if layers > _MOST_LAYERS:
        raise UserError(
            f"model.ensemble_size {model_cfg.ensemble_size} and model.num_hidden_video_layers "
            f"{model_cfg.num_hidden_video_layers} give over {_MOST_LAYERS} layers: expected fewer."
        )
    model: DualEncoder = model_class.from_config(model_cfg, dataset_cfg, bert)
    model.autocast = model_cfg.autocast
    for module in model.modules():
        if isinstance(module, PackedModule):
            module.nested = model_cfg.nested_attention
        if isinstance(module, BertEncoder):
            module.checkpointing = model_cfg.activation_checkpointing
        if model_cfg.compile and isinstance(module, BertIntermediate | ResidualOutput):
            # their shapes do not depend on packing; in place, so that parameters keep their names
            module.compile(dynamic=True)
    freeze(model, model_cfg.train_last_layers, model_cfg.train_projections_only, model_cfg.lora_rank)
    return model


@contextmanager
def shapes_only() -> Iterator[None]:
    """Models that are built inside have parameters with shapes, on the meta device, without values."""
    with torch.device("meta"), _Uninitialised():
        yield


class _Uninitialised(TorchFunctionMode):
    """Leaves out torch.nn.init: on the meta device it imports torch's compiler, which takes seconds."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def check_reads_signs(model_cfg: ModelConfig, dataset_cfg: DatasetConfig) -> None:
    """Raises UserError if prompts have ids of SignWriting symbols that the text tower cannot read."""
    processor = TEXT_PROCESSORS.get(dataset_cfg.text_processor, "dataset.text_processor")
    if not processor.reads_signs:
        return
    encoder = TEXT_ENCODERS.get(model_cfg.text_encoder_cls, "model.text_encoder_cls")
    if not (issubclass(MODELS.get(model_cfg.model_cls), WithTextTower) and encoder.reads_signs):
        raise UserError(
            f"dataset.text_processor {dataset_cfg.text_processor} reads SignWriting, but "
            f"{model_cfg.model_cls} with model.text_encoder_cls {model_cfg.text_encoder_cls} does not: "
            "include configs/signwriting.yaml, which sets both, and use a model with two towers."
        )


def build_video_tower(
    key: str, model_cfg: ModelConfig, dataset_cfg: DatasetConfig, bert: PretrainedBert, layers: int
) -> MMBertForEncoder:
    """The video tower of the config key model.`key`, with `layers` layers.

    Initialised from the pretrained text model, or randomly if model.video_hidden_size gives it its own width.
    """
    tower_class = VIDEO_ENCODERS.get(getattr(model_cfg, key) or "MMBertForEncoder", f"model.{key}")
    settings = bert.settings
    if model_cfg.video_hidden_size is not None:
        token_ids = (bert.cls_id, bert.sep_id)
        settings = fresh_settings(settings, model_cfg.video_hidden_size, layers, token_ids)
    options = VideoTowerOptions(
        vfeat_dim=model_cfg.vfeat_dim,
        max_video_len=dataset_cfg.max_video_len,
        num_layers=layers,
        cls_id=bert.cls_id,
        sep_id=bert.sep_id,
        conv1d=model_cfg.conv1d,
        dropout=model_cfg.dropout,
    )
    tower = tower_class(settings, options)
    if settings is bert.settings:
        bert.fill(tower.bert)
    return tower

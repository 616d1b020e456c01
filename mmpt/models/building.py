"""What models of every kind are built from, as a config describes it."""

from typing import Any

from mmpt.models.bert import BertEncoder, BertIntermediate, ResidualOutput
from mmpt.models.bert_settings import fresh_settings
from mmpt.models.finetuning import freeze
from mmpt.models.pretrained import PretrainedBert
from mmpt.models.registries import VIDEO_ENCODERS


def video_encoder(
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


def with_options(model: Any, model_cfg: Any) -> Any:
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

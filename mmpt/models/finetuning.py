"""Which parameters are trained in fine-tuning: all, the last layers, projections only, or adapters.

Adapters are low-rank (LoRA: Hu et al. 2021, https://arxiv.org/abs/2106.09685), with `peft`. A linear map W in
a tower's BERT layers becomes W + B A, and only A [rank, in] and B [out, rank] are trained. Only training
needs peft: saving a model folder and reading a checkpoint merge B A into W (merge_adapters).
"""

import importlib.util
from collections.abc import Collection
from typing import Any

from torch import nn

from mmpt.models.bert import BertEncoder, BertModel
from mmpt.utils.errors import MissingDataError, UserError

_TOWERS = ("video_encoder", "text_encoder", "mm_encoder")
_PROJECTIONS = ("video_projection", "text_projection", "video_pooling", "clip_windows")
_OF_FRAMES = {"videomlp", "videoconv"}
"""Parts of a video tower that the text model does not initialise."""
TARGETS = r"encoder\.layer\.\d+\..+\.(query|key|value|dense)"
"""Modules of a BertModel that get an adapter: every linear layer except the unused pooler."""


def freeze(model: nn.Module, last_layers: int | None, projections_only: bool, lora_rank: int = 0) -> None:
    """Freeze the parameters that the config excludes from training.

    last_layers (model.train_last_layers): train only this many last layers of each tower, with projections
    and learnt pooling; None: all. projections_only (model.train_projections_only): freeze the towers.
    A frozen tower stays frozen. lora_rank (model.lora_rank) is only checked against the others here; adapters
    are added once the weights are loaded (add_adapters). Raises UserError if nothing would be trained, or if
    a tower has fewer layers.
    """
    check_lora(lora_rank, last_layers, projections_only)
    if projections_only and last_layers is not None:
        raise UserError(
            "model.train_last_layers and model.train_projections_only contradict: keep one of them."
        )
    if projections_only and not any(list(part.parameters()) for _, part in _parts(model, _PROJECTIONS)):
        raise UserError(
            "model.train_projections_only: the model has no projection to train: set "
            "model.multimodal_projection."
        )
    if not projections_only and last_layers is None:
        return
    for name, tower in _parts(model, _TOWERS):
        layers = next(module for module in tower.modules() if isinstance(module, BertEncoder)).layer
        frozen = not any(parameter.requires_grad for parameter in layers.parameters())
        tower.requires_grad_(False)
        if last_layers is None or frozen:
            continue
        if last_layers > len(layers):
            raise UserError(
                f"model.train_last_layers is {last_layers}, but {name} has {len(layers)} layers: unset "
                "it to train all."
            )
        for layer in list(layers)[len(layers) - last_layers :]:
            layer.requires_grad_(True)


def check_filled(model: nn.Module, skipped: Collection[str]) -> None:
    """Raises UserError if a frame MLP or convolution is neither loaded from the checkpoint nor trained.

    skipped: parameters that model.init_ignore excluded from loading.
    """
    random = [
        name
        for name, parameter in model.named_parameters()
        if name in skipped and not parameter.requires_grad and _OF_FRAMES & set(name.split("."))
    ]
    if random:
        raise UserError(
            f"{random[0]} is not loaded from the checkpoint (model.init_ignore) and not trained "
            "(model.train_last_layers, model.train_projections_only): it would stay random. Train all, or "
            "use model.lora_rank, with which frame MLP and convolutions are trained."
        )


def check_lora(rank: int, last_layers: int | None, projections_only: bool) -> None:
    """Raises UserError if model.lora_rank is combined with another choice of layers."""
    if rank and (projections_only or last_layers is not None):
        other = "train_projections_only" if projections_only else "train_last_layers"
        raise UserError(
            f"model.lora_rank and model.{other} contradict: LoRA trains adapters in all layers, and no layer "
            "itself. Keep one of them (to adapt the video tower alone: model.freeze_text=true)."
        )


def _parts(model: nn.Module, names: tuple[str, ...]) -> list[tuple[str, nn.Module]]:
    """The modules with one of these names, in every model of an ensemble."""
    return [(path, part) for path, part in model.named_modules() if path.rpartition(".")[2] in names]


def need_peft() -> None:
    """Raises MissingDataError if peft is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise MissingDataError(
            "model.lora_rank needs peft, which is not installed: `pip install -r requirements-train.txt`, or "
            "`pip install peft`. Only training needs it, not evaluation or embedding."
        )


def add_adapters(model: nn.Module, rank: int) -> None:
    """Add adapters of this rank (model.lora_rank) to the BERT of every tower that is not frozen, in place.

    Call it after the pretrained weights are loaded: it renames adapted weights (`query.weight` ->
    `query.base_layer.weight`). B starts at zero, so embeddings do not change. From then on only the adapters
    of a BERT are trained. Frame MLP, convolutions, projections and learnt pooling are trained as before: they
    are small, depend on the features, and may not have been pretrained (model.init_ignore).

    Raises MissingDataError without peft, UserError if the rank is larger than a tower is wide, or if every
    tower is frozen.
    """
    need_peft()
    towers = [module for module in model.modules() if isinstance(module, BertModel)]
    towers = [bert for bert in towers if any(p.requires_grad for p in bert.parameters())]
    if not towers:
        raise UserError("model.lora_rank: every tower is frozen, so no adapter can be added.")
    for bert in towers:
        width = bert.settings.hidden_size
        if rank > width:
            raise UserError(
                f"model.lora_rank is {rank}, but a tower has width {width}: expected at most {width}; 4 to "
                "64 is usual."
            )
        _inject(bert, rank)


def _inject(bert: BertModel, rank: int) -> None:
    from peft import LoraConfig, inject_adapter_in_model  # imports half of transformers

    # lora_alpha = rank makes it W + B A without a factor, so merging needs no option
    config: Any = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, bias="none", target_modules=TARGETS)
    inject_adapter_in_model(config, bert)

"""What of a model is trained when it starts from another's weights: everything, or less."""

from collections.abc import Collection

from torch import nn

from mmpt.models.bert import BertEncoder
from mmpt.utils.errors import UserError

_TOWERS = ("video_encoder", "text_encoder", "mm_encoder")
_PROJECTIONS = ("video_projection", "text_projection", "video_pooling")
_OF_FRAMES = {"videomlp", "videoconv"}
"""Parts of a video tower that no text model fills: without a checkpoint they are random."""


def freeze(model: nn.Module, last_layers: int | None, projections_only: bool, lora_rank: int = 0) -> None:
    """Leave out of training what the config says.

    last_layers (model.train_last_layers): of each tower only so many layers, counted from its output, are
    trained, with projections and learnt pooling; None: all. projections_only (model.train_projections_only):
    no layer of either tower. A tower that is frozen already stays so. lora_rank (model.lora_rank): adapters
    are put in later, when the weights are there (add_adapters); here it is only checked that it goes with the
    others. Raises UserError where nothing would be trained, or a tower has fewer layers.
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
        if not any(parameter.requires_grad for parameter in tower.parameters()):
            continue
        tower.requires_grad_(False)
        layers = next(module for module in tower.modules() if isinstance(module, BertEncoder)).layer
        if last_layers is None:
            continue
        if last_layers > len(layers):
            raise UserError(
                f"model.train_last_layers is {last_layers}, but {name} has {len(layers)} layers: leave it "
                "out to train everything."
            )
        for layer in list(layers)[len(layers) - last_layers :]:
            layer.requires_grad_(True)


def check_filled(model: nn.Module, left_out: Collection[str]) -> None:
    """Raises UserError if what the checkpoint did not fill of a tower's frame MLP and convolutions (left_out,
    by model.init_ignore) is not trained either."""
    drawn = [
        name
        for name, parameter in model.named_parameters()
        if name in left_out and not parameter.requires_grad and _OF_FRAMES & set(name.split("."))
    ]
    if drawn:
        raise UserError(
            f"{drawn[0]} is not taken from the checkpoint (model.init_ignore) and not trained "
            "(model.train_last_layers, model.train_projections_only): it would stay random. Train all, or "
            "take model.lora_rank, with which frame MLP and convolutions are trained."
        )


def check_lora(rank: int, last_layers: int | None, projections_only: bool) -> None:
    """Raises UserError if adapters (model.lora_rank) are asked for along with another choice of layers."""
    if rank and (projections_only or last_layers is not None):
        other = "train_projections_only" if projections_only else "train_last_layers"
        raise UserError(
            f"model.lora_rank and model.{other} contradict: adapters are trained in all layers, and no layer "
            "itself is. Keep one of them (to adapt the video tower alone: model.freeze_text=true)."
        )


def _parts(model: nn.Module, names: tuple[str, ...]) -> list[tuple[str, nn.Module]]:
    """The modules of a model, or of its members, that have one of these names."""
    return [(path, part) for path, part in model.named_modules() if path.rpartition(".")[2] in names]

"""Merge low-rank adapters (LoRA) of a state dict into its weights. Uses peft's names, but not peft."""

from collections.abc import Mapping

from torch import Tensor

from mmpt.utils.errors import UserError

_BASE = ".base_layer."
_A, _B = ".lora_A.default.weight", ".lora_B.default.weight"


def merge_adapters(state: Mapping[str, Tensor], where: str = "the checkpoint") -> dict[str, Tensor]:
    """Add each adapter to its weight, W + B A; returns weights by parameter name.

    A state dict without adapters is returned unchanged. Raises UserError if an adapter is incomplete.
    """
    merged = {name.replace(_BASE, "."): tensor for name, tensor in state.items() if ".lora_" not in name}
    for name in (name for name in state if ".lora_" in name):
        layer, _, _ = name.partition(".lora_")
        down, up, weight = (state.get(layer + part) for part in (_A, _B, f"{_BASE}weight"))
        if name not in (layer + _A, layer + _B) or down is None or up is None or weight is None:
            raise UserError(
                f"{where} has {name}, of a LoRA adapter that is incomplete or of an unknown kind "
                "(expected those of model.lora_rank)."
            )
        if name.endswith(_A):
            merged[f"{layer}.weight"] = weight + up @ down
    return merged

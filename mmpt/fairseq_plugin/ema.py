"""EMA weights (exponential moving average of the weights), without the cost of what is not trained."""

import copy
from typing import Any

import torch
from fairseq.models.ema import EMA
from torch import nn


class TrainedEMA(EMA):
    """fairseq's EMA, of the parameters that are trained; the averages are the same to the digit.

    Frozen parameters are those of the model itself: no second copy in memory or in a checkpoint. fairseq
    copies and averages all parameters, one at a time. Not for `ema_fp32` and `ema_seed_model`.

    Args: as fairseq's.
    """

    def __init__(self, model: nn.Module, config: Any, device: torch.device | None = None):
        self.config = config
        self.decay = config.ema_decay
        self.update_freq_counter = 0
        self.skip_keys: set[str] = set()
        self.fp32_params: dict[str, torch.Tensor] = {}
        averaged = _averaged(model)
        everything = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        shared = {id(tensor): tensor for name, tensor in everything.items() if name not in averaged}
        self.model = copy.deepcopy(model, shared).requires_grad_(False).to(device)
        copies = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        self._current = list(averaged.values())
        self._averages = [copies[name] for name in averaged]
        self._frozen = {name for name, tensor in model.named_parameters() if name not in averaged}

    def restore(self, state_dict: dict[str, Any], build_fp32_params: bool = False) -> None:
        """Load the averages of a checkpoint; frozen parameters stay the model's."""
        kept = {name: tensor for name, tensor in state_dict.items() if name not in self._frozen}
        self.model.load_state_dict(kept, strict=False)

    @torch.no_grad()
    def _step_internal(self, new_model: nn.Module, updates: int | None = None) -> None:
        torch._foreach_mul_(self._averages, self.decay)
        torch._foreach_add_(self._averages, self._current, alpha=1 - self.decay)


def _averaged(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a model that change in training, by name."""
    saved = model.state_dict().keys()
    trained = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
    buffers = {
        name: tensor for name, tensor in model.named_buffers() if name in saved and tensor.is_floating_point()
    }
    return trained | buffers


def build_ema(model: nn.Module, config: Any, device: torch.device) -> EMA:
    """The EMA of a model: TrainedEMA, or fairseq's own for options that it does not have."""
    plain = config.ema_fp32 or config.ema_seed_model is not None
    return (EMA if plain else TrainedEMA)(model, config, device)

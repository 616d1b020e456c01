"""Compute several small modules of one shape as one: a few large products instead of many small ones."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mmpt.models import bert, clip_windows, layers, pooling, projection, video_bert
from mmpt.models.bert_settings import ACTIVATIONS
from mmpt.models.layers import Dropout

_TYPES = {
    *(projection.Space, projection.Projection, pooling.MeanPooling, nn.Identity),
    clip_windows.ClipWindows,
    *(video_bert.MMBertForEncoder, video_bert.VideoTokenMLP),
    *(bert.BertModel, bert.BertEmbeddings, bert.BertEncoder, bert.BertLayer, bert.BertAttention),
    *(bert.BertSelfAttention, bert.BertIntermediate, bert.ResidualOutput, bert.BertPooler, nn.ModuleList),
    *(layers.Linear, layers.LayerNorm, layers.Embedding, Dropout, *ACTIVATIONS.values()),
}
"""Modules that compute with stacked weights."""
_LARGEST = 2_000_000
"""Parameters of a module above which stacking the weights costs more than it saves on a CPU."""


def can_stack(modules: Sequence[nn.Module]) -> bool:
    """Whether run_stacked gives what the modules give one at a time, sooner.

    Only in training: weights are put into the first module meanwhile, which other threads must not see. With
    one thread of torch on a CPU it would not be sooner: the values of one module fit into the cache.
    """
    return (
        len(modules) > 1
        and modules[0].training
        and (
            torch.get_num_threads() > 1 or any(each.device.type != "cpu" for each in modules[0].parameters())
        )
        and _alike(modules)
    )


def stacked_copy(modules: Sequence[nn.Module]) -> nn.Module | None:
    """A module that computes what the modules compute one at a time, [M, ...], for evaluation.

    Its weights are copies of the modules', stacked. None if they are not of one shape, or too large.
    """
    if len(modules) < 2 or not _alike(modules):
        return None
    together = copy.deepcopy(modules[0]).eval()
    named = [dict(module.named_parameters()) for module in modules]
    for name in named[0]:
        owner, _, last = name.rpartition(".")
        weights = torch.stack([each[name].detach() for each in named])
        setattr(together.get_submodule(owner), last, nn.Parameter(weights, requires_grad=False))
    return together


def _alike(modules: Sequence[nn.Module]) -> bool:
    """Whether the modules are of one shape, small, and of types that compute with stacked weights."""
    parts = [part for module in modules for part in module.modules()]
    shapes = [[(name, p.shape) for name, p in module.named_parameters()] for module in modules]
    return (
        bool(shapes[0])
        and all(shape == shapes[0] for shape in shapes)
        and sum(shape.numel() for _, shape in shapes[0]) <= _LARGEST
        and all(type(part) in _TYPES for part in parts)
        and all(getattr(part, "packed", True) for part in parts)
        and not any(getattr(part, "checkpointing", False) for part in parts)
        and not any(part._compiled_call_impl for part in parts)
    )


def run_stacked(modules: Sequence[nn.Module], *args: Any) -> Tensor:
    """The results of M modules that take the same arguments and return one tensor each: [M, ...].

    In training on a CPU, dropout draws the numbers that the modules would draw one after the other.
    """
    named = [dict(module.named_parameters()) for module in modules]
    weights = {name: torch.stack([each[name] for each in named]) for name in named[0]}
    result: Tensor = functional_call(modules[0], weights, args)
    return result

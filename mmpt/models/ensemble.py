"""An ensemble that is trained, saved and used as one model (Lakshminarayanan et al. 2017).

https://arxiv.org/abs/1612.01474. Small models of one shape are computed as one: a few large products instead
of many small ones.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mmpt.models import bert, layers, pooling, video_bert
from mmpt.models.bert import BertModel
from mmpt.models.bert_settings import ACTIVATIONS
from mmpt.models.clip_windows import ClipWindows, WindowOptions
from mmpt.models.dual_encoder import Projection, Space, WithTextTower
from mmpt.models.layers import Dropout
from mmpt.models.prompts import Prompts
from mmpt.models.signwriting_bert import SignWritingBert
from mmpt.models.video_bert import MMBertForEncoder

_SHORT = 256
"""Frames of a batch, with padding, up to which one module with all weights is faster on a CPU."""
_TYPES = {
    *(Space, Projection, pooling.MeanPooling, ClipWindows, nn.Identity),
    *(MMBertForEncoder, video_bert.VideoTokenMLP),
    *(BertModel, bert.BertEmbeddings, bert.BertEncoder, bert.BertLayer, bert.BertAttention),
    *(bert.BertSelfAttention, bert.BertIntermediate, bert.ResidualOutput, bert.BertPooler, nn.ModuleList),
    *(layers.Linear, layers.LayerNorm, layers.Embedding, Dropout, *ACTIVATIONS.values()),
}
"""Modules that compute with stacked weights."""
_LARGEST = 2_000_000
"""Parameters of a module above which stacking the weights costs more than it saves on a CPU."""


class MMFusionEnsemble(WithTextTower):
    """Several video towers, each with its own projections, that share one text tower (model.ensemble_size).

    The embeddings of the ensemble's models are concatenated: [B, ensemble_size * H]. The dot product of two
    embeddings is therefore the sum of the models' dot products. With projection "l2_norm" each model's part
    has unit length, and cosine similarity is the mean of the models' cosine similarities. The models
    differ in their random initialisation and dropout. The loss is computed per model (EnsembleLoss).

    Args: as MMFusionSeparate, with one video tower for each model.
    """

    def __init__(
        self,
        video_encoders: Sequence[MMBertForEncoder],
        text_encoder: BertModel | SignWritingBert,
        *,
        projection: bool | str = False,
        pooling: str = "mean",
        freeze_text: bool = False,
        windows: WindowOptions | None = None,
    ):
        super().__init__()
        settings = text_encoder.settings
        spaces = [Space(tower, settings, projection, pooling, windows) for tower in video_encoders]
        self.windows = windows
        self.members = nn.ModuleList(spaces)  # the parameter names of saved checkpoints begin with `members.`
        self._take_text_tower(text_encoder, freeze_text)
        self._together: tuple[nn.Module | None] = (None,)  # in a tuple: no part of the saved model

    @property
    def hidden_size(self) -> int:
        """Embedding dimension: that of one model times the number of models."""
        return len(self.members) * self.text_settings.hidden_size

    def prepare_for_short_batches(self) -> None:
        """See DualEncoder: up to _SHORT frames are embedded by one module with copied weights."""
        self._together = (stacked_copy(list(self.members)),)

    def _embed_clips(self, vfeats: Tensor, vmasks: Tensor, frames: Sequence[int] | None = None) -> Tensor:
        together = None if self.training else self._together[0]
        if together is not None and vmasks.numel() <= _SHORT:
            return together(vfeats, vmasks, frames).transpose(0, 1).flatten(1)
        return _concatenated(list(self.members), vfeats, vmasks, frames)

    def _embed_prompts(self, caps: Tensor, cmasks: Tensor, prompts: Prompts | None = None) -> Tensor:
        pooled = super()._embed_prompts(caps, cmasks, prompts)
        return _concatenated([space.get_submodule("text_projection") for space in self.members], pooled)


def _concatenated(modules: Sequence[nn.Module], *args: Any) -> Tensor:
    """The modules' results [B, H] for the same arguments, as [B, M * H]."""
    if not can_stack(modules):
        return torch.cat([module(*args) for module in modules], -1)
    return run_stacked(modules, *args).transpose(0, 1).flatten(1)


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

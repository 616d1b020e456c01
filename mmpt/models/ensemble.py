"""An ensemble that is trained, saved and used as one model (Lakshminarayanan et al. 2017).

https://arxiv.org/abs/1612.01474. Small models of one shape are computed as one: a few large products instead
of many small ones.
"""

import copy
import functools
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
from mmpt.utils.distributed import world_size

_SHORT = 256
"""Frames of a batch, with padding, up to which one module with all weights is faster on a CPU."""
_TYPES = {
    *(Space, Projection, pooling.MeanPooling, ClipWindows, nn.Identity),
    *(MMBertForEncoder, video_bert.VideoTokenMLP),
    *(BertModel, bert.BertEmbeddings, bert.BertEncoder, bert.BertLayer, bert.BertAttention),
    *(bert.BertSelfAttention, bert.BertIntermediate, bert.ResidualOutput, bert.BertPooler, nn.ModuleList),
    *(layers.Linear, layers.LayerNorm, layers.Embedding, Dropout),
    *(type(make()) for make in ACTIVATIONS.values()),
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
        self._stack = SharedStack(spaces)
        self._same: bool | None = None

    @property
    def hidden_size(self) -> int:
        """Embedding dimension: that of one model times the number of models."""
        return len(self.members) * self.text_settings.hidden_size

    def prepare_for_short_batches(self) -> None:
        """See DualEncoder: up to _SHORT frames are embedded by one module with copied weights."""
        self._together = (stacked_copy(list(self.members)),)

    def train(self, mode: bool = True) -> "MMFusionEnsemble":
        """As nn.Module.train. The next batch checks again whether the models have one shape."""
        super().train(mode)
        self._same = None
        return self

    def computes_as_one(self) -> bool:
        """Whether a batch is computed by one module with the weights of all, [M, ...].

        The results are the same. Only in training, or if no other thread uses the model, since the weights
        are put into the first module meanwhile. With one thread of torch on a CPU it is not faster: the
        values of one module fit into the cache.
        """
        if not (self.training or self.exclusive) or torch.is_inference_mode_enabled():
            return False
        if torch.get_num_threads() == 1 and next(self.parameters()).device.type == "cpu":
            return False
        if self._same is None:
            self._same = len(self.members) > 1 and _alike(list(self.members))
            self._stack = SharedStack(list(self.members))
        return self._same

    def _embed_clips(self, vfeats: Tensor, vmasks: Tensor, frames: Sequence[int] | None = None) -> Tensor:
        together = None if self.training else self._together[0]
        if together is not None and vmasks.numel() <= _SHORT:
            return together(vfeats, vmasks, frames).transpose(0, 1).flatten(1)
        return self._concatenated("", vfeats, vmasks, frames)

    def _embed_prompts(self, caps: Tensor, cmasks: Tensor, prompts: Prompts | None = None) -> Tensor:
        return self._concatenated("text_projection", super()._embed_prompts(caps, cmasks, prompts))

    def _concatenated(self, part: str, *args: Any) -> Tensor:
        """Results [B, H] of a part of each model ("": the model), for the same arguments: [B, M * H]."""
        modules = [space.get_submodule(part) for space in self.members]
        if not self.computes_as_one() or not any(True for _ in modules[0].parameters()):
            return torch.cat([module(*args) for module in modules], -1)
        # elsewhere the parameters themselves are differentiated: torch.autograd.grad, DistributedDataParallel
        shares = self.exclusive and world_size() == 1
        weights = self._stack.weights(part) if shares else stacked(modules)
        return run_stacked(modules[0], weights, *args).transpose(0, 1).flatten(1)


def stacked_copy(modules: Sequence[nn.Module]) -> nn.Module | None:
    """A module that computes what the modules compute one at a time, [M, ...], for evaluation.

    Its weights are copies of the modules', stacked. None if they are not of one shape, or too large.
    """
    if len(modules) < 2 or not _alike(modules):
        return None
    together = copy.deepcopy(modules[0]).eval()
    for name, weights in stacked(modules).items():
        owner, _, last = name.rpartition(".")
        setattr(together.get_submodule(owner), last, nn.Parameter(weights.detach(), requires_grad=False))
    return together


def _alike(modules: Sequence[nn.Module]) -> bool:
    """Whether the modules are of one shape, small, and of types that compute with stacked weights."""
    parts = [part for module in modules for part in module.modules()]
    shapes = [
        [(name, p.shape, p.requires_grad) for name, p in module.named_parameters()] for module in modules
    ]
    return (
        bool(shapes[0])
        and all(shape == shapes[0] for shape in shapes)
        and sum(shape.numel() for _, shape, _ in shapes[0]) <= _LARGEST
        and all(type(part) in _TYPES for part in parts)
        and all(getattr(part, "packed", True) for part in parts)
        and not any(getattr(part, "checkpointing", False) for part in parts)
        and not any(part._compiled_call_impl for part in parts)
    )


def stacked(modules: Sequence[nn.Module]) -> dict[str, Tensor]:
    """The parameters of M modules of one shape by name, each [M, ...]."""
    named = [dict(module.named_parameters()) for module in modules]
    return {name: torch.stack([each[name] for each in named]) for name in named[0]}


def run_stacked(module: nn.Module, weights: dict[str, Tensor], *args: Any) -> Tensor:
    """The results of M modules that take the same arguments and return one tensor each: [M, ...].

    module: the first of them; weights: the parameters of all, stacked. In training on a CPU, dropout draws
    the numbers that the modules would draw one after the other.
    """
    result: Tensor = functional_call(module, weights, args)
    return result


class SharedStack:
    """The parameters of M modules of one shape, stacked: [M, ...] each, without a copy in every step.

    The modules' trained parameters become rows of the stacked ones, and so do their gradients after a
    backward pass. Whatever reads or changes the modules' parameters (optimizer, EMA, checkpoints) works as
    before. Frozen parameters are copied in every step: two models may share them (see TrainedEMA).

    Args:
        modules: of one shape (see MMFusionEnsemble.computes_as_one), with the same parameters in every step.
    """

    def __init__(self, modules: Sequence[nn.Module]):
        self._modules = list(modules)
        self._rows: dict[str, list[nn.Parameter]] = {}
        self._weights: dict[str, Tensor] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies: the copied modules, whose parameters are rows of nothing yet."""
        return SharedStack, (self._modules,)

    def weights(self, part: str = "") -> dict[str, Tensor]:
        """The stacked parameters of a part of the modules by name, for a forward pass."""
        if not self._rows:
            named = [dict(module.named_parameters()) for module in self._modules]
            self._rows = {name: [each[name] for each in named] for name in named[0]}
        start = f"{part}." if part else ""
        return {
            name.removeprefix(start): self._stacked(name, rows)
            for name, rows in self._rows.items()
            if name.startswith(start)
        }

    def _stacked(self, name: str, rows: list[nn.Parameter]) -> Tensor:
        if not rows[0].requires_grad:
            return torch.stack(list(rows))
        weight = self._weights.get(name)
        if weight is None or not _shares(weight, rows):
            weight = self._weights[name] = _share(rows)
        _take_gradients(weight, rows)
        return weight


def _share(rows: list[nn.Parameter]) -> Tensor:
    """Make the parameters rows of one tensor that is trained in their place."""
    weight = torch.stack([row.detach() for row in rows])
    for row, shared in zip(rows, weight.unbind()):
        row.data = shared
    weight.requires_grad_().register_post_accumulate_grad_hook(functools.partial(_give_gradients, rows))
    return weight


def _shares(weight: Tensor, rows: Sequence[nn.Parameter]) -> bool:
    """Whether the parameters still are the rows of this tensor: nothing moved them or changed their type."""
    start, step = weight.data_ptr(), rows[0].nbytes
    return all(row.data_ptr() == start + i * step for i, row in enumerate(rows))


def _give_gradients(rows: Sequence[nn.Parameter], weight: Tensor) -> None:
    """After a backward pass: the rows of the gradient become the gradients of the rows."""
    assert weight.grad is not None
    for row, gradient in zip(rows, weight.grad.unbind()):
        if row.grad is not None and row.grad.data_ptr() != gradient.data_ptr():
            gradient += row.grad  # of a use of the parameter by itself
        row.grad = gradient


def _take_gradients(weight: Tensor, rows: Sequence[nn.Parameter]) -> None:
    """Before a backward pass, which adds to the gradient: make it that of the rows, if they have one."""
    if all(row.grad is None for row in rows):
        weight.grad = None
    elif weight.grad is None or not all(
        row.grad is not None and row.grad.data_ptr() == mine.data_ptr()
        for row, mine in zip(rows, weight.grad)
    ):
        weight.grad = torch.zeros_like(weight)
        _give_gradients(rows, weight)

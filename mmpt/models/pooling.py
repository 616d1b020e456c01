"""Pooling of packed tokens: one vector per sequence (see packing.py).

Arguments: hidden [N, H], one vector per token; sequences int64 [N], the sequence of each token; counted bool
[N], the tokens that are pooled; batch, the number of sequences. A sequence without a counted token gives
zeros.
"""

import torch
from torch import Tensor, nn

from mmpt.registry import Registry

POOLINGS: Registry[type[nn.Module]] = Registry("pooling")


def mean_of(hidden: Tensor, sequences: Tensor, counted: Tensor, batch: int) -> Tensor:
    """Mean over a sequence's counted tokens: [..., N, H] -> [..., batch, H], summed in float32 at least."""
    return _weighted_mean(hidden, counted.to(_accumulator(hidden)), sequences, batch)


def max_of(hidden: Tensor, sequences: Tensor, counted: Tensor, batch: int) -> Tensor:
    """Elementwise maximum over a sequence's counted tokens: [batch, H]."""
    index = sequences[:, None].expand(-1, hidden.shape[1])
    lowest = hidden.masked_fill(~counted[:, None], float("-inf"))
    highest = hidden.new_full((batch, hidden.shape[1]), float("-inf")).scatter_reduce(
        0, index, lowest, "amax"
    )
    return highest.masked_fill(highest == float("-inf"), 0)


def attention_of(hidden: Tensor, scores: Tensor, sequences: Tensor, counted: Tensor, batch: int) -> Tensor:
    """Mean over a sequence's counted tokens, weighted by the softmax of scores [N]: [batch, H]."""
    kind = _accumulator(hidden)
    scores = scores.to(kind)
    highest = scores.detach().new_full((batch,), torch.finfo(kind).min)
    lowest = scores.detach().masked_fill(~counted, torch.finfo(kind).min)
    highest = highest.scatter_reduce(0, sequences, lowest, "amax")
    weights = (scores - highest[sequences]).clamp(max=0).exp() * counted
    return _weighted_mean(hidden, weights, sequences, batch)


def _weighted_mean(hidden: Tensor, weights: Tensor, sequences: Tensor, batch: int) -> Tensor:
    kind = weights.dtype
    total = torch.zeros(*hidden.shape[:-2], batch, hidden.shape[-1], dtype=kind, device=hidden.device)
    total = total.index_add(-2, sequences, hidden.to(kind) * weights[:, None])
    weight = torch.zeros(batch, dtype=kind, device=hidden.device).index_add(0, sequences, weights)
    # the largest softmax weight is 1, and counts are at least 1: only empty sequences are clamped
    return (total / weight.clamp(min=1)[:, None]).to(hidden.dtype)


def _accumulator(hidden: Tensor) -> torch.dtype:
    return torch.promote_types(hidden.dtype, torch.float32)


@POOLINGS.register("mean")
class MeanPooling(nn.Module):
    """Mean over tokens, as in VideoCLIP. No parameters."""

    def __init__(self, width: int):
        super().__init__()

    def forward(self, hidden: Tensor, sequences: Tensor, counted: Tensor, batch: int) -> Tensor:
        """[N, H] -> [batch, H]."""
        return mean_of(hidden, sequences, counted, batch)


@POOLINGS.register("max")
class MaxPooling(nn.Module):
    """Maximum over tokens. No parameters."""

    def __init__(self, width: int):
        super().__init__()

    def forward(self, hidden: Tensor, sequences: Tensor, counted: Tensor, batch: int) -> Tensor:
        """[N, H] -> [batch, H]."""
        return max_of(hidden, sequences, counted, batch)


@POOLINGS.register("attention")
class AttentionPooling(nn.Module):
    """Weighted mean with a learnt score per token. Starts as the plain mean (scores are zero)."""

    def __init__(self, width: int):
        super().__init__()
        self.score = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, hidden: Tensor, sequences: Tensor, counted: Tensor, batch: int) -> Tensor:
        """[N, H] -> [batch, H]."""
        return attention_of(hidden, self.score(hidden).squeeze(-1), sequences, counted, batch)

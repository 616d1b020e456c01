"""From one vector a token to one vector a sequence. Pure functions; masked tokens never count."""

import torch
from torch import Tensor, nn

from mmpt.registry import Registry

POOLINGS: Registry[type[nn.Module]] = Registry("pooling")


def masked_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens whose mask is true. hidden [B, L, H], mask bool [B, L] -> [B, H].

    A row without any token gives zeros. Half precision is summed in float32.
    """
    weights = mask.to(_accumulator(hidden))
    total = torch.einsum("blh,bl->bh", hidden.to(weights.dtype), weights)
    return (total / weights.sum(1, keepdim=True).clamp(min=1)).to(hidden.dtype)


def masked_max(hidden: Tensor, mask: Tensor) -> Tensor:
    """Maximum of each number over the tokens whose mask is true. hidden [B, L, H], mask bool [B, L] -> [B,
    H].

    A row without any token gives zeros.
    """
    highest = hidden.masked_fill(~mask[..., None], float("-inf")).amax(1)
    return torch.where(mask.any(1, keepdim=True), highest, torch.zeros_like(highest))


def masked_attention(hidden: Tensor, mask: Tensor, scores: Tensor) -> Tensor:
    """Mean weighted by softmax(scores) over the tokens whose mask is true.

    hidden [B, L, H], mask bool [B, L], scores [B, L] -> [B, H]. A row without any token gives zeros.
    """
    kind = _accumulator(hidden)
    lowest = torch.finfo(kind).min  # not -inf: softmax of a row without any token stays defined
    weights = scores.to(kind).masked_fill(~mask, lowest).softmax(-1) * mask
    return torch.einsum("blh,bl->bh", hidden.to(kind), weights).to(hidden.dtype)


def _accumulator(hidden: Tensor) -> torch.dtype:
    return torch.promote_types(hidden.dtype, torch.float32)


@POOLINGS.register("mean")
class MeanPooling(nn.Module):
    """The ancestor's pooling. No parameters."""

    def __init__(self, width: int):
        super().__init__()

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        return masked_mean(hidden, mask)


@POOLINGS.register("max")
class MaxPooling(nn.Module):
    """Maximum over tokens. No parameters."""

    def __init__(self, width: int):
        super().__init__()

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        return masked_max(hidden, mask)


@POOLINGS.register("attention")
class AttentionPooling(nn.Module):
    """Weighted mean with one learnt score a token. Starts as the plain mean (the scores start at zero)."""

    def __init__(self, width: int):
        super().__init__()
        self.score = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        return masked_attention(hidden, mask, self.score(hidden).squeeze(-1))

"""Linear layer, LayerNorm and embedding that also compute with a stack of weights, one for each of M modules.

The modules of an ensemble are of one shape. With their weights stacked, [M, ...], one call computes all of
them (see stacking.py). Each module's results are those it computes alone: to the digit in one thread, and up
to rounding where a product is split over threads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def linear(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[N, I] -> [N, O] with weight [O, I]; with weight [M, O, I], [N, I] or [M, N, I] -> [M, N, O]."""
    if weight.ndim == 2:
        return F.linear(values, weight, bias)
    each = values.expand(len(weight), -1, -1)
    if bias is None:
        return torch.bmm(each, weight.transpose(1, 2))
    return torch.baddbmm(bias[:, None], each, weight.transpose(1, 2))


class Linear(nn.Linear):
    """nn.Linear; see `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., I] -> [..., O]."""
        return linear(input, self.weight, self.bias)


class LayerNorm(nn.LayerNorm):
    """nn.LayerNorm over the last dimension."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., H] -> [..., H]; with weights [M, H], [M, N, H] -> [M, N, H]."""
        if self.weight.ndim == 1:
            return super().forward(input)
        each = zip(input, self.weight, self.bias)
        return torch.stack([F.layer_norm(x, self.normalized_shape, w, b, self.eps) for x, w, b in each])


class Embedding(nn.Embedding):
    """nn.Embedding."""

    def forward(self, input: Tensor) -> Tensor:
        """Ids int64 [...] -> [..., H]; with weight [M, V, H] -> [M, ..., H]."""
        if self.weight.ndim == 2:
            return super().forward(input)
        count, rows, width = self.weight.shape
        first = torch.arange(0, count * rows, rows, device=input.device)
        ids = input + first.view(-1, *[1] * input.ndim)
        return F.embedding(ids, self.weight.reshape(count * rows, width))

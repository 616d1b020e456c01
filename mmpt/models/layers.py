"""Linear layer, LayerNorm, embedding and dropout of the towers.

The first three also compute with a stack of weights, one for each of M modules. The modules of an ensemble
are of one shape. With their weights stacked, [M, ...], one call computes all of them (see ensemble.py). Each
module's results are those it computes alone: to the digit in one thread, and up to rounding where a product
is split over threads.

Dropout (Srivastava et al. 2014) draws two random bytes per element on a CPU. There torch draws one double per
element in one thread, a quarter of a training step of a small BERT.
"""

from collections.abc import Sequence
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 1 << 16
LOWEST = -(1 << 15)
_PER_WORD = 4


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


class Dropout(nn.Dropout):
    """nn.Dropout, faster on a CPU.

    There the rate is rounded to a multiple of 1/65536, and kept elements are scaled by the rounded rate, so
    that the expectation is exact.

    Attributes:
        plain: use nn.Dropout on every device, for comparison.
    """

    plain = False

    def forward(self, input: Tensor) -> Tensor:
        """Tensor of any shape -> the same shape."""
        if self.plain or not self.training or self.p == 0 or input.device.type != "cpu":
            return super().forward(input)
        return quick_dropout(input, self.p)


def quick_dropout(values: Tensor, rate: float) -> Tensor:
    """Set a share `rate` of the elements to zero and divide the others by 1 - rate. Uses torch's CPU RNG."""
    cut = round(rate * LEVELS)
    if cut >= LEVELS:
        return values * 0
    ahead = _ahead.get()
    numbers = (
        _draw(1, [values.numel()])[:, : values.numel()] if ahead is None else ahead.take(values[0].numel())
    )
    # into floats at once: turning booleans into floats takes several times as long
    kept = values.new_empty(values.shape)
    torch.ge(numbers.reshape(values.shape), LOWEST + cut, out=kept)
    return values * kept.mul_(LEVELS / (LEVELS - cut))


class DrawnAhead:
    """Random numbers for the dropout of M modules that are computed as one (see ensemble.py).

    Within the block each dropout of values [M, ...] takes the numbers that the modules would draw if they
    were computed one after the other. sizes: elements of each dropout of one module, in order.
    """

    def __init__(self, count: int, sizes: Sequence[int]):
        self._numbers = _draw(count, sizes)
        self._sizes = iter(sizes)
        self._at = 0

    def take(self, size: int) -> Tensor:
        """Numbers for the next dropout, int16 [M, size]."""
        assert next(self._sizes) == size, "not the dropout that numbers were drawn for"
        start, self._at = self._at, self._at + _words(size) * _PER_WORD
        return self._numbers[:, start : start + size]

    def __enter__(self) -> None:
        self._token = _ahead.set(self)

    def __exit__(self, *error: object) -> None:
        _ahead.reset(self._token)
        assert error[0] is not None or next(self._sizes, None) is None, "numbers are left over"


_ahead: ContextVar[DrawnAhead | None] = ContextVar("_ahead", default=None)


def _words(size: int) -> int:
    return -(-size // _PER_WORD)


def _draw(count: int, sizes: Sequence[int]) -> Tensor:
    """Random int16 [count, ...] of dropouts of these sizes, each of which uses whole 64-bit words."""
    words = torch.empty(count, sum(map(_words, sizes)), dtype=torch.int64)
    return words.random_(-(1 << 63), None).view(torch.int16)

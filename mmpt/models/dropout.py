"""Dropout (Srivastava et al. 2014) that does not wait for random numbers on a CPU.

torch draws one double a number there, from one thread: in a small BERT a quarter of a training step. Two
random bytes a number are enough.
"""

import torch
from torch import Tensor, nn

LEVELS = 1 << 16
LOWEST = -(1 << 15)


class Dropout(nn.Dropout):
    """nn.Dropout; on a CPU the rate is rounded to a multiple of 1/65536, and what is kept is scaled by the
    rounded rate, so that the expectation is exact.

    Attributes:
        plain: do as nn.Dropout does on every device, for comparison.
    """

    plain = False

    def forward(self, input: Tensor) -> Tensor:
        if self.plain or not self.training or self.p == 0 or input.device.type != "cpu":
            return super().forward(input)
        return quick_dropout(input, self.p)


def quick_dropout(values: Tensor, rate: float) -> Tensor:
    """Zeros instead of a share `rate` of the numbers, the others divided by 1 - rate. Draws from torch's CPU
    generator."""
    cut = round(rate * LEVELS)
    if cut >= LEVELS:
        return values * 0
    words = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
    kept = words.view(torch.int16)[: values.numel()].view(values.shape) >= LOWEST + cut
    return values * kept.to(values.dtype).mul_(LEVELS / (LEVELS - cut))

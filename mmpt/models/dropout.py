"""Fast dropout (Srivastava et al. 2014) on a CPU.

There torch draws one double per element in one thread, a quarter of a training step of a small BERT. This
draws two random bytes per element.
"""

import torch
from torch import Tensor, nn

LEVELS = 1 << 16
LOWEST = -(1 << 15)


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
    words = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
    kept = words.view(torch.int16)[: values.numel()].view(values.shape) >= LOWEST + cut
    return values * kept.to(values.dtype).mul_(LEVELS / (LEVELS - cut))

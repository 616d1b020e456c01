"""I3D of BSL-1K: a 1024-dimensional embedding per window of 16 frames.

The network of Carreira & Zisserman, "Quo Vadis, Action Recognition?" (CVPR 2017; Inception-v1 inflated to
3D), as trained on British Sign Language by Albanie et al., "BSL-1K" (ECCV 2020). State-dict keys are those of
`bsl5k.pth.tar` (5383 signs) without its `module.` prefix.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmpt.extractors.networks.layers import ConvBlock, FrozenNetwork, StemBlock, max_pool, max_pool_same
from mmpt.utils.errors import UserError


def same_padding(size: int, kernel: int, stride: int) -> int:
    """Zeros before an axis for ceil(size / stride) output positions: the smaller half of the padding."""
    return max(kernel - (size % stride or stride), 0) // 2


class Unit3D(ConvBlock):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int = 1):
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, outputs, size, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=1e-3)


class Stem(StemBlock):
    """The first 7x7x7 convolution of stride 2, and the max pool after it."""

    def __init__(self, outputs: int):
        super().__init__()
        self.conv3d = nn.Conv3d(3, outputs, 7, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=1e-3)

    def padding(self, size: tuple[int, int, int]) -> tuple[tuple[int, int, int], tuple[int, int]]:
        t, h, w = (same_padding(length, 7, 2) for length in size)
        pool_h, pool_w = (same_padding(-(-length // 2), 3, 2) for length in size[1:])
        return (t, h, w), (pool_h, pool_w)


class Inception(nn.Module):
    """Four branches side by side."""

    def __init__(self, inputs: int, b0: int, b1a: int, b1b: int, b2a: int, b2b: int, b3b: int):
        super().__init__()
        self.b0 = Unit3D(inputs, b0)
        self.b1a = Unit3D(inputs, b1a)
        self.b1b = Unit3D(b1a, b1b, 3)
        self.b2a = Unit3D(inputs, b2a)
        self.b2b = Unit3D(b2a, b2b, 3)
        self.b3b = Unit3D(inputs, b3b)

    def forward(self, x: Tensor) -> Tensor:
        """x [N, T, H, W, inputs] -> [N, T, H, W, b0 + b1b + b2b + b3b]."""
        branches = (self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(max_pool_same(x)))
        return torch.cat(branches, dim=-1)


class Classifier(nn.Module):
    """The 1x1x1 convolution that names the sign."""

    def __init__(self, inputs: int, classes: int):
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, classes, 1)

    def forward(self, embeddings: Tensor) -> Tensor:
        """[N, inputs] -> [N, classes]."""
        return F.linear(embeddings, self.conv3d.weight.flatten(1), self.conv3d.bias)


class I3D(FrozenNetwork):
    """Windows of 16 frames -> 1024 non-negative numbers; `logits` maps these to the logits of the signs."""

    def __init__(self, num_classes: int = 5383):
        super().__init__()
        self.logits = Classifier(1024, num_classes)
        self.Conv3d_1a_7x7 = Stem(64)
        self.Conv3d_2b_1x1 = Unit3D(64, 64)
        self.Conv3d_2c_3x3 = Unit3D(64, 192, 3)
        self.Mixed_3b = Inception(192, 64, 96, 128, 16, 32, 32)
        self.Mixed_3c = Inception(256, 128, 128, 192, 32, 96, 64)
        self.Mixed_4b = Inception(480, 192, 96, 208, 16, 48, 64)
        self.Mixed_4c = Inception(512, 160, 112, 224, 24, 64, 64)
        self.Mixed_4d = Inception(512, 128, 128, 256, 24, 64, 64)
        self.Mixed_4e = Inception(512, 112, 144, 288, 32, 64, 64)
        self.Mixed_4f = Inception(528, 256, 160, 320, 32, 128, 128)
        self.Mixed_5b = Inception(832, 256, 160, 320, 32, 128, 128)
        self.Mixed_5c = Inception(832, 384, 192, 384, 48, 128, 128)

    @staticmethod
    def pool(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
        """Max pool padded as the convolutions are."""
        t, h, w = (same_padding(x.shape[1 + i], kernel[i], stride[i]) for i in range(3))
        return max_pool(x, kernel, stride, (t, h, w))

    def forward(self, frames: Tensor) -> Tensor:
        """Frames [N, 3, T, H, W] in [-0.5, 0.5] -> float32 [N, 1024], the mean over time and space.

        At the published T = 16 and H = W = 224 that mean is the network's own average pool of 2x7x7. Raises
        UserError for another number of axes or colours.
        """
        if frames.dim() != 5 or frames.shape[1] != 3 or 0 in frames.shape:
            raise UserError(f"I3D got frames of shape {list(frames.shape)}; it takes [N, 3, T, H, W].")
        x = frames.to(self.dtype).permute(0, 2, 3, 4, 1)
        x = self.Conv3d_1a_7x7(x)
        x = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x))
        x = self.pool(x, (1, 3, 3), (1, 2, 2))
        x = self.Mixed_3c(self.Mixed_3b(x))
        x = self.pool(x, (3, 3, 3), (2, 2, 2))
        x = self.Mixed_4d(self.Mixed_4c(self.Mixed_4b(x)))
        x = self.Mixed_4f(self.Mixed_4e(x))
        x = self.pool(x, (2, 2, 2), (2, 2, 2))
        x = self.Mixed_5c(self.Mixed_5b(x))
        return x.mean((1, 2, 3), dtype=torch.float32)

"""S3D of HowTo100M: a 512-dimensional embedding per second of video.

The network of Xie et al., "Rethinking Spatiotemporal Feature Learning" (ECCV 2018; S3D-G: separable
convolutions and self-gating) with the space-to-depth stem and the linear head of Miech et al., "End-to-End
Learning of Visual Representations from Uncurated Instructional Videos" (CVPR 2020). State-dict keys are those
of `s3d_howto100m.pth`.
"""

import torch
from torch import Tensor, nn

from mmpt.extractors.networks.layers import ConvBlock, FrozenNetwork, StemBlock, max_pool, max_pool_same
from mmpt.utils.errors import UserError


class Separable(ConvBlock):
    """One convolution, or a 1xKxK one and a Kx1x1 one in turn, each with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int = 1):
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, (1, size, size), bias=False)
        self.bn1 = nn.BatchNorm3d(outputs)
        if size > 1:
            self.conv2 = nn.Conv3d(outputs, outputs, (size, 1, 1), bias=False)
            self.bn2 = nn.BatchNorm3d(outputs)


class SpaceToDepthStem(StemBlock):
    """The published first layer: 2x2x2 blocks of pixels as 24 channels, then a 2x4x4 convolution.

    That is a 4x8x8 convolution of stride 2 on the pixels themselves, and is computed so.
    """

    def __init__(self, outputs: int):
        super().__init__()
        self.conv1 = nn.Conv3d(24, outputs, (2, 4, 4), bias=False)
        self.bn1 = nn.BatchNorm3d(outputs)

    def pixel_weight(self, weight: Tensor) -> Tensor:
        """[O, 24, 2, 4, 4], the 24 being (time, height, width, colour), -> [O, 3, 4, 8, 8]."""
        blocks = weight.unflatten(1, (2, 2, 2, 3)).permute(0, 4, 5, 1, 6, 2, 7, 3)
        return blocks.flatten(6, 7).flatten(4, 5).flatten(2, 3)

    def padding(self, size: tuple[int, int, int]) -> tuple[tuple[int, int, int], tuple[int, int]]:
        return (0, 2, 2), (0, 0)


class Gate(nn.Module):
    """Self-gating: each channel times the sigmoid of a linear map of all channels' means."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """x [N, T, H, W, C] -> the same shape; x itself is overwritten where no gradient is asked for."""
        weight = torch.sigmoid(self.fc(x.mean((1, 2, 3), dtype=torch.float32)))
        weight = weight.to(x.dtype)[:, None, None, None]
        return x * weight if torch.is_grad_enabled() else x.mul_(weight)


class Mixed(nn.Module):
    """An inception block of four gated branches."""

    def __init__(self, inputs: int, b0: int, b1_a: int, b1: int, b2_a: int, b2: int, b3: int):
        super().__init__()
        self.conv_b0 = Separable(inputs, b0)
        self.conv_b1_a = Separable(inputs, b1_a)
        self.conv_b1_b = Separable(b1_a, b1, 3)
        self.conv_b2_a = Separable(inputs, b2_a)
        self.conv_b2_b = Separable(b2_a, b2, 3)
        self.conv_b3_b = Separable(inputs, b3)
        self.gating_b0 = Gate(b0)
        self.gating_b1 = Gate(b1)
        self.gating_b2 = Gate(b2)
        self.gating_b3 = Gate(b3)

    def forward(self, x: Tensor) -> Tensor:
        """x [N, T, H, W, inputs] -> [N, T, H, W, b0 + b1 + b2 + b3]."""
        branches = (
            self.gating_b0(self.conv_b0(x)),
            self.gating_b1(self.conv_b1_b(self.conv_b1_a(x))),
            self.gating_b2(self.conv_b2_b(self.conv_b2_a(x))),
            self.gating_b3(self.conv_b3_b(max_pool_same(x))),
        )
        return torch.cat(branches, dim=-1)


class S3D(FrozenNetwork):
    """The video half of MIL-NCE's S3D-G: frames -> the joint embedding of 512 numbers."""

    def __init__(self, embedding_dim: int = 512):
        super().__init__()
        self.conv1 = SpaceToDepthStem(64)
        self.conv_2b = Separable(64, 64)
        self.conv_2c = Separable(64, 192, 3)
        self.gating = Gate(192)
        self.mixed_3b = Mixed(192, 64, 96, 128, 16, 32, 32)
        self.mixed_3c = Mixed(256, 128, 128, 192, 32, 96, 64)
        self.mixed_4b = Mixed(480, 192, 96, 208, 16, 48, 64)
        self.mixed_4c = Mixed(512, 160, 112, 224, 24, 64, 64)
        self.mixed_4d = Mixed(512, 128, 128, 256, 24, 64, 64)
        self.mixed_4e = Mixed(512, 112, 144, 288, 32, 64, 64)
        self.mixed_4f = Mixed(528, 256, 160, 320, 32, 128, 128)
        self.mixed_5b = Mixed(832, 256, 160, 320, 32, 128, 128)
        self.mixed_5c = Mixed(832, 384, 192, 384, 48, 128, 128)
        self.fc = nn.Linear(1024, embedding_dim)

    def pooled(self, frames: Tensor) -> Tensor:
        """Frames [N, 3, T, H, W] in [0, 1] -> float32 [N, 1024], the input of the last layer ("mixed_5c").

        Raises UserError when T, H or W is odd.
        """
        if (
            frames.dim() != 5
            or frames.shape[1] != 3
            or any(size % 2 or not size for size in frames.shape[2:])
        ):
            raise UserError(
                f"S3D got frames of shape {list(frames.shape)}, expected [N, 3, T, H, W], T, H and W even."
            )
        x = frames.to(self.dtype).permute(0, 2, 3, 4, 1)
        x = self.conv1(x)
        x = self.gating(self.conv_2c(self.conv_2b(x)))
        x = max_pool(x, (1, 3, 3), (1, 2, 2))
        x = self.mixed_3c(self.mixed_3b(x))
        x = max_pool(x, (3, 3, 3), (2, 2, 2))
        x = self.mixed_4d(self.mixed_4c(self.mixed_4b(x)))
        x = self.mixed_4f(self.mixed_4e(x))
        x = max_pool(x, (2, 2, 2), (2, 2, 2))
        x = self.mixed_5c(self.mixed_5b(x))
        return x.mean((1, 2, 3), dtype=torch.float32)

    def forward(self, frames: Tensor) -> Tensor:
        """Frames [N, 3, T, H, W] in [0, 1], T, H, W even -> float32 [N, 512]. Errors: see `pooled`."""
        return self.fc(self.pooled(frames))

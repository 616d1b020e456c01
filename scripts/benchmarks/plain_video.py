"""Plain S3D and I3D on the parameters of mmpt's networks: the baseline of the `extract` benchmark.

Each layer is its own 3D operation on [N, C, T, H, W] in PyTorch's default layout: convolution, batch norm,
ReLU, zero padding and max pooling, as in the published implementations.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmpt.extractors.networks.i3d import I3D, Inception
from mmpt.extractors.networks.s3d import S3D, Gate, Mixed, Separable


def plain_s3d(network: S3D, frames: Tensor) -> Tensor:
    """Frames [N, 3, T, H, W] in [0, 1] -> [N, 512]."""
    n, c, t, h, w = frames.shape
    x = frames.view(n, c, t // 2, 2, h // 2, 2, w // 2, 2).permute(0, 3, 5, 7, 1, 2, 4, 6)
    x = x.reshape(n, 8 * c, t // 2, h // 2, w // 2)
    x = _unit(x, network.conv1.conv1, network.conv1.bn1, (1, 2, 2))[:, :, 1:, 1:, 1:]
    x = _padded_pool(x, (1, 3, 3), (1, 2, 2))
    x = _gated(_separable(_separable(x, network.conv_2b), network.conv_2c), network.gating)
    x = _padded_pool(x, (1, 3, 3), (1, 2, 2))
    x = _mixed(_mixed(x, network.mixed_3b), network.mixed_3c)
    x = _padded_pool(x, (3, 3, 3), (2, 2, 2))
    for block in (network.mixed_4b, network.mixed_4c, network.mixed_4d, network.mixed_4e, network.mixed_4f):
        x = _mixed(x, block)
    x = _padded_pool(x, (2, 2, 2), (2, 2, 2))
    x = _mixed(_mixed(x, network.mixed_5b), network.mixed_5c)
    return network.fc(x.mean((2, 3, 4)))


def plain_i3d(network: I3D, frames: Tensor) -> Tensor:
    """Frames [N, 3, 16, 224, 224] in [-0.5, 0.5] -> [N, 1024]."""
    stem = network.Conv3d_1a_7x7
    x = F.relu(_norm(F.conv3d(F.pad(frames, (2, 3) * 3), stem.conv3d.weight, stride=2), stem.bn))
    x = _padded_pool(x, (1, 3, 3), (1, 2, 2))
    x = _unit(x, network.Conv3d_2b_1x1.conv3d, network.Conv3d_2b_1x1.bn)
    x = _unit(x, network.Conv3d_2c_3x3.conv3d, network.Conv3d_2c_3x3.bn, 1)
    x = _padded_pool(x, (1, 3, 3), (1, 2, 2))
    x = _inception(_inception(x, network.Mixed_3b), network.Mixed_3c)
    x = _padded_pool(x, (3, 3, 3), (2, 2, 2))
    for block in (network.Mixed_4b, network.Mixed_4c, network.Mixed_4d, network.Mixed_4e, network.Mixed_4f):
        x = _inception(x, block)
    x = _padded_pool(x, (2, 2, 2), (2, 2, 2))
    x = _inception(_inception(x, network.Mixed_5b), network.Mixed_5c)
    return F.avg_pool3d(x, (2, 7, 7), stride=1).flatten(1)


def _norm(x: Tensor, norm: nn.BatchNorm3d) -> Tensor:
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)


def _unit(
    x: Tensor, conv: nn.Conv3d, norm: nn.BatchNorm3d, padding: int | tuple[int, int, int] = 0
) -> Tensor:
    return F.relu(_norm(F.conv3d(x, conv.weight, padding=padding), norm))


def _separable(x: Tensor, block: Separable) -> Tensor:
    for conv, norm in block.pairs():
        t, h, w = (size // 2 for size in conv.weight.shape[2:])
        x = _unit(x, conv, norm, (t, h, w))
    return x


def _gated(x: Tensor, gate: Gate) -> Tensor:
    return x * torch.sigmoid(gate.fc(x.mean((2, 3, 4))))[:, :, None, None, None]


def _mixed(x: Tensor, block: Mixed) -> Tensor:
    branches = (
        _gated(_separable(x, block.conv_b0), block.gating_b0),
        _gated(_separable(_separable(x, block.conv_b1_a), block.conv_b1_b), block.gating_b1),
        _gated(_separable(_separable(x, block.conv_b2_a), block.conv_b2_b), block.gating_b2),
        _gated(_separable(F.max_pool3d(x, 3, 1, 1), block.conv_b3_b), block.gating_b3),
    )
    return torch.cat(branches, dim=1)


def _inception(x: Tensor, block: Inception) -> Tensor:
    branches = (
        _unit(x, block.b0.conv3d, block.b0.bn),
        _unit(_unit(x, block.b1a.conv3d, block.b1a.bn), block.b1b.conv3d, block.b1b.bn, 1),
        _unit(_unit(x, block.b2a.conv3d, block.b2a.bn), block.b2b.conv3d, block.b2b.bn, 1),
        _unit(F.max_pool3d(F.pad(x, (1, 1) * 3), 3, 1), block.b3b.conv3d, block.b3b.bn),
    )
    return torch.cat(branches, dim=1)


def _padded_pool(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    missing = [k - s for k, s in zip(kernel, stride)]
    padding = [half for total in reversed(missing) for half in (total // 2, total - total // 2)]
    return F.max_pool3d(F.pad(x, padding), kernel, stride, ceil_mode=True)

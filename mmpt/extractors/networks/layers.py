"""Layers that the frozen 3D networks share, on tensors laid out [N, T, H, W, C].

With channels last in memory, a 1x1x1 convolution is a matrix product, a 1xKxK convolution is a 2D convolution
over N*T pictures, and a Kx1x1 convolution is a 2D convolution over (T, H*W): all three run on kernels that
are better tuned than those for 3D convolutions. Batch norm always uses its stored statistics and is folded
into the convolution before it, which is the same arithmetic in another order (differences about 1e-6).
Parameters stay in ordinary `nn.Conv3d` and `nn.BatchNorm3d` modules, so state dicts look like those of the
published networks.
"""

from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmpt.extractors.networks import winograd


def fold(conv: nn.Conv3d, norm: nn.BatchNorm3d, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weight [O, I, kt, kh, kw] and bias [O] of the convolution with the batch norm behind it, in `dtype`.

    The folding itself is done in the parameters' own precision, so that a low `dtype` rounds only once.
    """
    assert conv.bias is None and norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * scale
    return (conv.weight * scale.view(-1, 1, 1, 1, 1)).to(dtype), bias.to(dtype)


def arrange(weight: Tensor) -> Tensor:
    """A convolution's weight [O, I, kt, kh, kw] in the shape and memory layout that `convolve` wants."""
    time, height, width = weight.shape[2:]
    if time == height == width == 1:
        return weight.flatten(1).contiguous()
    if height == width == 1:
        return weight[..., 0].contiguous(memory_format=torch.channels_last)
    if time == 1:
        return weight[:, :, 0].contiguous(memory_format=torch.channels_last)
    return weight.contiguous(memory_format=torch.channels_last_3d)


def convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Stride-1 convolution of x [N, T, H, W, C] -> [N, T, H, W, O]; weight: from `arrange`."""
    n, t, h, w, c = x.shape
    if weight.dim() == 2:
        return F.linear(x, weight, bias)
    if weight.dim() == 5:
        same = [size // 2 for size in weight.shape[2:]]
        volumes = x.permute(0, 4, 1, 2, 3)
        if not torch.compiler.is_compiling() and winograd.has_mkldnn(x):
            y = torch.mkldnn_convolution(volumes, weight, bias, same, [1, 1, 1], [1, 1, 1], 1)
        else:
            y = F.conv3d(volumes, weight, bias, padding=same)
        return y.permute(0, 2, 3, 4, 1)
    kernel = weight.shape[2:]
    if kernel[1] == 1:
        planes = x.reshape(n, t, h * w, c).permute(0, 3, 1, 2)
        y = F.conv2d(planes, weight, bias, padding=(kernel[0] // 2, 0))
    else:
        pictures = x.reshape(n * t, h, w, c).permute(0, 3, 1, 2)
        y = F.conv2d(pictures, weight, bias, padding=(kernel[0] // 2, kernel[1] // 2))
    return y.permute(0, 2, 3, 1).reshape(n, t, h, w, -1)


class ConvBlock(nn.Module):
    """Convolutions of stride 1, each followed by batch norm and ReLU, in the order of their definition."""

    def pairs(self) -> list[tuple[nn.Conv3d, nn.BatchNorm3d]]:
        """The convolutions in the order they are applied, each with its batch norm."""
        convs = [part for part in self.children() if isinstance(part, nn.Conv3d)]
        norms = [part for part in self.children() if isinstance(part, nn.BatchNorm3d)]
        return list(zip(convs, norms, strict=True))

    def arrange(self, weight: Tensor) -> Tensor:
        """A folded weight in the layout that this block computes with."""
        return arrange(weight)

    def points(self, weight: Tensor) -> Tensor | None:
        """A folded weight for winograd.convolve along time (Kx1x1 and 3x3x3) or height (1x3x3)."""
        if weight.shape[2] == 3:
            return winograd.transform_weight(weight)
        if weight.shape[3] == 3:
            return winograd.transform_weight(weight.transpose(2, 3))
        return None

    def prepare(self, dtype: torch.dtype, fast: bool) -> None:
        """Fold once and keep the result beside the parameters (see FrozenNetwork.freeze)."""
        for conv, norm in self.pairs():
            weight, bias = fold(conv, norm, dtype)
            conv.register_buffer("frozen_weight", self.arrange(weight), persistent=False)
            conv.register_buffer("frozen_bias", bias, persistent=False)
            conv.register_buffer("frozen_points", self.points(weight) if fast else None, persistent=False)

    def folded(
        self, conv: nn.Conv3d, norm: nn.BatchNorm3d, x: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Weight, bias and Winograd points that `prepare` kept, or the first two computed now."""
        if "frozen_weight" in conv._buffers:
            buffers = conv._buffers
            weight, bias, points = (buffers[f"frozen_{name}"] for name in ("weight", "bias", "points"))
            assert weight is not None and bias is not None
            return weight, bias, points
        weight, bias = fold(conv, norm, x.dtype)
        return self.arrange(weight), bias, None

    def forward(self, x: Tensor) -> Tensor:
        """x [N, T, H, W, C] -> [N, T, H, W, O]."""
        for conv, norm in self.pairs():
            weight, bias, points = self.folded(conv, norm, x)
            y = None if points is None else convolve_fast(x.contiguous(), points, bias)
            x = (convolve(x, weight, bias) if y is None else y).relu_()
        return x


def convolve_fast(x: Tensor, points: Tensor, bias: Tensor) -> Tensor | None:
    """As `convolve`, with the points of ConvBlock.points. None where the axis is too short to gain by it."""
    n, t, h, w, c = x.shape
    along_height = points.dim() == 5 and points.shape[3] == 1
    if not along_height:
        return winograd.convolve(x, points, bias, front=1, length=t) if t >= winograd.TILE else None
    if h < 2 * winograd.TILE:
        return None
    rows = x.view(n * t, h, 1, w, c)
    return winograd.convolve(rows, points, bias, front=1, length=h).view(n, t, h, w, -1)


class StemBlock(ConvBlock):
    """The first convolution (stride 2), its ReLU and the 1x3x3 max pool of stride 2, a few frames at a time.

    The input frames of one output frame are stacked as channels, which makes this a 2-D convolution. A few
    frames at a time keep its large output in the processor's cache until the pool reduces it.
    """

    def pixel_weight(self, weight: Tensor) -> Tensor:
        """The folded weight as one on pixels, [O, 3, kt, kh, kw]."""
        return weight

    def padding(self, size: tuple[int, int, int]) -> tuple[tuple[int, int, int], tuple[int, int]]:
        """Zeros before (time, height, width) of an input of that size, and (height, width) of the pool."""
        raise AssertionError(f"{type(self).__name__} has no padding")

    def arrange(self, weight: Tensor) -> Tensor:
        """-> [O, kt * 3, kh, kw], channels by time first."""
        stacked = self.pixel_weight(weight).transpose(1, 2).flatten(1, 2)
        return stacked.contiguous(memory_format=torch.channels_last)

    def points(self, weight: Tensor) -> Tensor | None:
        """Pairs of frames as channels: stride 2 along time becomes stride 1 with half the taps."""
        pixels = self.pixel_weight(weight)
        pixels = F.pad(pixels, (0, 0, 0, 0, 0, pixels.shape[2] % 2))
        paired = pixels.unflatten(2, (-1, 2)).permute(0, 3, 1, 2, 4, 5).flatten(1, 2)
        return winograd.transform_weight(paired)

    def forward(self, x: Tensor) -> Tensor:
        """x [N, T, H, W, 3] -> [N, ceil(T/2), ceil(H/4), ceil(W/4), O]."""
        ((conv, norm),) = self.pairs()
        weight, bias, points = self.folded(conv, norm, x)
        n, size = x.shape[0], (x.shape[1], x.shape[2], x.shape[3])
        before, pool_before = self.padding(size)
        kernel = (weight.shape[1] // 3, *weight.shape[2:])
        out = [-(-length // 2) for length in size]
        after = [max(2 * (o - 1) + k - s - b, 0) for o, k, s, b in zip(out, kernel, size, before)]
        if points is None:
            x = F.pad(x, (0, 0, before[2], after[2], before[1], after[1], before[0], after[0]))
        else:
            x = _frame_pairs(x, before, after)
        step = winograd.TILE if x.device.type == "cpu" else out[0]
        pooled = []
        for start in range(0, out[0], step):
            count = min(step, out[0] - start)
            if points is None:
                taps = [x[:, 2 * start + k : 2 * (start + count - 1) + k + 1 : 2] for k in range(kernel[0])]
                pictures = torch.cat(taps, dim=-1).flatten(0, 1).permute(0, 3, 1, 2)
                y = F.conv2d(pictures, weight, bias, stride=2)
            else:
                pairs = x[:, start : start + count - 1 + -(-kernel[0] // 2)]
                y = winograd.convolve(pairs, points, bias, front=0, length=count, stride=2)
                y = y.flatten(0, 1).permute(0, 3, 1, 2)
            y = pool_pictures(y, (3, 3), (2, 2), pool_before).relu_()
            pooled.append(y.permute(0, 2, 3, 1).unflatten(0, (n, count)))
        return torch.cat(pooled, dim=1)


def _frame_pairs(x: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
    """x [N, T, H, W, 3], padded with zeros (time to an even length too), -> [N, pairs, H', W', 2 * 3]."""
    n, *size, colours = x.shape
    frames, height, width = (b + s + a for b, s, a in zip(before, size, after))
    pairs = x.new_zeros(n, -(-frames // 2), height, width, 2, colours)
    rows, columns = slice(before[1], before[1] + size[1]), slice(before[2], before[2] + size[2])
    for parity in range(2):
        first = (parity - before[0]) % 2
        start = (first + before[0]) // 2
        taken = x[:, first::2]
        pairs[:, start : start + taken.shape[1], rows, columns, parity] = taken
    return pairs.flatten(4)


class FrozenNetwork(nn.Module):
    """A network that is only ever applied, with its stored statistics: `train()` changes nothing."""

    dtype = torch.float32

    def freeze(self, dtype: torch.dtype = torch.float32, fast: bool = False) -> Self:
        """Fold batch norms into their convolutions, arrange the weights for speed, and compute in `dtype`.

        Call it after loading the weights. The state dict does not change; gates, means and the last layer
        stay in float32.
        """
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, ConvBlock):
                    module.prepare(dtype, fast)
        self.dtype = dtype
        return self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        return super().train(False)


def pool_pictures(
    y: Tensor, kernel: tuple[int, int], stride: tuple[int, int], before: tuple[int, int]
) -> Tensor:
    """2-D max pool of y [M, C, H, W] to ceil(size / stride), with `before` zeros ahead and the rest behind.

    Before or after a ReLU, padding with zeros does not change the result of the ReLU.
    """
    padding = [0, 0, 0, 0]
    for axis in range(2):
        size, k, s, front = y.shape[2 + axis], kernel[axis], stride[axis], before[axis]
        behind = (-(-size // s) - 1) * s + k - size - front
        # a window that begins inside the picture may overhang it without any padding (ceil_mode)
        implied = front == 0 and -(-(size - k) // s) + 1 == -(-size // s)
        padding[2 * (1 - axis)], padding[2 * (1 - axis) + 1] = front, 0 if implied else max(behind, 0)
    if any(padding):
        y = F.pad(y, padding)
    return F.max_pool2d(y, kernel, stride, ceil_mode=True)


def max_pool(
    x: Tensor,
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int],
    before: tuple[int, int, int] = (0, 0, 0),
) -> Tensor:
    """Max pool of x [N, T, H, W, C], which must not be negative, to sizes ceil(size / stride).

    Windows begin `before` positions in front of the tensor; what lies outside counts as zero.
    """
    n, t = x.shape[:2]
    pictures = x.flatten(0, 1).permute(0, 3, 1, 2)
    x = pool_pictures(pictures, kernel[1:], stride[1:], before[1:]).permute(0, 2, 3, 1).unflatten(0, (n, t))
    if kernel[0] == stride[0] == 1:
        return x
    count = -(-t // stride[0])
    behind = max((count - 1) * stride[0] + kernel[0] - t - before[0], 0)
    if before[0] or behind:
        x = F.pad(x, (0, 0, 0, 0, 0, 0, before[0], behind))
    span = (count - 1) * stride[0] + 1
    pooled = x[:, : span : stride[0]]
    for k in range(1, kernel[0]):
        pooled = torch.maximum(pooled, x[:, k : k + span : stride[0]])
    return pooled


def max_pool_same(x: Tensor) -> Tensor:
    """3x3x3 max pool of stride 1 that keeps the size: x [N, T, H, W, C], one axis after the other."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.max_pool3d(x.permute(0, 4, 1, 2, 3), 3, 1, 1).permute(0, 2, 3, 4, 1)
    for axis in (3, 2, 1):  # PyTorch's own pool takes twice as long on a CPU
        size = x.shape[axis]
        pooled = x.clone()
        for target, source in ((1, 0), (0, 1)):
            part = pooled.narrow(axis, target, size - 1)
            torch.maximum(part, x.narrow(axis, source, size - 1), out=part)
        x = pooled
    return x

"""Max pools of the frozen networks, on tensors laid out [N, T, H, W, C] whose numbers are not negative."""

import torch
import torch.nn.functional as F
from torch import Tensor


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

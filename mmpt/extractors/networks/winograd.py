"""Convolutions along one axis with half the multiplications, for CPUs in float32.

Winograd's minimal filtering (Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016)
along one axis only, time or height: four outputs of three taps take 6 products where the plain way takes 12.
Sums along an axis that is far from the last in memory are products of a 6x6 matrix with long rows, so the
transforms cost little; over the other axes each of the 6 products is an ordinary convolution. Rounding errors
grow about fourfold, to some 1e-6.

Measured on AVX2, one thread, whole network: torch's conv3d and max_pool3d in channels_last_3d take 1.7 times
as long; the layers of layers.py without Winograd 1.4 (I3D) and 1.1 (S3D). See docs/decisions.md.
"""

import functools
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 4
"""Outputs computed together."""
CHUNK = 1 << 20
"""Numbers, about, among the products held at a time, which should stay in the processor's cache."""
_POINTS = (0, 1, -1, 2, -2, Fraction(1, 2), Fraction(-1, 2))


@functools.cache
def matrices(taps: int) -> tuple[Tensor, Tensor, Tensor]:
    """The transforms of outputs [4, n], of weights [n, taps] and of inputs [n, n], float64, n = taps + 3.

    y = outputs @ ((weights @ w) * (inputs @ x)) are the four sums y[i] = sum_k w[k] x[i + k]. They
    interpolate the product of polynomials at 0, 1, -1, 2, -2, ... and infinity (Toom-Cook).
    """
    points = [Fraction(point) for point in _POINTS[: taps + TILE - 2]]
    others = [[other for other in points if other != point] for point in points]
    scale = [_product([[point - other] for other in rest])[0] for point, rest in zip(points, others)]
    zero = Fraction(0)
    outputs = [[point**i for point in points] + [Fraction(i == TILE - 1)] for i in range(TILE)]
    weights = [[point**k / factor for k in range(taps)] for point, factor in zip(points, scale)]
    weights.append([Fraction(k == taps - 1) for k in range(taps)])
    inputs = [[*_product([[-other, Fraction(1)] for other in rest]), zero] for rest in others]
    inputs.append(_product([[-point, Fraction(1)] for point in points]))
    as_floats = ([[float(x) for x in row] for row in matrix] for matrix in (outputs, weights, inputs))
    a, g, b = (torch.tensor(matrix, dtype=torch.float64) for matrix in as_floats)
    return a, g, b


def _product(polynomials: list[list[Fraction]]) -> list[Fraction]:
    """The product of polynomials, coefficients from the constant up."""
    total = [Fraction(1)]
    for factor in polynomials:
        terms = [Fraction(0)] * (len(total) + len(factor) - 1)
        for i, x in enumerate(total):
            for j, y in enumerate(factor):
                terms[i + j] += x * y
        total = terms
    return total


def transform_weight(weight: Tensor) -> Tensor:
    """A weight [O, I, taps, kh, kw] -> [n, O, I, kh, kw]; if kh = kw = 1, [n, I, O] for matrix products."""
    _, transform, _ = matrices(weight.shape[2])
    points = torch.einsum("pk,oikhw->poihw", transform.to(weight.device), weight.double()).to(weight.dtype)
    if points.shape[3:] == (1, 1):
        return points.flatten(2).transpose(1, 2).contiguous()
    # each point's weight with channels last, as the convolutions want it
    return torch.stack([point.permute(0, 2, 3, 1) for point in points]).contiguous().permute(0, 1, 4, 2, 3)


def convolve(x: Tensor, points: Tensor, bias: Tensor, front: int, length: int, stride: int = 1) -> Tensor:
    """Convolve along the second axis, and plainly along the two after it.

    Args:
        x: [B, L, H, W, C], contiguous.
        points: of transform_weight.
        bias: [O].
        front: zeros in front of the second axis; behind it there are as many as `length` asks for.
        length: outputs along the second axis.
        stride: along H and W. With stride 1, H and W are padded with zeros to keep their size; else not at
        all.

    Returns [B, length, H', W', O].
    """
    batch, size, height, width, channels = x.shape
    plane = _plane(points, height, width, stride)
    result = x.new_empty(batch, length, *plane)
    tiles = range(0, length, TILE)
    if points.dim() == 3:  # every position of the plane by itself
        step = max(1, CHUNK // (points.shape[0] * len(tiles) * max(channels, plane[2])))
        for item in range(batch):
            for start in range(0, height * width, step):
                part = slice(start, start + step)
                seen = x[item].view(size, -1, channels)[:, part]
                _convolve(
                    seen[None], result[item].view(length, -1, plane[2])[None, :, part], points, bias, front
                )
        return result
    step = max(1, CHUNK // (points.shape[0] * len(tiles) * result[0, 0].numel()))
    for start in range(0, batch, step):
        group = slice(start, start + step)
        _convolve(x[group], result[group], points, bias, front, stride)
    return result


def _convolve(x: Tensor, result: Tensor, points: Tensor, bias: Tensor, front: int, stride: int = 1) -> None:
    """x [B, L, ..., C] into result [B, length, ..., O], where ... is H, W or, for 1x1, positions."""
    taps = points.shape[0] - TILE + 1
    outputs, _, inputs = (matrix.to(x.dtype) for matrix in matrices(taps))
    size, length = x.shape[1], result.shape[1]
    tiles = [(item, start) for item in range(len(x)) for start in range(0, length, TILE)]
    seen = x.new_empty(points.shape[0], len(tiles), *x.shape[2:])
    for slot, (item, start) in enumerate(tiles):
        low = min(max(start - front, 0), size)
        high = min(start - front + len(inputs), size)
        columns = inputs[:, low - start + front : high - start + front]
        torch.mm(columns, x[item, low:high].flatten(1), out=seen[:, slot].flatten(1))
    products = _products(seen, points, bias, stride)
    for slot, (item, start) in enumerate(tiles):
        target = result[item, start : start + TILE].flatten(1)
        torch.mm(outputs[: len(target)], products[:, slot], out=target)


def _plane(points: Tensor, height: int, width: int, stride: int) -> tuple[int, int, int]:
    """Height, width and channels of the outputs."""
    if points.dim() == 3:
        return height, width, points.shape[2]
    if stride == 1:
        return height, width, points.shape[1]
    kh, kw = points.shape[3:]
    return (height - kh) // stride + 1, (width - kw) // stride + 1, points.shape[1]


def _products(seen: Tensor, points: Tensor, bias: Tensor, stride: int) -> Tensor:
    """Each point's convolution over the other axes: seen [n, M, ..., C] -> [n, M, ... * O].

    The bias goes into the second point, 1, whose product is in each of the outputs once.
    """
    count, pictures = seen.shape[:2]
    if points.dim() == 3:
        products = torch.bmm(seen.flatten(1, 2), points)
        products[1] += bias
        return products.view(count, pictures, -1)
    if seen.shape[2] == points.shape[3] == 1:  # rows of pictures, as one picture
        seen = seen.transpose(1, 2)
    padding = (points.shape[3] // 2, points.shape[4] // 2) if stride == 1 else (0, 0)
    products = torch.empty(0)
    for index in range(count):
        plane = seen[index].permute(0, 3, 1, 2)
        y = _conv2d(plane, points[index], bias if index == 1 else None, stride, padding).permute(0, 2, 3, 1)
        if index == 0:
            products = seen.new_empty(count, *y.shape)
        products[index] = y
    return products.view(count, pictures, -1)


def _conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: tuple[int, int]) -> Tensor:
    if not has_mkldnn(x):
        return F.conv2d(x, weight, bias, stride, padding)
    return torch.mkldnn_convolution(x, weight, bias, padding, [stride, stride], [1, 1], 1)


def has_mkldnn(x: Tensor) -> bool:
    """Whether oneDNN can convolve x. PyTorch itself uses a kernel half as fast for small batches."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()

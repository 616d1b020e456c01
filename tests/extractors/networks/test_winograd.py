import pytest
import torch
import torch.nn.functional as F

from mmpt.extractors.networks import winograd
from mmpt.extractors.networks.winograd import convolve, matrices, transform_weight


@pytest.mark.parametrize("taps", [2, 3, 4])
def test_winograd_transforms(taps):
    outputs, weights, inputs = matrices(taps)
    x, w = torch.rand(taps + 3, dtype=torch.float64), torch.rand(taps, dtype=torch.float64)
    expected = torch.stack([(x[i : i + taps] * w).sum() for i in range(4)])
    torch.testing.assert_close(outputs @ ((weights @ w) * (inputs @ x)), expected, rtol=1e-12, atol=1e-12)
    assert (outputs[:, 1] == 1).all(), "the bias goes in there"


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8, 15])
@pytest.mark.parametrize("kernel", [(3, 1, 1), (3, 3, 3), (3, 1, 3)])
@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_winograd_equals_plain_convolution(monkeypatch, length, kernel, chunk):
    monkeypatch.setattr(winograd, "CHUNK", chunk)
    height = 1 if kernel[1] == 1 and kernel[2] == 3 else 5
    x, weight, bias = random(2, length, height, 6, 7), random(9, 7, *kernel), random(9)
    padding = [size // 2 for size in kernel]
    expected = F.conv3d(x.permute(0, 4, 1, 2, 3).double(), weight.double(), bias.double(), padding=padding)
    got = convolve(x, transform_weight(weight), bias, front=1, length=length)
    torch.testing.assert_close(got.double(), expected.permute(0, 2, 3, 4, 1), rtol=1e-5, atol=2e-4)
    exact = convolve(x.double(), transform_weight(weight.double()), bias.double(), front=1, length=length)
    torch.testing.assert_close(exact, expected.permute(0, 2, 3, 4, 1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("taps", [2, 4])
def test_winograd_with_stride_and_no_padding(taps):
    x, weight, bias = random(1, 7, 13, 11, 6), random(5, 6, taps, 7, 7), random(5)
    expected = F.conv3d(x.permute(0, 4, 1, 2, 3), weight, bias, stride=(1, 2, 2)).permute(0, 2, 3, 4, 1)
    got = convolve(x, transform_weight(weight), bias, front=0, length=8 - taps, stride=2)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-3)


def test_winograd_outputs_of_padding_only():
    x, weight, bias = random(1, 3, 5, 5, 4), random(6, 4, 3, 3, 3), random(6)
    got = convolve(x, transform_weight(weight), bias, front=0, length=9)
    torch.testing.assert_close(got[:, 3:], bias.expand_as(got[:, 3:]), rtol=1e-5, atol=2e-4)


def test_winograd_rounding_errors():
    x, weight = random(1, 8, 14, 14, 128).relu(), random(64, 128, 3, 3, 3) / 40
    exact = F.conv3d(x.permute(0, 4, 1, 2, 3).double(), weight.double(), padding=1).permute(0, 2, 3, 4, 1)
    got = convolve(x, transform_weight(weight), torch.zeros(64), front=1, length=8)
    assert (got - exact).abs().max() / exact.abs().max() < 1e-5

"""The quick dropout is a dropout."""

import pytest
import torch

from mmpt.models.layers import Dropout, quick_dropout
from mmpt.models.packing import Packing


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_quick_dropout_rate_and_scale(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    out = quick_dropout(torch.ones(401, 503, dtype=dtype), rate)
    assert out.dtype == dtype
    kept = out[out != 0].float()
    assert kept.numel() / out.numel() == pytest.approx(1 - rate, abs=0.005)
    assert kept.unique().numel() == 1
    assert kept[0].item() == pytest.approx(1 / (1 - rate), rel=1e-2 if dtype == torch.bfloat16 else 1e-3)
    # neighbours, who share a random word, fall independently, along and across
    zero = (out == 0).double()
    for first, second in ((zero[:, 1:], zero[:, :-1]), (zero[1:], zero[:-1])):
        assert (first * second).mean().item() == pytest.approx(rate**2, abs=0.005)


def test_quick_dropout_gradient() -> None:
    values = torch.randn(37, 5, requires_grad=True)
    out = quick_dropout(values, 0.3)
    out.sum().backward()
    torch.testing.assert_close(out.detach(), values.detach() * values.grad)
    assert 0 < (values.grad == 0).sum() < values.numel()


def test_dropout_in_evaluation_at_one_and_with_a_seed() -> None:
    layer = Dropout(0.4)
    values = torch.randn(64, 7)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(layer(values))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(layer.eval()(values), values)
    assert torch.equal(Dropout(1.0)(values), torch.zeros_like(values))
    assert torch.equal(Dropout(0.0)(values), values)


def test_attention_dropout_keeps_the_mean() -> None:
    torch.manual_seed(0)
    mask = torch.arange(9) < torch.tensor([9, 7, 3])[:, None]
    packing = Packing.of(mask)
    qkv = torch.randn(len(packing.rows), 3 * 8)
    expected = packing.attend(qkv, 2, 0.0)
    drawn = torch.stack([packing.attend(qkv, 2, 0.2) for _ in range(3000)])
    torch.testing.assert_close(drawn.mean(0), expected, rtol=0, atol=0.05)
    assert (drawn.std(0) > 0.01).all()

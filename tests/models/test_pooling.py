"""Pooling of packed tokens, by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mmpt.models.pooling import POOLINGS, attention_of, max_of, mean_of

close = torch.testing.assert_close

# three sequences in a batch of four: tokens 0, 2, 5 of the first; 1, 4 of the third; 3 of the fourth. 3 and
# 4 are not counted
HIDDEN = torch.tensor([[1.0, -8.0], [2.0, -3.0], [3.0, -4.0], [50.0, 60.0], [70.0, 80.0], [8.0, -6.0]])
SEQUENCES = torch.tensor([0, 2, 0, 3, 2, 0])
COUNTED = torch.tensor([True, True, True, False, False, True])


def test_mean_pooling_by_hand() -> None:
    expected = torch.tensor([[4.0, -6], [0, 0], [2, -3], [0, 0]])
    close(mean_of(HIDDEN, SEQUENCES, COUNTED, 4), expected)
    stack = torch.stack([HIDDEN, 2 * HIDDEN, -HIDDEN])
    close(mean_of(stack, SEQUENCES, COUNTED, 4), torch.stack([expected, 2 * expected, -expected]))


def test_max_pooling_by_hand() -> None:
    """Below zero too: the zeros of an empty sequence do not take part."""
    close(max_of(HIDDEN, SEQUENCES, COUNTED, 4), torch.tensor([[8.0, -4], [0, 0], [2, -3], [0, 0]]))


@pytest.mark.parametrize("shift", [0.0, 500.0, -500.0])
def test_attention_pooling_by_hand(shift: float) -> None:
    """Softmax weights 1/8, 2/8 and 5/8 of the first sequence, at any height of the scores.

    The tokens that are not counted have the highest scores.
    """
    scores = torch.tensor([1.0, 7.0, 2.0, 1e4, 1e4, 5.0]).log() + shift
    pooled = attention_of(HIDDEN, scores, SEQUENCES, COUNTED, 4)
    first = [1 / 8 + 3 * 2 / 8 + 8 * 5 / 8, -(8 * 1 + 4 * 2 + 6 * 5) / 8]
    close(pooled, torch.tensor([first, [0, 0], [2, -3], [0, 0]]), rtol=1e-4, atol=1e-5)


def test_attention_pooling_gradient() -> None:
    hidden = HIDDEN.double().requires_grad_()
    scores = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def pooled(hidden: Tensor, scores: Tensor) -> Tensor:
        return attention_of(hidden, scores, SEQUENCES, COUNTED, 4)

    assert torch.autograd.gradcheck(pooled, (hidden, scores))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["mean", "attention"])
def test_pooling_of_half_precision_sums_in_float32(kind: torch.dtype, name: str) -> None:
    """A sum of 4,096 ones in half precision stops at 256 or 2,048."""
    hidden = torch.ones(4096, 2, dtype=kind)
    sequences, counted = torch.zeros(4096, dtype=torch.int64), torch.ones(4096, dtype=torch.bool)
    layer: Any = POOLINGS.get(name)(2).to(kind)
    pooled = layer(hidden, sequences, counted, 1)
    assert pooled.dtype == kind
    close(pooled, torch.ones(1, 2, dtype=kind))


def test_pooling_keeps_double_precision() -> None:
    hidden = HIDDEN.double() / 3
    for pooled in (
        mean_of(hidden, SEQUENCES, COUNTED, 4),
        attention_of(hidden, torch.zeros(6, dtype=torch.float64), SEQUENCES, COUNTED, 4),
    ):
        close(pooled[0], torch.tensor([4.0, -6.0], dtype=torch.float64) / 3, rtol=0, atol=1e-14)


def test_poolings_by_name() -> None:
    """Only attention has a parameter, one score per feature, and starts as the mean."""
    assert POOLINGS.names() == ["attention", "max", "mean"]
    for name, expected in (("mean", mean_of), ("attention", mean_of), ("max", max_of)):
        layer: Any = POOLINGS.get(name)(2)
        close(layer(HIDDEN, SEQUENCES, COUNTED, 4), expected(HIDDEN, SEQUENCES, COUNTED, 4))
        shapes = [tuple(parameter.shape) for parameter in layer.parameters()]
        assert shapes == ([(1, 2)] if name == "attention" else [])
    attention: Any = POOLINGS.get("attention")(2)
    with torch.no_grad():
        attention.score.weight.copy_(torch.tensor([[0.3, -0.2]]))
    scores = 0.3 * HIDDEN[:, 0] - 0.2 * HIDDEN[:, 1]
    close(attention(HIDDEN, SEQUENCES, COUNTED, 4), attention_of(HIDDEN, scores, SEQUENCES, COUNTED, 4))


def test_pooling_stays_on_the_device() -> None:
    inputs = [side.to("meta") for side in (HIDDEN, SEQUENCES, COUNTED)]
    assert mean_of(*inputs, 4).device.type == "meta"

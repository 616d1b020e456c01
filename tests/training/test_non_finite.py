"""A batch that is not finite changes no weight, is reported, and too many of them end the run."""

import logging
from typing import Any

import pytest
import torch

from mmpt.training.non_finite import NonFinite
from mmpt.utils.errors import UserError

SAMPLE = {"video_id": [f"clip{i}" for i in range(10)]}


class Optimizer:
    def __init__(self) -> None:
        self.params = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))]

    def zero_grad(self) -> None:
        for parameter in self.params:
            parameter.grad = None


def step(
    guard: NonFinite, loss: float, gradient: float = 1.0, earlier: torch.Tensor | None = None
) -> tuple[Any, Optimizer]:
    optimizer = Optimizer()
    optimizer.params[0].grad = earlier
    value = torch.tensor(loss)
    logged = {"loss": value, "sample_size": 1, "nsentences": 10}

    def backward() -> Any:
        made = torch.tensor([0.5, gradient, 0.5])
        before = optimizer.params[0].grad
        optimizer.params[0].grad = made if before is None else before + made
        return value, 1, logged

    return guard.step(backward, SAMPLE, optimizer, update=7), optimizer


def test_a_finite_batch_is_left_alone() -> None:
    (loss, size, logged), optimizer = step(NonFinite(0), 2.5)
    assert loss == 2.5 and size == 1 and logged["sample_size"] == 1
    assert torch.equal(optimizer.params[0].grad, torch.tensor([0.5, 1.0, 0.5]))
    assert optimizer.params[1].grad is None


def test_the_norm_is_known_while_the_gradients_are_those_of_one_batch() -> None:
    guard = NonFinite(1)
    step(guard, 2.5)
    assert guard.norm == pytest.approx(1.5**0.5)
    step(guard, 2.5, earlier=torch.ones(3))
    assert guard.norm is None
    step(guard, 2.5)
    step(guard, float("nan"))
    assert guard.norm is None


def test_the_batches_before_it_in_an_update_stay() -> None:
    """Accumulated gradients (update_freq): a bad batch takes away its own alone, a good one adds its own."""
    earlier = torch.tensor([1.0, 2.0, 3.0])
    for loss, gradient in ((float("nan"), 1.0), (1.0, float("inf"))):
        (_, size, _), optimizer = step(NonFinite(1), loss, gradient, earlier.clone())
        assert size == 0 and torch.equal(optimizer.params[0].grad, earlier)
    _, optimizer = step(NonFinite(0), 1.0, 1.0, earlier.clone())
    assert torch.equal(optimizer.params[0].grad, torch.tensor([1.5, 3.0, 3.5]))


@pytest.mark.parametrize("loss, gradient", [(float("nan"), 1.0), (float("inf"), 1.0), (1.0, float("nan"))])
def test_others_have_no_gradients_and_no_weight(loss: float, gradient: float, caplog: Any) -> None:
    guard = NonFinite(2)
    with caplog.at_level(logging.WARNING):
        (value, size, logged), optimizer = step(guard, loss, gradient)
    assert value == 0 and size == 0 and logged["sample_size"] == 0 and logged["loss"] == 0
    assert all(parameter.grad is None for parameter in optimizer.params)
    assert "update 7" in caplog.text and "clip0, clip1" in caplog.text and "2 more" in caplog.text
    step(guard, loss, gradient)
    with pytest.raises(UserError, match="2 such batches were skipped"):
        step(guard, loss, gradient)

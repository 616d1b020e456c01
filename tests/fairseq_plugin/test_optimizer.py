"""The fused Adam takes the steps of fairseq's."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fairseq.optim import adam

from mmpt.fairseq_plugin.optimizer import FairseqAdam, FusedAdam
from mmpt.fairseq_plugin.trainer import MMTrainer
from mmpt.training.non_finite import NonFinite


def build(params: list[Any], **options: Any) -> adam.FairseqAdam:
    config = adam.FairseqAdamConfig(adam_betas="(0.9, 0.98)", lr=[0.01], weight_decay=0.1, **options)  # type: ignore[arg-type]
    return FairseqAdam(config, params)


def parameters(dtype: torch.dtype = torch.float32) -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in ((7, 5), (3,))]


def steps(optim: adam.FairseqAdam, params: list[torch.nn.Parameter], count: int, seed: int = 1) -> None:
    torch.manual_seed(seed)
    for _ in range(count):
        for param in params:
            param.grad = torch.randn_like(param)
        optim.step()


def test_steps_of_fairseqs_adam() -> None:
    fused, old = parameters(), parameters()
    first, second = build(fused), build(old, use_old_adam=True)
    assert type(first.optimizer) is FusedAdam
    assert type(second.optimizer) is adam.Adam
    steps(first, fused, 20)
    steps(second, old, 20)
    for ours, theirs, start in zip(fused, old, parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
        assert (ours - start).abs().max() > 0.01


@pytest.mark.parametrize("first_is_old", [True, False])
def test_resumes_from_a_checkpoint_of_either(first_is_old: bool) -> None:
    params = parameters()
    optim = build(params, use_old_adam=first_is_old)
    steps(optim, params, 5)
    resumed = [torch.nn.Parameter(param.detach().clone()) for param in params]
    second = build(resumed)
    second.load_state_dict(copy.deepcopy(optim.state_dict()), {"lr": 0.01})
    assert type(second.optimizer) is FusedAdam
    steps(optim, params, 5, seed=2)
    steps(second, resumed, 5, seed=2)
    for param, other in zip(params, resumed):
        torch.testing.assert_close(param, other, rtol=1e-5, atol=1e-6)
    assert all(group["fused"] for group in second.optimizer.param_groups)


def test_half_precision_stays_with_fairseq() -> None:
    assert type(build(parameters(torch.bfloat16)).optimizer) is adam.Adam
    assert type(build([{"params": parameters()}]).optimizer) is FusedAdam


@pytest.mark.parametrize("clip_norm", [0.0, 0.5, 100.0])
def test_clipping_uses_the_norm_of_the_check(clip_norm: float) -> None:
    """The same gradients and norm as fairseq's clipping, which computes the norm a second time."""
    ours, theirs = parameters(), parameters()

    def backward(params: list[torch.nn.Parameter]) -> Any:
        torch.manual_seed(1)
        for param in params:
            param.grad = torch.randn_like(param)
        return torch.tensor(1.0), 1, {"loss": torch.tensor(1.0)}

    backward(theirs)
    guard = NonFinite(0)
    guard.step(lambda: backward(ours), {"video_id": []}, SimpleNamespace(params=ours), 1)
    trainer = SimpleNamespace(
        task=SimpleNamespace(non_finite=guard), data_parallel_world_size=1, optimizer=build(ours)
    )
    found = MMTrainer.clip_grad_norm(trainer, clip_norm)  # type: ignore[arg-type]
    wanted = build(theirs, use_old_adam=True).clip_grad_norm(clip_norm)
    assert found == wanted and found > 1
    for one, other in zip(ours, theirs):
        assert one.grad is not None and other.grad is not None and torch.equal(one.grad, other.grad)


def test_gradients_are_multiplied_unless_by_one() -> None:
    params = parameters()
    optim = build(params)
    for param in params:
        param.grad = torch.ones_like(param)
    for factor, expected in ((1.0, 1.0), (0.5, 0.5), (torch.tensor(4.0), 2.0)):
        optim.multiply_grads(factor)
        assert all(param.grad is not None and bool((param.grad == expected).all()) for param in params)

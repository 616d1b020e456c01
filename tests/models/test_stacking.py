"""An ensemble computed as one gives what its models give one at a time, with the same dropout."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mmpt.models import ensemble
from mmpt.models.ensemble import can_stack, run_stacked, stacked_copy
from mmpt.models.layers import DrawnAhead, Embedding, LayerNorm, Linear, quick_dropout
from mmpt.models.packing import set_packed

IO = dict[str, torch.Tensor]
NARROW = {
    "ensemble_size": 3,
    "multimodal_projection": "l2_norm",
    "video_hidden_size": 32,
    "freeze_text": True,
}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def result(model: Any, io: IO) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Embeddings, gradients and the state of the random generator after them."""
    torch.manual_seed(4)
    model.train().zero_grad()
    video, text = (
        model.encode_video(io["vfeats"], io["vmasks"]),
        model.encode_text(io["caps"], io["cmasks"]),
    )
    (video.square().sum() + (video * text).sum()).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return [video.detach(), text.detach(), *gradients], torch.get_rng_state()


@pytest.mark.parametrize(
    "options",
    [{}, {"dropout": 0.2}, {"dropout": 0.0}, {"multimodal_projection": False, "video_hidden_size": None}],
)
def test_stacked_equals_one_at_a_time(
    make_model: Any, io: IO, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(**(NARROW | options)).train()
    assert can_stack(model.members)
    together, state = result(model, io)
    monkeypatch.setattr(ensemble, "can_stack", lambda modules: False)
    alone, state_alone = result(model, io)
    assert len(together) == len(alone) > 20
    for one, other in zip(together, alone):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert torch.equal(state, state_alone)
    monkeypatch.undo()
    other_clips = {**io, "vfeats": io["vfeats"].flip(0), "vmasks": io["vmasks"].flip(0)}
    assert not torch.equal(result(model, other_clips)[0][0], together[0])


def test_what_cannot_be_stacked(make_model: Any, io: IO, monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ({"pooling": "attention"}, {"conv1d": 1}, {"activation_checkpointing": True}):
        assert not can_stack(make_model(**(NARROW | options)).train().members), options
    model = make_model(**NARROW)
    assert not can_stack(model.members), "evaluation may use several threads"
    model.train()
    assert not can_stack(list(model.members)[:1])
    torch.set_num_threads(1)
    assert not can_stack(model.members)
    torch.set_num_threads(2)
    set_packed(model, False)
    assert not can_stack(model.members)
    set_packed(model, True)
    monkeypatch.setattr("mmpt.models.ensemble._LARGEST", 1000)
    assert not can_stack(model.members)


@pytest.mark.parametrize("options", [{}, {"multimodal_projection": False}])
def test_short_batches_are_embedded_by_one_module_to_the_digit(
    make_model: Any, io: IO, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    model = make_model(**(NARROW | options)).eval()
    names = list(model.state_dict())
    clips = (io["vfeats"], io["vmasks"])
    calls: list[int] = []
    model.members[0].register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():
        alone = model.encode_video(*clips)
        model.prepare_for_short_batches()
        del calls[:]
        together = model.encode_video(*clips)
        assert torch.equal(alone, together) and list(model.state_dict()) == names
        used = len(calls)
        monkeypatch.setattr(ensemble, "_SHORT", clips[1].numel() - 1)
        assert torch.equal(alone, model.encode_video(*clips)) and len(calls) == used + 1
    model.train()
    model.encode_video(*clips).sum().backward()
    assert all(p.grad is not None for p in model.members[-1].video_encoder.videomlp.parameters())


def test_what_has_no_stacked_copy(make_model: Any) -> None:
    for options in ({"pooling": "attention"}, {"conv1d": 1}):
        assert stacked_copy(list(make_model(**(NARROW | options)).members)) is None
    assert stacked_copy(list(make_model(**NARROW).members)[:1]) is None


def test_clips_longer_than_the_position_table(make_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(**(NARROW | {"dropout": 0.0})).train()
    rows = model.members[0].video_encoder.bert.max_positions
    width = model.members[0].video_encoder.vfeat_dim
    vfeats, vmasks = torch.randn(2, rows + 3, width), torch.ones(2, rows + 3, dtype=torch.bool)
    together = model.encode_video(vfeats, vmasks)
    monkeypatch.setattr(ensemble, "can_stack", lambda modules: False)
    torch.testing.assert_close(together, model.encode_video(vfeats, vmasks), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "modules, values",
    [
        ([Linear(5, 3) for _ in range(4)], torch.randn(7, 5)),
        ([Linear(5, 3, bias=False) for _ in range(2)], torch.randn(1, 5)),
        ([Embedding(9, 3) for _ in range(4)], torch.randint(0, 9, (2, 6))),
    ],
)
def test_layers_with_a_stack_of_weights(modules: list[Any], values: torch.Tensor) -> None:
    expected = torch.stack([module(values) for module in modules])
    assert torch.equal(run_stacked(modules, values), expected)


def test_layer_norm_with_a_stack_of_weights() -> None:
    norms = [LayerNorm(5, eps=1e-3) for _ in range(3)]
    for norm in norms:
        torch.nn.init.normal_(norm.weight)
    values = torch.randn(3, 7, 5)
    expected = torch.stack([norm(value) for norm, value in zip(norms, values)])
    assert torch.equal(run_stacked(norms, values), expected)


def test_dropout_draws_what_the_modules_would_draw() -> None:
    first, second = torch.ones(3, 7), torch.ones(5)  # of no whole number of 64-bit words
    torch.manual_seed(1)
    expected = [[quick_dropout(values, 0.5) for values in (first, second)] for _ in range(4)]
    torch.manual_seed(1)
    with DrawnAhead(4, [21, 5]):
        found = [quick_dropout(values.expand(4, *values.shape), 0.5) for values in (first, second)]
    for number in (0, 1):
        assert torch.equal(found[number], torch.stack([one[number] for one in expected]))
    with pytest.raises(AssertionError, match="left over"), DrawnAhead(4, [21, 5]):
        quick_dropout(first.expand(4, 3, 7), 0.5)
    with pytest.raises(AssertionError, match="not the dropout"), DrawnAhead(4, [20]):
        quick_dropout(first.expand(4, 3, 7), 0.5)

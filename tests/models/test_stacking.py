"""An ensemble computed as one gives what its models give one at a time, with the same dropout."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from mmpt.models import ensemble
from mmpt.models.ensemble import MMFusionEnsemble, run_stacked, stacked, stacked_copy
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
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are computed as one where torch has several threads; the tests themselves need only one."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


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
    [
        *({}, {"dropout": 0.2}, {"dropout": 0.0}, {"dropout": 0.0, "nested_attention": True}),
        {"multimodal_projection": False, "video_hidden_size": None},
    ],
)
def test_stacked_equals_one_at_a_time(
    make_model: Any, io: IO, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(**(NARROW | options)).train()
    assert model.computes_as_one()
    together, state = result(model, io)
    monkeypatch.setattr(MMFusionEnsemble, "computes_as_one", lambda self: False)
    alone, state_alone = result(model, io)
    assert len(together) == len(alone) > 20
    for one, other in zip(together, alone):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert torch.equal(state, state_alone)
    monkeypatch.undo()
    other_clips = {**io, "vfeats": io["vfeats"].flip(0), "vmasks": io["vmasks"].flip(0)}
    assert not torch.equal(result(model, other_clips)[0][0], together[0])


def test_dropout_of_nested_attention_is_drawn_by_torch(make_model: Any, io: IO) -> None:
    rates = {"nested_attention": True, "dropout": 0.2}
    model, without = (make_model(**NARROW, **(rates | other)).train() for other in ({}, {"dropout": 0.0}))
    assert model.computes_as_one()
    video = result(model, io)[0][0]
    assert torch.equal(result(model, io)[0][0], video)
    assert (result(without, io)[0][0] - video).abs().max() > 0.01


def train(
    model: Any, io: IO, batches: Sequence[Sequence[int]], optimizer: torch.optim.Optimizer
) -> list[torch.Tensor]:
    """Updates of one or several batches each; the losses."""
    losses = []
    for update, batch in enumerate(batches):
        optimizer.zero_grad()
        for row in batch:
            rows = slice(row, row + 2)
            torch.manual_seed(7 * update + row)
            video = model.encode_video(io["vfeats"][rows], io["vmasks"][rows])
            loss = (video * model.encode_text(io["caps"][rows], io["cmasks"][rows])).square().mean()
            loss.backward()
            losses.append(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
    return losses


@pytest.mark.parametrize("change", ["moved", "gradient replaced", "copied and frozen"])
def test_training_as_one_equals_training_one_at_a_time(
    make_model: Any, io: IO, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Losses, weights and the state of Adam, with one and with several batches in an update."""
    batches = [[0], [1, 2]]

    def trained() -> tuple[list[torch.Tensor], Any, list[torch.Tensor]]:
        torch.manual_seed(3)
        model = make_model(**NARROW, num_hidden_video_layers=1).train()
        model.exclusive = True
        if change == "copied and frozen":
            model.encode_video(io["vfeats"][:1], io["vmasks"][:1])
            model = copy.deepcopy(model)
            for space in model.members:
                space.video_encoder.bert.embeddings.requires_grad_(False)
        parameters = [each for each in model.parameters() if each.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=0.01)
        losses = train(model, io, batches, optimizer)
        if change == "moved":
            model.double().float()
        if change == "gradient replaced":
            for parameter in parameters:
                parameter.grad = None if parameter.grad is None else 2 * parameter.grad
            model.encode_video(io["vfeats"][:1], io["vmasks"][:1]).square().mean().backward()
            optimizer.step()
        losses += train(model, io, batches[1:], optimizer)
        moments = [optimizer.state[each]["exp_avg"] for each in parameters if each in optimizer.state]
        return losses, model, moments

    together = trained()
    assert together[1].computes_as_one()
    assert any(p.untyped_storage().nbytes() > p.nbytes for p in together[1].parameters())
    monkeypatch.setattr(MMFusionEnsemble, "computes_as_one", lambda self: False)
    alone = trained()
    assert len(together[0]) == len(alone[0]) and len(together[2]) == len(alone[2]) > 20
    torch.testing.assert_close(together[0], alone[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(together[2], alone[2], rtol=1e-3, atol=1e-6)
    state, expected = together[1].state_dict(), alone[1].state_dict()
    assert list(state) == list(expected)
    for name in state:
        if not name.endswith("key.bias"):  # its gradient is zero but for rounding
            torch.testing.assert_close(state[name], expected[name], rtol=1e-3, atol=1e-4)


def test_gradients_of_a_parameter_that_is_used_by_itself_as_well(make_model: Any, io: IO) -> None:
    model = make_model(**(NARROW | {"dropout": 0.0})).train()
    model.exclusive = True
    weight = model.members[1].video_projection.linear.weight
    gradients = []
    for used in ("as one", "by itself", "both"):
        model.zero_grad()
        loss = weight.square().sum() if used != "as one" else 0
        if used != "by itself":
            loss = loss + model.encode_video(io["vfeats"], io["vmasks"]).square().sum()
        loss.backward()
        gradients.append(weight.grad.clone())
    torch.testing.assert_close(gradients[2], gradients[0] + gradients[1])
    model.exclusive = False
    assert model.computes_as_one()
    total = model.encode_video(io["vfeats"], io["vmasks"]).square().sum()
    torch.testing.assert_close(torch.autograd.grad(total, weight)[0], gradients[0])


def test_what_cannot_be_stacked(make_model: Any, io: IO, monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ({"pooling": "attention"}, {"conv1d": 1}, {"activation_checkpointing": True}):
        assert not make_model(**(NARROW | options)).train().computes_as_one(), options
    model = make_model(**NARROW)
    assert not model.computes_as_one(), "evaluation may use several threads"
    model.exclusive = True
    assert model.computes_as_one()
    with torch.inference_mode():
        assert not model.computes_as_one()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert not model.train().computes_as_one()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert model.computes_as_one()
    set_packed(model, False)
    assert not model.train().computes_as_one()
    set_packed(model, True)
    monkeypatch.setattr("mmpt.models.ensemble._LARGEST", 1000)
    assert not model.train().computes_as_one()


@pytest.mark.parametrize("options", [{}, {"multimodal_projection": False}])
def test_short_batches_are_embedded_by_one_module_to_the_digit(
    make_model: Any, io: IO, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
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
    monkeypatch.setattr(MMFusionEnsemble, "computes_as_one", lambda self: False)
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
    assert torch.equal(run_stacked(modules[0], stacked(modules), values), expected)


def test_layer_norm_with_a_stack_of_weights() -> None:
    norms = [LayerNorm(5, eps=1e-3) for _ in range(3)]
    for norm in norms:
        torch.nn.init.normal_(norm.weight)
    values = torch.randn(3, 7, 5)
    expected = torch.stack([norm(value) for norm, value in zip(norms, values)])
    assert torch.equal(run_stacked(norms[0], stacked(norms), values), expected)


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

"""Training the used rows of a word table equals training the whole table with Adam, also across a resume."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from mmpt.fairseq_plugin.optimizer import FusedAdam
from mmpt.models import MMFusionSeparate
from mmpt.models.word_rows import TrainedRows, train_used_rows
from mmpt.utils.checkpoint import load_into

IDS = [101, 102, 5, 9, 250]
"""Of the prompts; the video tower reads its own [CLS] and [SEP]."""


def trained_tables(model: MMFusionSeparate) -> list[torch.nn.Module]:
    return [module for module in model.modules() if isinstance(module, TrainedRows)]


def adam(model: torch.nn.Module) -> FusedAdam:
    return FusedAdam(
        [p for p in model.parameters() if p.requires_grad], lr=1e-2, betas=(0.9, 0.98), weight_decay=0.0
    )


def train(model: Any, optimizer: FusedAdam, words: Sequence[int], updates: int = 5) -> None:
    for number in range(updates):
        ids = torch.tensor([[101, 102, *(words[(number + k) % len(words)] for k in range(4)), 102]] * 2)
        vfeats = torch.linspace(-1, 1, 2 * 6 * 63).view(2, 6, 63)
        out = model(vfeats, torch.ones(2, 6, dtype=torch.bool), ids, torch.ones_like(ids, dtype=torch.bool))
        optimizer.zero_grad()
        (out["pooled_text"] - out["pooled_video"]).square().sum().backward()
        optimizer.step()


def equal(one: torch.nn.Module, other: torch.nn.Module) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-5, atol=1e-6, msg=name)


def test_training_equals_that_of_the_whole_table(make_model: Any) -> None:
    whole, rows = make_model(), make_model()
    start = {name: value.clone() for name, value in whole.state_dict().items()}
    train_used_rows(rows, IDS)
    assert len(trained_tables(rows)) == 2
    for model in (whole, rows):
        train(model, adam(model), IDS)
    equal(whole, rows)
    table = "text_encoder.embeddings.word_embeddings.weight"
    changed = (rows.state_dict()[table] != start[table]).any(1).nonzero()[:, 0]
    assert changed.tolist() == sorted(IDS)
    tower = rows.video_encoder
    of_video = (tower.bert.state_dict()["embeddings.word_embeddings.weight"] != start[table]).any(1)
    assert of_video.nonzero()[:, 0].tolist() == sorted([tower.cls_id, tower.sep_id])
    gradients = sum(p.grad.numel() for p in rows.parameters() if p.grad is not None)
    assert gradients < sum(p.grad.numel() for p in whole.parameters() if p.grad is not None) - 2 * 200 * 32


def test_words_that_are_not_trained_are_looked_up(make_model: Any) -> None:
    model = make_model()
    ids = torch.tensor([[101, 102, 7, 5, 299, 102]])
    expected = model.encode_text(ids, ids > 0)
    train_used_rows(model, IDS)
    assert torch.equal(model.encode_text(ids, ids > 0), expected)


def test_weights_are_those_of_the_whole_table(make_model: Any) -> None:
    model, other = make_model(), make_model(seed=1)
    train_used_rows(model, [*IDS, 1 << 40])  # an id of a SignWriting symbol
    load_into(model, other.state_dict())
    equal(model, other)
    with pytest.raises(RuntimeError, match="size mismatch"):
        wrong = {**other.state_dict(), "text_encoder.embeddings.word_embeddings.weight": torch.zeros(3, 32)}
        model.load_state_dict(wrong)
    copied = copy.deepcopy(model)
    train(copied, adam(copied), IDS)
    equal(model, other)


def test_few_words_of_a_small_table_and_frozen_tables_stay(make_model: Any) -> None:
    model = make_model(freeze_text=True)
    train_used_rows(model, IDS)
    assert len(trained_tables(model)) == 1
    model = make_model()
    train_used_rows(model, range(200))
    assert not trained_tables(model)


MORE, OTHERS = [*IDS, 33, 280], [*IDS, 7]


@pytest.mark.parametrize(
    "before, after",
    [(None, IDS), (IDS, None), (IDS, IDS), (IDS, OTHERS), (MORE, IDS), (MORE, OTHERS)],
)
def test_resume_with_other_rows(make_model: Any, before: list[int] | None, after: list[int] | None) -> None:
    whole, first, resumed = make_model(), make_model(), make_model(seed=1)
    for model, rows in ((first, before), (resumed, after)):
        if rows is not None:
            train_used_rows(model, rows)
    optimizers = adam(whole), adam(first)
    for model, optimizer in zip((whole, first), optimizers):
        train(model, optimizer, IDS, updates=3)
    resumed.load_state_dict(first.state_dict())
    optimizer = adam(resumed)
    optimizer.load_state_dict(copy.deepcopy(optimizers[1].state_dict()))
    train(whole, optimizers[0], IDS, updates=3)
    train(resumed, optimizer, IDS, updates=3)
    equal(whole, resumed)

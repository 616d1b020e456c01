"""A batch with its layout gives what it gives without, to the digit."""

from typing import Any

import pytest
import torch

from mmpt.models.prompts import BatchLayout
from tests.models.test_packing import batch, gradients

LENGTHS = (3, 40, 12, 12, 1, 30, 12)


@pytest.mark.parametrize(
    "options",
    [
        {"conv1d": 2},
        {"model_cls": "MMFusionShare"},
        {"freeze_text": True, "ensemble_size": 2},
        {"pooling": "max"},
    ],
    ids=str,
)
def test_outputs_and_gradients_are_the_same(make_model: Any, options: dict[str, Any]) -> None:
    model, inputs = make_model(**options).train(), batch(LENGTHS)
    found = []
    for layout in (None, BatchLayout.of(*inputs[1:])):
        torch.manual_seed(0)  # of dropout
        out = model(*inputs, layout)
        (out["pooled_video"] * out["pooled_text"]).sum().backward()
        found.append((out, gradients(model)))
    (out, grads), (with_layout, with_layout_grads) = found
    assert all(torch.equal(with_layout[name], value) for name, value in out.items())
    assert all(torch.equal(with_layout_grads[name], value) for name, value in grads.items())


def test_layout_by_hand() -> None:
    caps = torch.tensor([[2, 3, 9, 3, 0, 0], [2, 3, 7, 8, 3, 0], [2, 3, 9, 3, 0, 0], [2, 3, 3, 0, 0, 0]])
    vmasks = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0], [1, 1, 0]]).bool()
    layout = BatchLayout.of(vmasks, caps, caps > 0)
    assert layout is not None and layout.frames == (2, 3, 1, 2)
    prompts = layout.prompts
    assert prompts.rows == (3, 1, 0) and prompts.which == (2, 1, 2, 0) and prompts.lengths == (2, 4, 3)
    assert len(set(prompts.keys)) == 3


@pytest.mark.parametrize("start, stop", [(0, 3), (2, 7), (4, 5)])
def test_a_part_is_the_layout_of_these_rows(start: int, stop: int) -> None:
    _, *masks = batch(LENGTHS)
    whole, part = BatchLayout.of(*masks), BatchLayout.of(*(each[start:stop] for each in masks))
    assert whole is not None and whole.part(start, stop) == part


def test_masks_with_gaps_have_no_layout() -> None:
    _, vmasks, caps, cmasks = batch(LENGTHS)
    holes, first = vmasks.clone(), cmasks.clone()
    holes[1, 7], first[2, 0] = False, False
    assert BatchLayout.of(holes, caps, cmasks) is None
    assert BatchLayout.of(vmasks, caps, first) is None
    assert BatchLayout.of(vmasks, caps[:, :2], cmasks[:, :2]) is None  # no prompt is that short

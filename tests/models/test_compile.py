"""`model.compile`: the same numbers, under the same names."""

import copy
from typing import Any

import pytest
import torch


def batch_of(clips: int, frames: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(frames)
    lengths = torch.randint(1, frames + 1, (clips, 1), generator=generator)
    return {
        "vfeats": torch.randn(clips, frames, 63, generator=generator),
        "vmasks": torch.arange(frames) < lengths,
        "caps": torch.randint(200, 300, (clips, 7), generator=generator),
        "cmasks": torch.ones(clips, 7, dtype=torch.bool),
    }


@pytest.mark.slow
def test_compiled_model_gives_the_same_embeddings(make_model: Any) -> None:
    plain, compiled = make_model(), make_model(compile=True)
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    copy.deepcopy(compiled)  # a running mean of the weights is one
    for training in (False, True):
        for model in (plain, compiled):
            model.train(training)
        for frames in (9, 14, 11):  # batches of other lengths
            found = []
            for model in (plain, compiled):
                torch.manual_seed(1)  # the same dropout
                out = model(*batch_of(5, frames).values())
                (out["pooled_video"] * out["pooled_text"]).sum().backward()
                found.append([*out.values(), *(p.grad for p in model.parameters() if p.grad is not None)])
                model.zero_grad(set_to_none=True)
            torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)
    assert any(module._compiled_call_impl is not None for module in compiled.modules())
    assert not any(module._compiled_call_impl is not None for module in plain.modules())

"""Several models side by side as one: the same as each alone, put together."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmpt.config.schema import LossConfig
from mmpt.evaluators.metrics.similarity import similarity
from mmpt.losses import build_loss
from mmpt.models import MMFusionMembers
from mmpt.models.finetuning import freeze
from mmpt.utils.errors import UserError

IO = dict[str, torch.Tensor]
close = torch.testing.assert_close
WIDTH = 32


def member(model: Any, number: int, make_model: Any, **options: Any) -> Any:
    """An MMFusionSeparate with the weights of one member."""
    alone = make_model(**options)
    prefix = f"members.{number}."
    state = {k.removeprefix(prefix): v for k, v in model.state_dict().items() if k.startswith(prefix)}
    text = {k: v for k, v in model.state_dict().items() if k.startswith("text_encoder.")}
    alone.load_state_dict({**state, **text})
    return alone


def embed(model: Any, io: IO) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        return model.encode_video(io["vfeats"], io["vmasks"]), model.encode_text(io["caps"], io["cmasks"])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"multimodal_projection": True, "video_hidden_size": 64, "pooling": "attention"},
        {"multimodal_projection": "l2_norm", "freeze_text": True, "conv1d": 1},
    ],
)
def test_an_embedding_is_the_members_side_by_side(make_model: Any, io: IO, options: dict[str, Any]) -> None:
    model = make_model(members=3, **options)
    assert isinstance(model, MMFusionMembers) and model.hidden_size == 3 * WIDTH
    whole = embed(model, io)
    alone = [embed(member(model, i, make_model, **options), io) for i in range(3)]
    for side in (0, 1):
        close(whole[side], torch.cat([parts[side] for parts in alone], -1), rtol=0, atol=1e-6)
    assert (alone[0][0] - alone[1][0]).abs().max() > 1e-3, "members must not be copies of each other"


def test_cosine_is_the_mean_of_the_members_cosines(make_model: Any, io: IO) -> None:
    options = {"multimodal_projection": "l2_norm"}
    model = make_model(members=3, **options)
    video, text = (side.numpy() for side in embed(model, io))
    each = []
    for i in range(3):
        clips, prompts = (F.normalize(side) for side in embed(member(model, i, make_model, **options), io))
        each.append((prompts @ clips.T).numpy())
    np.testing.assert_allclose(similarity(text, video, "cosine"), np.mean(each, 0), atol=1e-6)


@pytest.mark.parametrize("label_aware", [False, True])
@pytest.mark.parametrize("loss_cls", ["MMContraLoss", "MMSigmoidLoss"])
def test_each_member_is_trained_as_if_alone(
    make_model: Any, io: IO, loss_cls: str, label_aware: bool
) -> None:
    """Loss: the mean of theirs. Gradients: each its own, divided by the number of members."""
    options = {"multimodal_projection": True, "video_hidden_size": 64, "freeze_text": True}
    config = LossConfig(loss_cls=loss_cls, similarity="cosine", temperature=0.1, learnable_temperature=True)
    config.label_aware = label_aware
    labels = torch.arange(len(io["vfeats"])) // 2
    model = make_model(members=2, **options)
    together = build_loss(config, members=2)
    out = model(io["vfeats"], io["vmasks"], io["caps"], io["cmasks"])
    value = together(out["pooled_video"], out["pooled_text"], labels)
    value.backward()
    values = []
    for i in range(2):
        alone, loss = member(model, i, make_model, **options), build_loss(config)
        out = alone(io["vfeats"], io["vmasks"], io["caps"], io["cmasks"])
        values.append(loss(out["pooled_video"], out["pooled_text"], labels))
        values[-1].backward()
        got = dict(model.members[i].named_parameters())
        wanted = {n: p.grad for n, p in alone.named_parameters() if p.grad is not None}
        assert len(wanted) > 10
        for name, gradient in wanted.items():
            close(got[name].grad, gradient / 2, rtol=1e-4, atol=1e-6)
    close(value, torch.stack(values).mean())
    learnt = [p.grad for p in together.parameters()]
    assert learnt and all(g is not None and g.abs().sum() > 0 for g in learnt)


def test_an_embedding_does_not_depend_on_its_batch(make_model: Any, io: IO) -> None:
    model = make_model(members=2)
    video, text = embed(model, io)
    for i in range(len(video)):
        one = {name: values[i : i + 1] for name, values in io.items() if name in ("vfeats", "vmasks")}
        with torch.no_grad():
            close(model.encode_video(**one)[0], video[i], rtol=0, atol=1e-5)
            close(
                model.encode_text(io["caps"][i : i + 1], io["cmasks"][i : i + 1])[0],
                text[i],
                atol=1e-5,
                rtol=0,
            )


def test_what_is_frozen_is_frozen_in_all_of_them(make_model: Any) -> None:
    model = make_model(members=2, multimodal_projection=True, train_last_layers=1)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    for i in range(2):
        assert f"members.{i}.video_projection.linear.weight" in trained
        own = {name for name in trained if name.startswith(f"members.{i}.video_encoder")}
        assert own and all(".layer.1." in name for name in own)
    model = make_model(members=2, multimodal_projection=True, train_projections_only=True)
    assert {name.split(".")[2] for name, p in model.named_parameters() if p.requires_grad} == {
        "video_projection",
        "text_projection",
    }
    with pytest.raises(UserError, match="no projection to train"):
        freeze(make_model(members=2), None, True)


def test_one_shared_tower_has_no_members(make_model: Any) -> None:
    with pytest.raises(UserError, match=r"model\.members belongs to MMFusionSeparate"):
        make_model(model_cls="MMFusionShare", members=2)

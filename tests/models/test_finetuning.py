"""Fine-tuning: which parameters are trained."""

from typing import Any

import pytest
import torch

from mmpt.losses import MMContraLoss
from mmpt.models.finetuning import check_filled
from mmpt.utils.checkpoint import load_into
from mmpt.utils.errors import UserError


def trained(model: Any, io: dict[str, torch.Tensor]) -> set[str]:
    """Names of the parameters that one step of SGD changes."""
    model.train()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    given = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(given, lr=1.0)
    out = model(io["vfeats"], io["vmasks"], io["caps"], io["cmasks"])
    MMContraLoss()(out["pooled_video"], out["pooled_text"]).backward()
    assert all(parameter.grad is not None for parameter in given), "one without stops distributed training"
    optimizer.step()
    return {name for name, parameter in model.named_parameters() if (parameter != before[name]).any()}


def test_train_last_layers(make_model: Any, io: dict[str, torch.Tensor]) -> None:
    changed = trained(make_model(train_last_layers=1, multimodal_projection=True), io)
    parts = {".".join(name.split(".")[:5]) for name in changed if "layer" in name}
    assert any(name.startswith("video_encoder.bert.encoder.layer.1") for name in parts)
    assert not any("layer.0." in name or "embeddings" in name or "videomlp" in name for name in changed)
    assert any(name.startswith("text_encoder") for name in changed)
    assert {"video_projection.linear.weight", "text_projection.linear.weight"} <= changed


@pytest.mark.parametrize("text_encoder", ["BertModel", "SignWritingBert"])
def test_train_last_layers_keeps_a_frozen_text_tower(
    make_model: Any, io: dict[str, torch.Tensor], text_encoder: str
) -> None:
    changed = trained(make_model(train_last_layers=1, freeze_text=True, text_encoder_cls=text_encoder), io)
    assert changed and not any(name.startswith("text_encoder") for name in changed)


def test_train_projections_only(make_model: Any, io: dict[str, torch.Tensor]) -> None:
    changed = trained(make_model(train_projections_only=True, multimodal_projection=True), io)
    assert changed == {"video_projection.linear.weight", "text_projection.linear.weight"}


def test_train_last_layers_of_a_shared_tower(make_model: Any, io: dict[str, torch.Tensor]) -> None:
    model = make_model(model_cls="MMFusionShare", train_last_layers=1)
    layers = len(model.mm_encoder.bert.encoder.layer)
    assert all(f"layer.{layers - 1}." in name for name in trained(model, io))


def test_freeze_does_not_change_embeddings(make_model: Any, io: dict[str, torch.Tensor]) -> None:
    one, two = make_model(seed=3), make_model(seed=3, train_last_layers=1)
    torch.testing.assert_close(
        one.encode_video(io["vfeats"], io["vmasks"]), two.encode_video(io["vfeats"], io["vmasks"])
    )


@pytest.mark.parametrize(
    "options, words",
    [
        ({"train_projections_only": True}, "set model.multimodal_projection"),
        ({"train_last_layers": 99}, "video_encoder has 2 layers"),
        ({"train_last_layers": 1, "train_projections_only": True}, "contradict"),
    ],
)
def test_freeze_option_errors(make_model: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_model(**options)


def test_check_filled_refuses_a_random_frame_mlp(make_model: Any) -> None:
    """With another feature dimension the checkpoint has no frame MLP, so it would stay random."""
    state = {name: tensor for name, tensor in make_model().state_dict().items() if "videomlp" not in name}
    ignored = ["video_encoder.videomlp.*", "*.pooler.*"]
    model = make_model(train_last_layers=1)
    with pytest.raises(
        UserError, match=r"video_encoder\.videomlp\.linear1\.weight is not loaded from .* random"
    ):
        check_filled(model, load_into(model, state, ignore=ignored))
    for options in ({}, {"freeze_text": True}, {"lora_rank": 2}):
        model = make_model(**options)
        check_filled(model, load_into(model, state, ignore=ignored))

"""Two towers and one, their options, and the text side against the transformers library."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from mmpt.config.schema import DatasetConfig, ModelConfig
from mmpt.losses import MMContraLoss, cached_loss_backward
from mmpt.models import MMFusionShare, build_model, load_bert
from mmpt.utils.errors import UserError

IO = dict[str, torch.Tensor]
close = torch.testing.assert_close


def video(model: Any, io: IO) -> torch.Tensor:
    with torch.no_grad():
        return model.encode_video(io["vfeats"], io["vmasks"])


def text(model: Any, io: IO) -> torch.Tensor:
    with torch.no_grad():
        return model.encode_text(io["caps"], io["cmasks"])


def test_text_tower_equals_transformers(make_model: Any, tiny_bert: str, io: IO) -> None:
    from transformers import BertModel

    theirs = BertModel.from_pretrained(tiny_bert).eval()
    keep = [0, *range(2, io["caps"].shape[1])]
    ids, mask = io["caps"][:, keep], io["cmasks"][:, keep]
    for model_cls in ("MMFusionSeparate", "MMFusionShare"):
        types = torch.ones_like(ids)
        types[:, 0] = 0
        with torch.no_grad():
            hidden = theirs(
                ids, attention_mask=mask.long(), token_type_ids=types * (model_cls == "MMFusionShare")
            ).last_hidden_state
        expected = (hidden * mask[..., None])[:, 1:].sum(1) / (mask.sum(1, keepdim=True) - 1)
        close(text(make_model(model_cls=model_cls), io), expected, rtol=0, atol=1e-5)


def test_video_tower_starts_from_the_text_model(make_model: Any, tiny_bert: str) -> None:
    state = make_model().state_dict()
    for name, tensor in load_bert(tiny_bert).weights.items():  # type: ignore[union-attr]
        assert torch.equal(state[f"text_encoder.{name}"], tensor)
        if "layer.2" not in name and "layer.3" not in name:
            assert torch.equal(state[f"video_encoder.bert.{name}"], tensor)


def test_projection_is_a_linear_map_without_bias(make_model: Any, io: IO) -> None:
    plain = make_model()
    for option in (True, "l2_norm"):
        model = make_model(multimodal_projection=option)
        names = set(model.state_dict()) - set(plain.state_dict())
        assert names == {"video_projection.linear.weight", "text_projection.linear.weight"}
        model.load_state_dict(plain.state_dict(), strict=False)
        for side, pooled in (("video", video), ("text", text)):
            weight = model.get_submodule(f"{side}_projection").linear.weight
            assert weight.std().item() == pytest.approx(0.12, rel=0.2)  # the fixture's initializer_range
            expected = pooled(plain, io) @ weight.detach().T
            expected = F.normalize(expected, dim=-1) if option == "l2_norm" else expected
            close(pooled(model, io), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match="multimodal_projection"):
        make_model(multimodal_projection="l1")


def test_max_and_attention_pooling(make_model: Any, io: IO) -> None:
    plain = make_model()
    with torch.no_grad():
        hidden, mask = plain.video_encoder(io["vfeats"], io["vmasks"])
    for i, length in enumerate(io["vmasks"].sum(1)):
        tokens = torch.cat([hidden[i, :length], hidden[i, -1:]])
        close(video(plain, io)[i], tokens.mean(0))
        largest = make_model(pooling="max")
        largest.load_state_dict(plain.state_dict())
        close(video(largest, io)[i], tokens.max(0).values)
    attention = make_model(pooling="attention")
    attention.load_state_dict(plain.state_dict(), strict=False)
    close(video(attention, io), video(plain, io), rtol=0, atol=1e-5)  # starts as the mean
    with torch.no_grad():
        attention.video_pooling.score.weight.normal_()
    weights = attention.video_pooling.score(hidden)[..., 0].exp() * mask
    expected = (hidden * (weights / weights.sum(1, keepdim=True))[..., None]).sum(1)
    close(video(attention, io), expected.detach(), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="pooling"):
        make_model(pooling="median")


def test_frozen_text_tower_neither_learns_nor_drops(make_model: Any, io: IO) -> None:
    model = make_model(freeze_text=True, multimodal_projection=True).train()
    close(text(model, io), text(model, io))
    out = model(io["vfeats"], io["vmasks"], io["caps"], io["cmasks"])
    MMContraLoss()(out["pooled_video"], out["pooled_text"]).backward()
    assert all(parameter.grad is None for parameter in model.text_encoder.parameters())
    assert model.text_projection.linear.weight.grad.abs().max() > 0
    assert model.video_encoder.videomlp.linear1.weight.grad.abs().max() > 0


def test_every_trainable_parameter_gets_a_gradient(make_model: Any, io: IO) -> None:
    """A parameter without one stops distributed training."""
    for options in ({}, {"model_cls": "MMFusionShare"}, {"pooling": "attention", "conv1d": 1}):
        model = make_model(**options).train()
        out = model(io["vfeats"], io["vmasks"], io["caps"], io["cmasks"])
        MMContraLoss()(out["pooled_video"], out["pooled_text"]).backward()
        idle = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert idle == []


def test_one_shared_tower(make_model: Any, io: IO) -> None:
    model = make_model(model_cls="MMFusionShare")
    assert isinstance(model, MMFusionShare)
    assert {name.split(".")[0] for name in model.state_dict()} == {"mm_encoder"}
    separate = make_model(num_hidden_video_layers=4)
    state = {name.replace("mm_encoder", "video_encoder"): t for name, t in model.state_dict().items()}
    separate.load_state_dict(state, strict=False)
    close(video(model, io), video(separate, io))
    # VideoCLIP's first release put prompts behind the video's positions
    behind = MMFusionShare(model.mm_encoder, text_offset=129)
    table = model.mm_encoder.bert.embeddings.position_embeddings.weight
    expected = text(model, io)
    with torch.no_grad():
        rolled = table.clone()
        rolled[130:160] = table[1:31]
        rolled[1:31] = 0
        model.mm_encoder.bert.embeddings.position_embeddings.weight.copy_(rolled)
    close(text(behind, io), expected)
    with pytest.raises(UserError, match="MMFusionSeparate"):
        make_model(model_cls="MMFusionShare", multimodal_projection=True)


def test_text_too_long_or_malformed_is_refused(make_model: Any) -> None:
    model = make_model()
    caps = torch.full((1, 514), 7)
    with pytest.raises(UserError, match="max_len"):
        model.encode_text(caps, torch.ones_like(caps).bool())
    cmasks = torch.ones_like(caps).bool()
    cmasks[:, 513:] = False  # only padding goes beyond
    assert model.encode_text(caps, cmasks).shape == (1, 32)
    with pytest.raises(UserError, match="cmasks"):
        model.encode_text(caps, cmasks[:, :4])


def test_unknown_names_are_listed(dataset_cfg: DatasetConfig) -> None:
    for field in ("model_cls", "video_encoder_cls", "text_encoder_cls"):
        config = dataclasses.replace(ModelConfig(num_hidden_video_layers=1), **{field: "Nothing"})
        with pytest.raises(UserError, match=f"model.{field}"):
            build_model(config, dataset_cfg)


def test_sizes_alone_build_the_same_modules(
    tiny_bert: str, dataset_cfg: DatasetConfig, make_model: Any
) -> None:
    sizes = load_bert(tiny_bert, weights=False)
    config = ModelConfig(num_hidden_video_layers=2, vfeat_dim=63)
    model = build_model(config, dataset_cfg, sizes)
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in make_model().state_dict().items()
    }
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


def test_same_seed_same_model(make_model: Any) -> None:
    first, second, third = (make_model(seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(
        first["video_encoder.videomlp.linear1.weight"], third["video_encoder.videomlp.linear1.weight"]
    )


def test_other_text_models_by_path(tmp_path: Path, tiny_bert: str, dataset_cfg: DatasetConfig) -> None:
    link = tmp_path / "bert-base-cased"
    link.symlink_to(tiny_bert)
    model = build_model(
        ModelConfig(num_hidden_video_layers=4, vfeat_dim=1629),
        dataclasses.replace(dataset_cfg, bert_name=str(link)),
    )
    assert model.hidden_size == 32


def test_cached_accumulation_equals_the_big_batch(make_model: Any, io: IO) -> None:
    model = make_model(conv1d=1)
    names = ("vfeats", "vmasks", "caps", "cmasks")
    out = model(*(io[name] for name in names))
    expected = MMContraLoss()(out["pooled_video"], out["pooled_text"])
    expected.backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    wanted = [parameter.grad.clone() for parameter in trained]
    model.zero_grad()
    parts = [{name: io[name][start : start + 2] for name in names} for start in (0, 2, 4)]
    assert cached_loss_backward(model, MMContraLoss(), parts) == pytest.approx(expected.item(), rel=1e-5)
    for parameter, want in zip(trained, wanted):
        close(parameter.grad, want, rtol=1e-4, atol=1e-5)


def test_video_tower_of_its_own_width(make_model: Any, io: IO) -> None:
    model = make_model(video_hidden_size=64, multimodal_projection=True, num_hidden_video_layers=3)
    tower = model.video_encoder.bert
    assert tower.settings.hidden_size == 64 and len(tower.encoder.layer) == 3
    assert tower.embeddings.word_embeddings.num_embeddings <= model.text_encoder.settings.vocab_size
    assert video(model, io).shape[1] == text(model, io).shape[1] == model.hidden_size
    one = [{name: io[name][i : i + 1] for name in ("vfeats", "vmasks")} for i in range(3)]
    alone = torch.cat([video(model, clip) for clip in one])
    close(alone, video(model, io)[:3], rtol=0, atol=1e-5)
    other = make_model(seed=1, video_hidden_size=64, multimodal_projection=True, num_hidden_video_layers=3)
    key = "video_encoder.bert.encoder.layer.0.output.dense.weight"
    assert not torch.equal(model.state_dict()[key], other.state_dict()[key]), "drawn, not copied"
    for options, words in (
        ({"video_hidden_size": 64}, "multimodal_projection: true"),
        ({"video_hidden_size": 50, "multimodal_projection": True}, "multiple of 32"),
        ({"video_hidden_size": 64, "model_cls": "MMFusionShare"}, "one tower"),
    ):
        with pytest.raises(UserError, match=words):
            make_model(**options)

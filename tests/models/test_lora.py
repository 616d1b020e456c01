"""Low-rank adapters (LoRA): training, merging, errors."""

import builtins
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mmpt.losses import MMContraLoss
from mmpt.models import load_tokenizer
from mmpt.models.finetuning import add_adapters
from mmpt.models.fingerprint import model_fingerprint
from mmpt.models.folder import LoadedModel, save_model_folder
from mmpt.models.loading import load_model
from mmpt.models.packing import set_packed
from mmpt.utils.checkpoint import load_into, merge_adapters
from mmpt.utils.errors import MissingDataError, UserError
from tests.models.test_finetuning import trained

close = torch.testing.assert_close
BEHIND_AND_BEFORE = ("video_encoder.videomlp.", "video_projection.", "text_projection.")


def embed(model: Any, io: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    model.eval()
    with torch.no_grad():
        out = model(io["vfeats"], io["vmasks"], io["caps"], io["cmasks"])
    return out["pooled_video"], out["pooled_text"]


@pytest.fixture
def adapted(make_model: Any) -> Any:
    """adapted(rank=..., **model options) -> the model, and the same with adapters whose B is not zero."""

    def make(rank: int = 4, **options: Any) -> tuple[Any, Any]:
        plain, model = make_model(seed=1, **options), make_model(seed=1, lora_rank=rank, **options)
        add_adapters(model, rank)
        torch.manual_seed(5)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.2)
        return plain, model

    return make


@pytest.mark.parametrize("options", [{}, {"model_cls": "MMFusionShare"}])
def test_lora_initially_changes_nothing(
    make_model: Any, io: dict[str, Tensor], options: dict[str, Any]
) -> None:
    model = make_model(**options)
    before = embed(model, io)
    add_adapters(model, 4)
    for one, other in zip(embed(model, io), before):
        close(one, other, rtol=0, atol=1e-6)


def test_lora_adapts_every_linear_layer(make_model: Any) -> None:
    model = make_model()
    add_adapters(model, 4)
    names = [name for name, _ in model.named_parameters() if "lora_A" in name]
    for tower, layers in (("video_encoder.bert", 2), ("text_encoder", 4)):
        assert sum(name.startswith(tower) for name in names) == 6 * layers
    assert len(names) == 36 and not any("pooler" in name or "videomlp" in name for name in names)
    assert all(p.shape == (4, p.shape[1]) for n, p in model.named_parameters() if "lora_A" in n)


@pytest.mark.parametrize("options", [{"multimodal_projection": True}, {"pooling": "attention"}])
def test_lora_trainable_parameters(make_model: Any, io: dict[str, Tensor], options: dict[str, Any]) -> None:
    model = make_model(lora_rank=4, **options)
    add_adapters(model, 4)
    changed = trained(model, io)  # B is zero, so the first step leaves A as it is
    assert any("lora_B" in name for name in changed)
    changed |= trained(model, io)
    assert any("lora_A" in name for name in changed)
    others = {name for name in changed if "lora_" not in name}
    assert others and all(name.startswith((*BEHIND_AND_BEFORE, "video_pooling.")) for name in others)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert not frozen & changed and not any("lora_" in name for name in frozen)
    assert sum("lora_" in name for name in changed) == 72, "two factors, six maps, six layers"


def test_lora_skips_a_frozen_text_tower(make_model: Any, io: dict[str, Tensor]) -> None:
    model = make_model(lora_rank=4, freeze_text=True)
    add_adapters(model, 4)
    assert not any("lora_" in name for name in model.text_encoder.state_dict())
    assert any("lora_B" in name and name.startswith("video_encoder") for name in trained(model, io))


@pytest.mark.parametrize("options", [{}, {"model_cls": "MMFusionShare"}, {"activation_checkpointing": True}])
def test_lora_packed_equals_padded(adapted: Any, io: dict[str, Tensor], options: dict[str, Any]) -> None:
    plain, model = adapted(**options)
    found = []
    for packed in (True, False):
        set_packed(model, packed)
        model.zero_grad()
        out = model(io["vfeats"], io["vmasks"], io["caps"], io["cmasks"])
        MMContraLoss()(out["pooled_video"], out["pooled_text"]).backward()
        found.append([*out.values(), *(p.grad for p in model.parameters() if p.requires_grad)])
    close(found[0], found[1], rtol=1e-4, atol=1e-5)
    for one, other in zip(found[0], embed(plain, io)):
        assert (one - other).abs().max() > 0.01, "the adapters act"


@pytest.mark.parametrize("options", [{"multimodal_projection": True}, {"model_cls": "MMFusionShare"}])
def test_lora_merged_equals_unmerged(
    adapted: Any, make_model: Any, io: dict[str, Tensor], options: dict[str, Any]
) -> None:
    _, model = adapted(**options)
    merged = make_model(seed=9, **options)
    load_into(merged, merge_adapters(model.state_dict()))
    for one, other in zip(embed(merged, io), embed(model, io)):
        close(one, other, rtol=1e-5, atol=1e-5)


def test_lora_each_adapted_layer_has_an_effect(adapted: Any, io: dict[str, Tensor]) -> None:
    """A path that looks at the weights of a map alone would not notice its adapter."""
    plain, model = adapted()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layer = "video_encoder.bert.encoder.layer.0."
    for part in (
        *("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"),
        *("intermediate.dense", "output.dense"),
    ):
        one = {
            name: t if f"{layer}{part}.lora_B" in name or "lora_B" not in name else 0 * t
            for name, t in state.items()
        }
        model.load_state_dict(one)
        assert (embed(model, io)[0] - embed(plain, io)[0]).abs().max() > 1e-4, part


def test_lora_model_folder_has_merged_weights(
    adapted: Any, io: dict[str, Tensor], dataset_cfg: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmpt.config.schema import ModelConfig

    _, model = adapted()
    cfg = ModelConfig(num_hidden_video_layers=2, vfeat_dim=63, lora_rank=4)
    tokenizer = load_tokenizer(dataset_cfg.bert_name)
    save_model_folder(tmp_path / "m", model, cfg, dataset_cfg, tokenizer)
    weights = load_file(tmp_path / "m" / "model.safetensors")
    assert not any("lora" in name or "base_layer" in name for name in weights)
    assert "lora_rank" not in (tmp_path / "m" / "config.json").read_text()
    without_peft(monkeypatch)
    loaded = load_model(tmp_path / "m")
    assert loaded.model_cfg.lora_rank == 0
    assert model_fingerprint(loaded) == model_fingerprint(LoadedModel(model, cfg, dataset_cfg, tokenizer))
    for one, other in zip(embed(loaded.model, io), embed(model, io)):
        close(one, other, rtol=1e-5, atol=1e-5)


def without_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    find, load = importlib.util.find_spec, builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "peft":
            raise ModuleNotFoundError(name)
        return load(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *r: None if n == "peft" else find(n, *r))
    monkeypatch.setattr(builtins, "__import__", refuse)


def test_lora_without_peft(make_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    without_peft(monkeypatch)
    model = make_model(lora_rank=4)  # to evaluate needs none
    with pytest.raises(MissingDataError, match="pip install peft"):
        add_adapters(model, 4)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"train_last_layers": 1}, "lora_rank and model.train_last_layers contradict"),
        (
            {"train_projections_only": True, "multimodal_projection": True},
            "lora_rank and model.train_projections_only contradict",
        ),
    ],
)
def test_lora_option_errors(make_model: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_model(lora_rank=4, **options)


def test_lora_rank_and_tower_errors(make_model: Any) -> None:
    with pytest.raises(UserError, match="lora_rank is 33, but a tower has width 32"):
        add_adapters(make_model(), 33)
    with pytest.raises(UserError, match="every tower is frozen"):
        add_adapters(make_model().requires_grad_(False), 4)

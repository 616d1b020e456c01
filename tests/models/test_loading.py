"""One loader for every format: the same model from a folder, a checkpoint or a plain state dict."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mmpt.config import Config, save_config
from mmpt.config.schema import DatasetConfig, ModelConfig
from mmpt.models import load_tokenizer
from mmpt.models.fingerprint import model_fingerprint, weights_fingerprint
from mmpt.models.folder import LoadedModel, save_model_folder
from mmpt.models.loading import load_model, load_weights, model_files, weights_file
from mmpt.search.sources import same_model
from mmpt.utils.errors import MissingDataError, UserError

IO = dict[str, torch.Tensor]


@pytest.fixture
def config(dataset_cfg: DatasetConfig) -> Config:
    return Config(dataset_cfg, ModelConfig(num_hidden_video_layers=2, vfeat_dim=63))


@pytest.fixture(params=["folder", "fairseq", "state_dict", "safetensors"])
def saved(request: Any, tmp_path: Path, config: Config, reference_model: Any, mmfusion_dir: Path) -> Path:
    """The reference model in one of the formats."""
    state = reference_model.state_dict()
    if request.param == "folder":
        tokenizer = load_tokenizer(config.dataset.bert_name)
        save_model_folder(tmp_path / "model", reference_model, config.model, config.dataset, tokenizer)
        return tmp_path / "model"
    if request.param == "safetensors":
        return mmfusion_dir / "weights.safetensors"
    fairseq = {"model": {f"mmmodel.{name}": tensor for name, tensor in state.items()}, "args": None}
    torch.save(fairseq if request.param == "fairseq" else state, tmp_path / "checkpoint_best.pt")
    return tmp_path / "checkpoint_best.pt"


def test_load_model_gives_the_same_model_from_every_format(
    saved: Path, config: Config, reference_model: Any, io: IO
) -> None:
    loaded = load_model(saved, config)
    assert not loaded.model.training and loaded.path == saved
    assert weights_fingerprint(loaded.model) == weights_fingerprint(reference_model)
    for side in ("video", "text"):
        inputs = [io["vfeats"], io["vmasks"]] if side == "video" else [io["caps"], io["cmasks"]]
        with torch.no_grad():
            mine, theirs = (getattr(m, f"encode_{side}")(*inputs) for m in (loaded.model, reference_model))
        assert torch.equal(mine, theirs)


def test_load_model_without_a_config_reads_the_one_beside_the_checkpoint(
    tmp_path: Path, config: Config, reference_model: Any
) -> None:
    checkpoint = tmp_path / "checkpoint_best.pt"
    torch.save({"model": reference_model.state_dict()}, checkpoint)
    with pytest.raises(MissingDataError, match=r"no readable config\.yaml in its folder.*signclip convert"):
        load_model(checkpoint)
    save_config(config, tmp_path / "config.yaml")
    loaded = load_model(checkpoint)
    assert (loaded.model_cfg, loaded.dataset_cfg) == (config.model, config.dataset)
    assert model_files(checkpoint) == [checkpoint, tmp_path / "config.yaml"]


def test_load_model_names_missing_and_unexpected_parameters(saved: Path, config: Config) -> None:
    other = dataclasses.replace(config.model, num_hidden_video_layers=1, multimodal_projection=True)
    with pytest.raises(UserError, match=r"missing: .*video_projection.*unexpected: .*layer\.1\."):
        load_model(saved, dataclasses.replace(config, model=other))


def test_load_model_casts_to_the_models_precision(
    tmp_path: Path, config: Config, reference_model: Any
) -> None:
    torch.save(reference_model.double().state_dict(), tmp_path / "double.pt")
    parameters = load_model(tmp_path / "double.pt", config).model.parameters()
    assert {parameter.dtype for parameter in parameters} == {torch.float32}


def test_load_weights_of_a_folder_or_a_file(saved: Path, make_model: Any, reference_model: Any) -> None:
    """As training starts from either."""
    model = make_model(seed=5)
    assert load_weights(model, saved) == []
    assert weights_fingerprint(model) == weights_fingerprint(reference_model)
    assert weights_file(saved).is_file()


def test_the_fingerprint_covers_settings(saved: Path, config: Config) -> None:
    """The same for each format, and other for settings that change vectors but not weights."""
    loaded = load_model(saved, config)
    first = model_fingerprint(loaded)
    assert first == model_fingerprint(load_model(saved, config))
    for section, values in (
        ("dataset", {"max_video_len": 64}),
        ("dataset", {"long_video": "uniform"}),
        ("dataset", {"flip_pose": "right"}),
        ("model", {"pooling": "max"}),
    ):
        changed = dataclasses.replace(getattr(loaded, f"{section}_cfg"), **values)
        other = model_fingerprint(dataclasses.replace(loaded, **{f"{section}_cfg": changed}))
        assert other != first and other.split("-")[0] == first.split("-")[0], values
        assert not same_model(first, other)
        assert same_model(first, other.split("-")[0]), "a fingerprint of an older version"
    augments = dataclasses.replace(loaded.dataset_cfg, flip_pose=0.5, augment2d=True, prompt="{text}")
    assert model_fingerprint(dataclasses.replace(loaded, dataset_cfg=augments)) == first


def test_the_fingerprint_covers_every_weight(saved: Path, config: Config) -> None:
    loaded = load_model(saved, config)
    first = model_fingerprint(loaded)
    table = max(loaded.model.state_dict().values(), key=torch.numel)
    for number in (1, 2, len(table.view(-1)) - 2):  # beside the evenly spaced ones
        table.view(-1)[number] += 1e-3
        other = model_fingerprint(loaded)
        assert other.split("-")[0] == first.split("-")[0] and not same_model(first, other)
        table.view(-1)[number] -= 1e-3
    loaded.model.half().float()
    assert model_fingerprint(loaded) != first


def test_the_fingerprint_covers_the_tokenizer(tmp_path: Path, config: Config, reference_model: Any) -> None:
    tokenizer = load_tokenizer(config.dataset.bert_name)
    save_model_folder(tmp_path / "model", reference_model, config.model, config.dataset, tokenizer)
    first = load_model(tmp_path / "model")
    plain = LoadedModel(reference_model, config.model, config.dataset, tokenizer)
    assert model_fingerprint(first) == model_fingerprint(plain), "of the folder and of its origin"
    tokenizer(["a b"], padding=True, truncation=True, max_length=3)  # changes the tokenizer's state
    assert model_fingerprint(first) == model_fingerprint(plain)
    described = tmp_path / "model" / "tokenizer" / "tokenizer_config.json"
    tree = json.loads(described.read_text())
    tree["do_lower_case"] = not tree["do_lower_case"]
    described.write_text(json.dumps(tree))
    settings = json.loads((tmp_path / "model" / "config.json").read_text())
    del settings["files"]
    (tmp_path / "model" / "config.json").write_text(json.dumps(settings))
    assert model_fingerprint(load_model(tmp_path / "model")) != model_fingerprint(first)

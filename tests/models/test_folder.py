"""Saving and loading a model folder."""

import contextlib
import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mmpt.config.schema import DatasetConfig, ModelConfig
from mmpt.models import MMFusionSeparate, load_tokenizer
from mmpt.models.folder import save_model_folder
from mmpt.models.loading import load_model
from mmpt.utils.checkpoint import load_into
from mmpt.utils.errors import MissingDataError, UserError

SECRET = "/home/somebody/corpora"
MODEL_CFG = ModelConfig(num_hidden_video_layers=2, vfeat_dim=63)


@pytest.fixture
def folder(
    tmp_path: Path, reference_model: MMFusionSeparate, dataset_cfg: DatasetConfig, tiny_bert: str
) -> Path:
    path = tmp_path / "deep" / "model"
    here = dataclasses.replace(
        dataset_cfg,
        vfeat_dir=f"{SECRET}/poses",
        train_path=f"{SECRET}/train.txt",
        cache_dir=f"{SECRET}/cache",
    )
    save_model_folder(path, reference_model, MODEL_CFG, here, load_tokenizer(tiny_bert))
    return path


def edit(folder: Path, change: Any) -> None:
    tree = json.loads((folder / "config.json").read_text())
    change(tree)
    (folder / "config.json").write_text(json.dumps(tree))


def test_model_folder_round_trip(folder: Path, io: dict[str, torch.Tensor], tiny_bert: str) -> None:
    parts = load_model(folder)
    assert not parts.model.training
    assert parts.model_cfg == MODEL_CFG
    with torch.no_grad():
        out = parts.model(io["vfeats"], io["vmasks"], io["caps"], io["cmasks"])
    torch.testing.assert_close(out["pooled_video"], io["pooled_video_pad128"], rtol=0, atol=1e-5)
    torch.testing.assert_close(out["pooled_text"], io["pooled_text_pad32"], rtol=0, atol=1e-5)
    text = "Fingerspell the letter A in German Sign Language."
    assert parts.tokenizer(text)["input_ids"] == load_tokenizer(tiny_bert)(text)["input_ids"]


def test_model_folder_can_be_trained(folder: Path, io: dict[str, torch.Tensor], make_model: Any) -> None:
    model = load_model(folder).model.train()
    model(io["vfeats"], io["vmasks"], io["caps"], io["cmasks"])["pooled_video"].sum().backward()
    fresh = dict(make_model().named_parameters())
    assert {n: p.requires_grad for n, p in model.named_parameters()} == {
        n: p.requires_grad for n, p in fresh.items()
    }


@pytest.mark.parametrize(
    "options",
    [
        {"model_cls": "MMFusionShare", "pooling": "max"},
        {"conv1d": 2, "multimodal_projection": "l2_norm", "pooling": "attention", "freeze_text": True},
        {"ensemble_size": 3, "multimodal_projection": "l2_norm", "video_hidden_size": 64},
    ],
)
def test_model_folder_of_every_model(
    tmp_path: Path,
    make_model: Any,
    dataset_cfg: DatasetConfig,
    tiny_bert: str,
    io: dict[str, torch.Tensor],
    options: dict[str, Any],
) -> None:
    model = make_model(**options)
    config = dataclasses.replace(MODEL_CFG, **options)
    save_model_folder(tmp_path / "model", model, config, dataset_cfg, load_tokenizer(tiny_bert))
    again = load_model(tmp_path / "model").model
    with torch.no_grad():
        first, second = (m(io["vfeats"], io["vmasks"], io["caps"], io["cmasks"]) for m in (model, again))
    for side in first:
        torch.testing.assert_close(first[side], second[side])


def test_model_folder_with_an_enlarged_position_table(
    tmp_path: Path, make_model: Any, dataset_cfg: DatasetConfig, tiny_bert: str, io: dict[str, torch.Tensor]
) -> None:
    name = "video_encoder.bert.embeddings.position_embeddings.weight"
    state = make_model().state_dict()
    model = make_model()
    load_into(model, state | {name: torch.randn(700, state[name].shape[1])})
    save_model_folder(tmp_path / "model", model, MODEL_CFG, dataset_cfg, load_tokenizer(tiny_bert))
    again = load_model(tmp_path / "model").model
    with torch.no_grad():
        first, second = (m.encode_video(io["vfeats"], io["vmasks"]) for m in (model, again))
    torch.testing.assert_close(first, second)


def test_model_folder_content(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer"]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["model"]  # nothing temporary is left
    tree = json.loads((folder / "config.json").read_text())
    assert (tree["format"], tree["format_version"]) == ("signclip-model", 1)
    assert tree["dataset"]["bert_name"] == "bert"
    assert "members" not in tree["model"], "of a single model: readers without that key load it too"


def test_model_folder_has_no_local_paths(folder: Path, tiny_bert: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(Path(tiny_bert).parent).encode() not in content, path
            assert SECRET.encode() not in content, path


def test_save_model_folder_replaces_only_a_model(
    folder: Path, make_model: Any, dataset_cfg: DatasetConfig, tiny_bert: str
) -> None:
    other = make_model(seed=5)
    tokenizer = load_tokenizer(tiny_bert)
    with pytest.raises(UserError, match=r"holds a model of something else .*--force"):
        save_model_folder(folder, other, MODEL_CFG, dataset_cfg, tokenizer)
    save_model_folder(folder, other, MODEL_CFG, dataset_cfg, tokenizer, force=True)
    save_model_folder(folder, other, MODEL_CFG, dataset_cfg, tokenizer)
    loaded = load_model(folder).model.state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in other.state_dict().items())
    assert sorted(path.name for path in folder.parent.iterdir()) == ["model"]
    precious = folder.parent / "photos"
    precious.mkdir()
    (precious / "me.jpg").write_bytes(b"1")
    with pytest.raises(UserError, match=r"photos holds 'me\.jpg', which does not belong to a model"):
        save_model_folder(precious, other, MODEL_CFG, dataset_cfg, tokenizer)
    with pytest.raises(UserError, match="is a file"):
        save_model_folder(precious / "me.jpg", other, MODEL_CFG, dataset_cfg, tokenizer)


def test_save_model_folder_failure_keeps_the_old_model(
    folder: Path, make_model: Any, dataset_cfg: DatasetConfig, tiny_bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / "model.safetensors").read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("mmpt.models.folder.save_file", full)
    with pytest.raises(OSError, match="no space"):
        save_model_folder(folder, make_model(), MODEL_CFG, dataset_cfg, load_tokenizer(tiny_bert), force=True)
    assert (folder / "model.safetensors").read_bytes() == before
    assert sorted(path.name for path in folder.parent.iterdir()) == ["model"]


BAD: list[tuple[Any, str]] = [
    (lambda tree: tree.update(format="other"), "does not describe a SignCLIP model"),
    (lambda tree: tree.update(format_version=99), "format version 99.*update"),
    (lambda tree: tree.pop("text_model"), "text_model"),
    (lambda tree: tree["text_model"].update(num_hidden_layers=10**9), "expected at most 1000"),
    (lambda tree: tree["text_model"].update(hidden_size=-32), "hidden_size"),
    (lambda tree: tree["text_model"].update(hidden_size=12 << 36), r"hidden_size.*at most"),
    (
        lambda tree: tree["text_model"].update(vocab_size=10**15),
        "vocab_size.*at most",
    ),  # nothing that large is made
    (lambda tree: tree["text_model"].update(layer_norm_eps=float("nan")), "layer_norm_eps.*at most 1"),
    (lambda tree: tree["text_model"].update(max_position_embeddings=10**12), "max_position_embeddings"),
    (lambda tree: tree["text_model"].update(pad_token_id=300), "pad_token_id of the text model is 300"),
    (lambda tree: tree["text_model"].update(cls_id=300), "cls_id is 300, but the word table has 300 rows"),
    (lambda tree: tree["text_model"].update(sep_id=-1), "sep_id is -1"),
    (lambda tree: tree["model"].update(members=1_000_000), "members: expected from 1 to 100"),
    (lambda tree: tree["model"].update(members=100, num_hidden_video_layers=1000), "over 1000 layers"),
    (lambda tree: tree["model"].update(conv1d=10**9), r"model\.conv1d: expected from 0 to 100"),
    (lambda tree: tree["dataset"].update(max_video_len=10**12), r"dataset\.max_video_len"),
    (lambda tree: tree["model"].update(vfeat_dim=64), r"linear1\.weight"),
    (lambda tree: tree["model"].update(vfeat_dims=64), r"unknown key model\.vfeat_dims"),
    (lambda tree: tree.pop("model"), "model: expected a section"),
    (lambda tree: tree["dataset"].update(max_len="long"), r"dataset\.max_len"),
    (lambda tree: tree["model"].update(model_cls="os.system"), r"model\.model_cls"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_model_folder_with_a_damaged_config(folder: Path, change: Any, message: str) -> None:
    edit(folder, change)
    with pytest.raises(UserError, match=message):
        load_model(folder)


def test_the_tokenizer_of_another_model(folder: Path, tiny_bert: str) -> None:
    tokenizer = load_tokenizer(tiny_bert)
    more = copy.deepcopy(tokenizer)
    more.add_tokens(["<ase>"])
    more.save_pretrained(str(folder / "tokenizer"))
    edit(folder, lambda tree: tree.pop("files"))  # as in older folders: the hashes would be refused first
    with pytest.raises(UserError, match=r"token ids up to 300 \('<ase>'\), but the word table has 300 rows"):
        load_model(folder)
    tokenizer.save_pretrained(str(folder / "tokenizer"))
    words = json.loads((folder / "tokenizer" / "tokenizer.json").read_text())
    words["model"]["vocab"]["another"] = 7  # the fingerprint would not show it
    (folder / "tokenizer" / "tokenizer.json").write_text(json.dumps(words))
    with pytest.raises(UserError, match="1 of 301 tokens of the tokenizer have the id of another one"):
        load_model(folder)
    tokenizer.save_pretrained(str(folder / "tokenizer"))
    edit(folder, lambda tree: tree["text_model"].update(cls_id=4))
    with pytest.raises(UserError, match=r"\[CLS\] and \[SEP\] are \(4, 3\) in config.json, but \(2, 3\)"):
        load_model(folder)


def test_the_compiler_is_not_run_for_a_folder(folder: Path) -> None:
    edit(folder, lambda tree: tree["model"].update(compile=True))
    assert load_model(folder).model_cfg.compile is False


def test_missing_and_damaged_files(folder: Path) -> None:
    with pytest.raises(MissingDataError, match=r"signclip convert"):
        load_model(folder / "nowhere")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load_model(folder)
    weights.unlink()
    with pytest.raises(UserError, match="no checkpoint"):
        load_model(folder)
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="nested too deep"):
        load_model(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer/tokenizer_config.json"])
def test_a_changed_file_is_refused_and_a_folder_without_hashes_loads(folder: Path, name: str) -> None:
    path = folder / name
    if name.endswith("json"):
        path.write_text(path.read_text() + " ")
    else:
        content = bytearray(path.read_bytes())
        content[-4:] = b"\0\0\0\0"  # one weight
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{Path(name).name} was changed after config\.json was written"):
        load_model(folder)
    edit(folder, lambda tree: tree.pop("files"))
    load_model(folder)


def test_model_folder_code_is_not_run(folder: Path) -> None:
    """Nor is anybody asked whether it may."""
    tokenizer = folder / "tokenizer"
    (tokenizer / "own.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    described = {"auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}, "tokenizer_class": "Tokenizer"}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(described))
    with contextlib.suppress(UserError):
        load_model(folder)
    assert not (folder / "ran").exists()

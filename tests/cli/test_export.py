"""Signclip export --onnx: the towers in onnxruntime give the model's embeddings."""

import json
import sys

import numpy as np
import pytest
import torch

import mmpt
from mmpt.cli.main import main
from mmpt.embedding.onnx_preprocessing import describe
from mmpt.models import load_tokenizer
from mmpt.models.folder import LoadedModel


def make_model(tiny_yaml, *overrides):
    from mmpt.config import load_config
    from mmpt.embedding.embedder import SignCLIP
    from mmpt.tasks import Task

    config = load_config(tiny_yaml, overrides)
    torch.manual_seed(0)
    tokenizer = load_tokenizer(config.dataset.bert_name)
    model = Task(config).build_model()
    with torch.no_grad():
        for parameter in model.parameters():  # larger than an initialisation, so that errors show
            parameter.add_(0.1 * torch.randn_like(parameter))
    return SignCLIP(LoadedModel(model, config.model, config.dataset, tokenizer), "cpu")


def run(folder, side, values, mask):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / f"{side}.onnx"), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return session.run(["vector"], dict(zip(names, (values, mask))))[0]


def padded(rows, fill):
    """A batch of rows, padded with a value that must have no influence."""
    width = max(map(len, rows))
    mask = np.arange(width) < np.array([[len(row)] for row in rows])
    batch = np.full((len(rows), width, *rows[0].shape[1:]), fill, rows[0].dtype)
    batch[mask] = np.concatenate(rows)
    return batch, mask


CASES = [
    pytest.param([]),
    pytest.param(
        ["model.ensemble_size=2", "model.multimodal_projection=l2_norm", "model.video_hidden_size=64"],
        marks=pytest.mark.slow,
    ),
    pytest.param(
        ["model.conv1d=2", "model.pooling=attention", "model.freeze_text=true", "dataset.max_video_len=600"],
        marks=pytest.mark.slow,
    ),
    pytest.param(["model.model_cls=MMFusionShare", "model.pooling=max"], marks=pytest.mark.slow),
]


@pytest.mark.slow  # torch's exporter takes 10 to 20 seconds
@pytest.mark.parametrize("overrides", CASES)
def test_export_onnx_equals_the_model(tiny_yaml, tmp_path, capsys, overrides):
    pytest.importorskip("onnxruntime")
    model = make_model(tiny_yaml, *overrides)
    model.save_pretrained(tmp_path / "m")
    assert main(["export", str(tmp_path / "m"), "--onnx", "--out", str(tmp_path / "x")]) == 0
    printed = capsys.readouterr().out
    assert "video.onnx" in printed and "differs from torch by at most" in printed and "MB" in printed
    about = json.loads((tmp_path / "x" / "preprocessing.json").read_text())
    rng = np.random.default_rng(1)
    clips = [rng.normal(size=(n, 63)).astype(np.float32) for n in (5, 1, about["video"]["max_frames"], 12)]
    prompts = ["A", "Fingerspell the letter B.", "xyz " * 30]
    texts = [model.text_processor(prompt)[0] for prompt in prompts]
    assert max(map(len, texts)) == about["text"]["max_tokens"]
    for side, rows, fill, expected in (
        ("video", clips, np.nan, model.embed_video_features(clips)),
        ("text", texts, 7, model.embed_text(prompts)),
    ):
        got = run(tmp_path / "x", side, *padded(rows, fill))
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
        for row, vector in zip(rows, expected):
            single = run(tmp_path / "x", side, *padded([row], fill))
            np.testing.assert_allclose(single[0], vector, rtol=1e-5, atol=1e-5)
    for path in (tmp_path / "x").glob("*.onnx"):
        assert b".py" not in path.read_bytes() and str(tmp_path).encode() not in path.read_bytes()


@pytest.fixture
def quick_export(monkeypatch):
    """An exporter that writes a name instead of a tower."""
    from mmpt.embedding import onnx_export

    monkeypatch.setattr(onnx_export, "_export", lambda tower, model, path: path.write_text(tower.name))
    exported = onnx_export.Exported("video", 1e-7, 1000, 8, 1.0, 2.0)
    monkeypatch.setattr(onnx_export, "_check", lambda tower, model, path: exported)


def export(folder, out, *more):
    return main(["export", str(folder), "--onnx", "--out", str(out), *more])


def test_export_replaces_only_its_own_files(quick_export, model_folder, tiny_yaml, tmp_path, capsys):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "notes.txt").write_text("mine")
    assert export(model_folder, tmp_path / "thesis") == 2
    assert "notes.txt" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["notes.txt"]
    assert export(model_folder, tmp_path / "x") == 0
    assert export(model_folder, tmp_path / "x") == 0
    make_model(tiny_yaml).save_pretrained(tmp_path / "other")
    assert export(tmp_path / "other", tmp_path / "x") == 2
    assert "holds an ONNX export of something else" in capsys.readouterr().err
    assert export(tmp_path / "other", tmp_path / "x", "--force") == 0
    assert not list(tmp_path.glob(".*.tmp"))


def test_export_without_its_packages_or_another_tower_is_refused(model_folder, tmp_path, monkeypatch, capsys):
    from mmpt.embedding import onnx_export

    monkeypatch.setattr(onnx_export, "_export", lambda tower, model, path: path.write_bytes(b"0"))

    class Session:
        def __init__(self, *_, **__):
            pass

        def run(self, _, inputs):
            return [np.zeros((len(inputs["vfeats"]), 32), np.float32)]

    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    assert export(model_folder, tmp_path / "x") == 2
    assert "the exported video tower differs from the model by" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert export(model_folder, tmp_path / "x") == 2
    assert 'pip install "mmpt[onnx]"' in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_preprocessing_describes_what_the_model_reads(tiny_yaml, model_folder):
    about = describe(mmpt.from_pretrained(model_folder), ["tokenizer/tokenizer.json"])
    features = about["video"]["features"]
    assert features["components"] == ["RIGHT_HAND_LANDMARKS"] and features["dim"] == 63
    assert len(features["points"]["RIGHT_HAND_LANDMARKS"]) == 21
    assert list(features["steps"]) == ["shoulders", "legs", "select", "missing"]
    assert about["video"]["max_frames"] == 32 and about["text"]["max_tokens"] == 24
    palm = [
        "dataset.hand_frame=palm",
        "dataset.scale_depth=true",
        "dataset.clip_frames=8",
        "dataset.person=tracked",
        "dataset.fill_gaps=3",
        "dataset.smooth=one_euro",
        "dataset.presence=true",
        "model.vfeat_dim=70",
    ]
    other = describe(make_model(tiny_yaml, *palm), [])["video"]["features"]
    assert {"scale_depth", "frames", "hand_frame", "person", "fill_gaps"} <= set(other["steps"])
    assert other["steps"]["smooth"].startswith("smooth_cutoff 2, smooth_beta 2. cutoff: Hz")
    assert other["clip_frames"] == 8
    assert other["steps"]["presence"] == "Append 1 for each hand that was found, 0 otherwise."
    assert other["steps"]["hand_frame"].startswith("hand: float [T, 21, 3]")


def test_prompts_with_signs_are_described_and_compared(tiny_yaml):
    from mmpt.embedding.onnx_export import _towers
    from mmpt.signwriting.ids import FIRST_ID, unpack

    model = make_model(
        tiny_yaml,
        "dataset.text_processor=SignWritingTextProcessor",
        "model.text_encoder_cls=SignWritingBert",
    )
    text = describe(model, [])["text"]
    assert text["layout"].startswith("[CLS] [SEP] tokens [SEP] symbols")
    formula = text["symbols"]["id"].partition(";")[0]
    ids = model.text_processor("A M508x507S1f720488x492 M513x507S19220492x488S2a20c472x468")[0][-3:]
    for number, (sign, base, fill, rotation) in zip(
        ids, [(0, 0x1F7, 2, 0), (1, 0x192, 2, 0), (1, 0x2A2, 0, 12)]
    ):
        x, y = (int(unpack(number)[axis]) + 500 for axis in "xy")
        values = {"sign": sign, "base": base, "fill": fill, "rotation": rotation, "x": x, "y": y}
        assert eval(formula, {}, values) == number
    caps, _ = _towers(model)[1].batch([3, 9])
    assert caps[0, :3].tolist() == [2, 3, 3] and (caps[1, 6:] >= FIRST_ID).all() and caps[1, 5] == 3

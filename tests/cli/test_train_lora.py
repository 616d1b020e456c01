"""Training of low-rank adapters with mmpt.cli.train, and evaluation and conversion of the result."""

import json
import sys

import numpy as np
import pytest
import torch

from mmpt.cli import convert, predict
from mmpt.cli import train as command
from mmpt.embedding.embedder import SignCLIP
from mmpt.utils.checkpoint import load_state_dict_file, load_torch_file
from tests.cli.test_train import same_weights
from tests.commands import train

EMA = ["fairseq.ema.store_ema=true", "fairseq.ema.ema_decay=0.9"]


def options(model_folder, folder, epochs):
    return [
        "model.lora_rank=4",
        "fairseq.optimization.lr=[1.0e-02]",
        f"fairseq.checkpoint.finetune_from_model={model_folder}",
        f"fairseq.checkpoint.save_dir={folder}",
        f"fairseq.optimization.max_epoch={epochs}",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("ema", [[], EMA], ids=["plain", "ema"])
def test_lora_train_resume_evaluate_and_convert(tiny_yaml, model_folder, tmp_path, monkeypatch, ema):
    """Fine-tune a model folder with adapters, resume, and convert to a model folder without peft."""
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    done = train(tiny_yaml, *options(model_folder, whole, 2), *ema)
    assert done.returncode == 0, done.stderr
    assert "starting from the weights in" in done.stderr
    for epochs in (1, 2):
        done = train(tiny_yaml, *options(model_folder, halves, epochs), *ema)
        assert done.returncode == 0, done.stderr
    last = load_torch_file(whole / "checkpoint_last.pt")
    again = load_torch_file(halves / "checkpoint_last.pt")
    assert last["model"].keys() == again["model"].keys()
    assert all(torch.equal(tensor, again["model"][name]) for name, tensor in last["model"].items())
    assert same_weights(whole / "checkpoint_last.pt", halves / "checkpoint_last.pt")

    monkeypatch.setitem(sys.modules, "peft", None)
    overrides = ["model.lora_rank=4", f"fairseq.checkpoint.save_dir={whole}"]
    checkpoint, folder = whole / "checkpoint_last.pt", tmp_path / "model"
    arguments = [str(checkpoint), *overrides, "--config", str(tiny_yaml), "--out", str(folder)]
    assert convert.main(arguments) == 0
    path = f"fairseq.common_eval.path={checkpoint}"
    assert predict.main([str(tiny_yaml), *overrides, path]) == 0
    base = load_state_dict_file(model_folder / "model.safetensors")
    tuned = load_state_dict_file(folder / "model.safetensors")
    assert tuned.keys() == base.keys()
    rounding = 1e-6 if ema else 0  # a mean of equal numbers
    changed = {name for name in base if (base[name] - tuned[name]).abs().max() > rounding}
    assert len([name for name in changed if ".layer." in name]) == 6 * (2 + 4)
    assert all(".layer." in name and name.endswith("weight") for name in changed if "videomlp" not in name)

    # the checkpoint and the folder give the same embeddings
    ids = json.loads((whole / "eval" / "ids.json").read_text())
    prompts = SignCLIP.from_pretrained(folder).embed_text(ids["prompts"])
    np.testing.assert_allclose(prompts, np.load(whole / "eval" / "text_embeddings.npy"), atol=1e-5)
    kept = last["extra_state"]["ema"] if ema else last["model"]
    name = "text_encoder.encoder.layer.0.output.dense"
    up, down = (kept[f"mmmodel.{name}.lora_{part}.default.weight"] for part in "BA")
    torch.testing.assert_close(tuned[f"{name}.weight"] - base[f"{name}.weight"], up @ down, rtol=0, atol=1e-6)

    assert command.main([str(tiny_yaml), *options(model_folder, whole, 3)[1:], "--in-process"]) == 2


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["model.train_last_layers=1"], "lora_rank and model.train_last_layers contradict"),
        (["model.lora_rank=-1"], "model.lora_rank"),
        (
            ["model.video_hidden_size=32", "model.multimodal_projection=true"],
            "the video tower starts from random weights",
        ),
    ],
)
def test_mistakes(tiny_yaml, tmp_path, capsys, overrides, words):
    assert command.main([str(tiny_yaml), "model.lora_rank=4", *overrides, "--in-process"]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_lora_training_without_peft_names_the_package(tiny_yaml, tmp_path, monkeypatch, capsys):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *r: None if n == "peft" else find(n, *r))
    assert command.main([str(tiny_yaml), "model.lora_rank=4", "--in-process"]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "pip install peft" in error and not (tmp_path / "run").exists()


def test_resume_lora_with_another_rank_is_refused(tiny_yaml, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "checkpoint_last.pt").touch()
    (folder / "config.yaml").write_text(tiny_yaml.read_text() + "\n")
    assert command.main([str(tiny_yaml), "model.lora_rank=4", "--in-process"]) == 2
    error = capsys.readouterr().err
    assert "began with model.lora_rank 0" in error and "Traceback" not in error

"""An ensemble: train, resume, evaluate and convert it with the commands that users run."""

import json

import numpy as np

from mmpt.cli import convert, predict
from mmpt.config import load_config
from mmpt.embedding.embedder import SignCLIP
from mmpt.losses import EnsembleLoss
from mmpt.tasks import Task
from tests.cli.test_train import same_weights
from tests.commands import O, train_runs

ENSEMBLE = [
    "model.ensemble_size=2",
    "model.multimodal_projection=l2_norm",
    "model.freeze_text=true",
    "loss.similarity=cosine",
    "loss.learnable_temperature=true",
    "loss.temperature=0.1",
]


def test_ensemble_loss_of_a_task(tiny_yaml):
    loss = Task(load_config(tiny_yaml, ENSEMBLE)).build_loss()
    assert isinstance(loss, EnsembleLoss) and loss.ensemble_size == 2


def test_ensemble_train_resume_evaluate_and_convert(tiny_yaml, tmp_path):
    """The folder of the resumed run has the key's former name, `members`."""
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    where = [[str(tiny_yaml), f"fairseq.checkpoint.save_dir={folder}"] for folder in (whole, halves)]
    runs = [[*folder, *ENSEMBLE, f"{O}.max_epoch={epochs}"] for folder, epochs in zip(where, (2, 1))]
    done = train_runs(runs)
    assert done.returncode == 0, done.stderr
    for folder in (whole, halves):
        saved = folder / "config.yaml"
        text = saved.read_text()
        assert "ensemble_size: 2" in text
        saved.write_text(text.replace("ensemble_size: 2", "members: 2"))
    again = train_runs([[*where[1], *ENSEMBLE, f"{O}.max_epoch=2"], [*where[1], f"{O}.max_epoch=3"]])
    assert again.returncode == 2 and "Traceback" not in again.stderr, "a single model does not resume it"
    assert again.stderr.count("error: ") == 1 and "model.ensemble_size is 1" in again.stderr
    assert same_weights(whole / "checkpoint_last.pt", halves / "checkpoint_last.pt")

    checkpoint, model = whole / "checkpoint_last.pt", tmp_path / "model"
    assert predict.main([str(tiny_yaml), *ENSEMBLE, f"fairseq.common_eval.path={checkpoint}"]) == 0
    arguments = [str(checkpoint), *ENSEMBLE, "--config", str(tiny_yaml), "--out", str(model)]
    assert convert.main(arguments) == 0
    signclip = SignCLIP.from_pretrained(model)
    ids = json.loads((whole / "eval" / "ids.json").read_text())
    prompts = signclip.embed_text(ids["prompts"])
    assert prompts.shape[1] == signclip.dim == 2 * 32
    np.testing.assert_allclose(prompts, np.load(whole / "eval" / "text_embeddings.npy"), atol=1e-5)

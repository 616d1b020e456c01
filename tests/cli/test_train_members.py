"""A model of several members as users train it, interrupt it, evaluate it and pass it on."""

import json

import numpy as np

from mmpt.cli import convert, predict
from mmpt.config import load_config
from mmpt.embedding.embedder import SignCLIP
from mmpt.losses import MembersLoss
from mmpt.tasks import Task
from tests.cli.test_train import same_weights
from tests.train_command import train

MEMBERS = [
    "model.members=2",
    "model.multimodal_projection=l2_norm",
    "model.freeze_text=true",
    "loss.similarity=cosine",
    "loss.learnable_temperature=true",
    "loss.temperature=0.1",
]


def test_the_loss_knows_the_members(tiny_yaml):
    loss = Task(load_config(tiny_yaml, MEMBERS)).build_loss()
    assert isinstance(loss, MembersLoss) and loss.members == 2


def test_train_resume_evaluate_and_convert(tiny_yaml, tmp_path):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for folder, epochs in ((whole, 2), (halves, 1), (halves, 2)):
        where = f"fairseq.checkpoint.save_dir={folder}"
        done = train(tiny_yaml, *MEMBERS, where, f"fairseq.optimization.max_epoch={epochs}")
        assert done.returncode == 0, done.stderr
    assert same_weights(whole / "checkpoint_last.pt", halves / "checkpoint_last.pt")

    checkpoint, model = whole / "checkpoint_last.pt", tmp_path / "model"
    assert predict.main([str(tiny_yaml), *MEMBERS, f"fairseq.common_eval.path={checkpoint}"]) == 0
    arguments = [str(checkpoint), *MEMBERS, "--config", str(tiny_yaml), "--out", str(model)]
    assert convert.main(arguments) == 0
    signclip = SignCLIP.from_pretrained(model)
    ids = json.loads((whole / "eval" / "ids.json").read_text())
    prompts = signclip.embed_text(ids["prompts"])
    assert prompts.shape[1] == signclip.dim == 2 * 32
    np.testing.assert_allclose(prompts, np.load(whole / "eval" / "text_embeddings.npy"), atol=1e-5)

    single = train(tiny_yaml, f"fairseq.checkpoint.save_dir={halves}", "fairseq.optimization.max_epoch=3")
    assert single.returncode == 2 and "Traceback" not in single.stderr

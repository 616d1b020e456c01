"""mmpt.cli.convert: a checkpoint and its model folder give the same embeddings."""

import json

import numpy as np
import torch

import mmpt
from tests.commands import Forked, run


def embed(folder, io, out):
    model = mmpt.from_pretrained(folder)
    io = np.load(io)
    frames = [io["vfeats"][i][io["vmasks"][i]] for i in range(5)]
    with torch.no_grad():
        text = model.model.encode_text(torch.tensor(io["caps"]), torch.tensor(io["cmasks"]))
    np.savez(out, video=model.embed_video_features(frames), text=text)


def check_vectors(folder, io, out):
    """The folder gives the reference embeddings in another process (without fairseq: see test_embedder)."""
    done = Forked(embed, folder, io, out).end()
    assert done.returncode == 0, done.stderr
    got, expected = np.load(out), np.load(io)
    np.testing.assert_allclose(got["video"], expected["pooled_video_pad128"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(got["text"], expected["pooled_text_pad32"], rtol=0, atol=1e-5)


def test_convert_reference_checkpoint(shared_reference, data_dir, tmp_path):
    reference = shared_reference / "mmfusion"
    config = tmp_path / "c.yaml"
    config.write_text(
        (reference / "config.yaml").read_text().replace("bert_name: bert", f"bert_name: {reference / 'bert'}")
    )
    done = run("convert", reference / "checkpoint_best.pt", "--config", config, "--out", tmp_path / "m")
    assert done.returncode == 0, done.stderr
    check_vectors(tmp_path / "m", data_dir / "mmfusion" / "io.npz", tmp_path / "v.npz")


def test_convert_plain_state_dict(data_dir, tmp_path):
    """The same weights without the fairseq wrapping: needs no file from outside the project."""
    folder = data_dir / "mmfusion"
    config = tmp_path / "c.yaml"
    dataset = {
        "meta_processor": "RWTHFSMetaProcessor",
        "video_processor": "RWTHFSPoseProcessor",
        "pose_components": ["RIGHT_HAND_LANDMARKS"],
        "bert_name": str(folder / "bert"),
        "max_video_len": 128,
        "max_len": 32,
    }
    config.write_text(
        json.dumps({"dataset": dataset, "model": {"vfeat_dim": 63, "num_hidden_video_layers": 2}})
    )
    command = ["convert", folder / "weights.safetensors", "--config", config, "--out", tmp_path / "m"]
    assert run(*command).returncode == 0
    check_vectors(tmp_path / "m", folder / "io.npz", tmp_path / "v.npz")
    wrong = run(*command, "model.num_hidden_video_layers=1")
    assert wrong.returncode == 2 and "layer.1" in wrong.stderr and "Traceback" not in wrong.stderr

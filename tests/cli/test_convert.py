"""Checkpoint -> folder -> the same vectors, in a process that has no fairseq."""

import json

import numpy as np

from tests.conftest import run_module

EMBED = """
import json, sys
sys.modules["fairseq"] = None
import numpy as np, mmpt
model = mmpt.from_pretrained(sys.argv[1])
io = np.load(sys.argv[2])
frames = [io["vfeats"][i][io["vmasks"][i]] for i in range(5)]
np.save(sys.argv[3], model.embed_video_features(frames))
"""


def test_the_reference_checkpoint(shared_reference, data_dir, tmp_path):
    reference = shared_reference / "mmfusion"
    config = tmp_path / "c.yaml"
    config.write_text(
        (reference / "config.yaml").read_text().replace("bert_name: bert", f"bert_name: {reference / 'bert'}")
    )
    done = run_module(
        "-m",
        "mmpt.cli.convert",
        str(reference / "checkpoint_best.pt"),
        "--config",
        str(config),
        "--out",
        str(tmp_path / "m"),
    )
    assert done.returncode == 0, done.stderr
    io = data_dir / "mmfusion" / "io.npz"
    done = run_module("-c", EMBED, str(tmp_path / "m"), str(io), str(tmp_path / "v.npy"))
    assert done.returncode == 0, done.stderr
    expected = np.load(io)["pooled_video_pad128"]
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected, atol=1e-5)


def test_a_plain_state_dict(data_dir, tmp_path):
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
    command = [
        "-m",
        "mmpt.cli.convert",
        str(folder / "weights.safetensors"),
        "--config",
        str(config),
        "--out",
        str(tmp_path / "m"),
    ]
    assert run_module(*command).returncode == 0
    done = run_module("-c", EMBED, str(tmp_path / "m"), str(folder / "io.npz"), str(tmp_path / "v.npy"))
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(
        np.load(tmp_path / "v.npy"), np.load(folder / "io.npz")["pooled_video_pad128"], atol=1e-5
    )
    wrong = run_module(*command, "model.num_hidden_video_layers=1")
    assert wrong.returncode == 2 and "layer.1" in wrong.stderr and "Traceback" not in wrong.stderr

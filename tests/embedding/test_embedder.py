"""The SignCLIP class: lists in, embeddings out."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pose_format import Pose

from mmpt.config.dataset_options import PoseOptions
from mmpt.config.schema import Config
from mmpt.embedding.embedder import SignCLIP
from mmpt.evaluators.metrics.similarity import similarity
from mmpt.processors import PoseProcessor
from mmpt.processors.fingerspelling import find_lexicon
from mmpt.utils.errors import UserError
from tests.commands import run_code
from tests.conftest import mmfusion_config
from tests.extractors.videos import write_video

TEXTS = ["Fingerspell the letter A in German Sign Language.", "A", "Fingerspell the letter B.", "A"]


@pytest.fixture(scope="module")
def config(data_dir: Path) -> Config:
    return mmfusion_config(data_dir)


@pytest.fixture(scope="module")
def model(config: Config, data_dir: Path) -> SignCLIP:
    return SignCLIP.from_checkpoint(
        data_dir / "mmfusion" / "weights.safetensors", config, device="cpu", batch_size=2
    )


@pytest.fixture(scope="module")
def io(data_dir: Path) -> dict[str, np.ndarray]:
    return dict(np.load(data_dir / "mmfusion" / "io.npz"))


@pytest.fixture(scope="module")
def clips(io: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [clip[mask] for clip, mask in zip(io["vfeats"], io["vmasks"])]


@pytest.fixture(scope="module")
def poses() -> list[Path]:
    return sorted((find_lexicon(None) / "ase").glob("*.pose"))[:3]


def test_embed_video_features(model: SignCLIP, clips: list[np.ndarray], io: dict[str, np.ndarray]) -> None:
    got = model.embed_video_features(clips)
    assert got.dtype == np.float32
    assert got.shape == (5, 32) == (5, model.dim)
    np.testing.assert_allclose(got, io["pooled_video_pad128"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.embed_video_features(clips[3:4])[0], got[3], rtol=0, atol=1e-5)
    unit = model.embed_video_features(clips, normalize=True)
    np.testing.assert_allclose(unit, got / np.linalg.norm(got, axis=1, keepdims=True), rtol=1e-5)


def test_embed_text(model: SignCLIP) -> None:
    got = model.embed_text(TEXTS)
    assert got.dtype == np.float32 and got.shape == (4, 32)
    assert np.array_equal(got[1], got[3])
    for text, row in zip(TEXTS, got):
        np.testing.assert_allclose(model.embed_text([text])[0], row, rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(model.embed_text(TEXTS, normalize=True), axis=1), 1, rtol=1e-5)


def test_prompts_that_are_cut_or_alike_are_reported(
    model: SignCLIP, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "mmpt.embedding.embedder")  # `signclip serve` hides its warnings
    long = "a " * 40
    model.embed_text([f"{long}b", f"{long}c", "A", "A"])
    assert "2 of 3 prompts have more than 29 tokens and are cut (dataset.max_len=32)" in caplog.text
    assert "1 of 3 prompts have the same token ids as another one" in caplog.text and "'a a a" in caplog.text
    caplog.clear()
    model.embed_text(TEXTS)
    assert not caplog.records


def test_poses_as_files_and_objects(model: SignCLIP, poses: list[Path]) -> None:
    objects = [Pose.read(path.read_bytes()) for path in poses]
    before = [pose.body.data.copy() for pose in objects]
    got = model.embed_pose(objects)
    assert all(np.ma.allequal(pose.body.data, data) for pose, data in zip(objects, before))
    processor = PoseProcessor(PoseOptions(pose_components=["RIGHT_HAND_LANDMARKS"]))
    expected = model.embed_video_features([processor(path) for path in poses])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.embed_pose(poses), expected, rtol=0, atol=1e-5)
    mirrored = model.embed_video_features([processor(path, mirror=True) for path in poses])
    np.testing.assert_allclose(model.embed_pose(objects, mirror=True), mirrored, rtol=0, atol=1e-5)
    assert np.abs(mirrored - expected).max() > 1e-3


def test_score_is_texts_by_poses(model: SignCLIP, poses: list[Path]) -> None:
    got = model.score(poses, TEXTS)
    assert got.shape == (4, 3)
    np.testing.assert_allclose(got, similarity(model.embed_text(TEXTS), model.embed_pose(poses)), atol=1e-6)
    dot = model.score(poses, TEXTS, measure="dot")
    np.testing.assert_allclose(dot, model.embed_text(TEXTS) @ model.embed_pose(poses).T, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_normalize_of_very_large_and_small_embeddings(
    model: SignCLIP, poses: list[Path], monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    expected = model.embed_pose(poses, normalize=True)
    embed = model.embed_prepared
    monkeypatch.setattr(model, "embed_prepared", lambda clips: embed(clips) * np.float32(scale))
    np.testing.assert_allclose(model.embed_pose(poses, normalize=True), expected, rtol=1e-5, atol=1e-7)


def test_embed_empty_lists(model: SignCLIP) -> None:
    for embed in (model.embed_text, model.embed_video_features, model.embed_pose):
        assert embed([]).shape == (0, 32)
    assert model.score([], TEXTS).shape == (4, 0)


def test_embed_long_clips(config: Config, data_dir: Path, io: dict[str, np.ndarray]) -> None:
    long = io["long_vfeats"][0]
    weights = data_dir / "mmfusion" / "weights.safetensors"
    cut = SignCLIP.from_checkpoint(weights, config).embed_video_features([long])
    np.testing.assert_allclose(
        cut, SignCLIP.from_checkpoint(weights, config).embed_video_features([long[:128]]), atol=1e-6
    )
    refusing = dataclasses.replace(config, dataset=dataclasses.replace(config.dataset, long_video="error"))
    with pytest.raises(UserError, match="600 frames"):
        SignCLIP.from_checkpoint(weights, refusing).embed_video_features([long])


@pytest.mark.parametrize(
    ("method", "value", "message"),
    [
        ("embed_text", "A", "texts must be a list"),
        ("embed_text", [3], "strings"),
        ("embed_pose", "clip.pose", "poses must be a list"),
        ("embed_pose", [3], "pose_format.Pose or the path"),
        ("embed_pose", ["nowhere.pose"], "nowhere.pose"),
        ("embed_video_features", [np.zeros((4, 62))], r"\[T, 63\]"),
        ("embed_video_features", [np.zeros((0, 63))], "at least one frame"),
        ("embed_video_features", [np.zeros((4, 63)), np.full((4, 63), np.nan)], "number 1 contains NaN"),
        ("embed_video_features", [np.array([["a"] * 63])], "numbers"),
        ("embed_video_features", [[[0.0] * 63, [0.0] * 62]], "clip number 0 is not an array"),
    ],
)
def test_embedder_input_errors(model: SignCLIP, method: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        getattr(model, method)(value)


@pytest.mark.parametrize("folder", [None, 5])
def test_from_pretrained_path_errors(folder: Any) -> None:
    with pytest.raises(UserError, match="expected the path of a model folder"):
        SignCLIP.from_pretrained(folder)


def test_embed_torch_tensors(model: SignCLIP) -> None:
    """Tensors of any dtype, with gradients."""
    frames = torch.rand(6, 63)
    expected = model.embed_video_features([frames.numpy()])
    np.testing.assert_array_equal(model.embed_video_features([frames.requires_grad_()]), expected)
    rounded = frames.detach().bfloat16()
    expected = model.embed_video_features([rounded.float().numpy()])
    np.testing.assert_array_equal(model.embed_video_features([rounded]), expected)


def test_embed_pose_error_names_the_pose(model: SignCLIP, poses: list[Path]) -> None:
    """The error names the position in the list."""
    good, bad = (Pose.read(poses[0].read_bytes()) for _ in range(2))
    bad.body.confidence[:] = 0
    with pytest.raises(UserError, match=r"^pose number 1: none of the 24 frames"):
        model.embed_pose([good, bad])


def test_embed_pose_with_a_video_feature_model_is_refused(
    config: Config, data_dir: Path, poses: list[Path]
) -> None:
    dataset = dataclasses.replace(config.dataset, video_processor="VideoProcessor")
    model = SignCLIP.from_checkpoint(
        data_dir / "mmfusion" / "weights.safetensors", dataclasses.replace(config, dataset=dataset)
    )
    with pytest.raises(UserError, match="embed_video_features"):
        model.embed_pose(poses)


def test_from_checkpoint_of_another_model_is_refused(config: Config, data_dir: Path) -> None:
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, vfeat_dim=64))
    with pytest.raises(UserError, match=r"weights\.safetensors does not fit.*linear1"):
        SignCLIP.from_checkpoint(data_dir / "mmfusion" / "weights.safetensors", other)


def test_from_pretrained_imports_neither_torch_compile_nor_transformers(
    model: SignCLIP, tmp_path: Path
) -> None:
    """Each would take a second."""
    model.save_pretrained(tmp_path / "model")
    code = f"""
import sys
slow = {{"torch._dynamo", "sympy", "torch._inductor", "transformers"}}
for name in slow:
    sys.modules.pop(name, None)  # of what the process was forked from
from mmpt.embedding.embedder import SignCLIP
SignCLIP.from_pretrained({str(tmp_path / "model")!r}, device="cpu").embed_text(["a"])
sys.exit(", ".join(sorted(slow & set(sys.modules))) or 0)
"""
    done = run_code(code)
    assert done.returncode == 0, done.stderr


def test_from_pretrained_without_fairseq_or_network(
    model: SignCLIP, tmp_path: Path, clips: list[np.ndarray]
) -> None:
    """The same vectors, with fairseq not importable and every connection refused."""
    model.save_pretrained(tmp_path / "model")
    np.savez(tmp_path / "clips.npz", *clips)
    code = f"""
import socket, sys
sys.modules["fairseq"] = None
def refuse(*args, **kwargs):
    raise AssertionError("a connection was opened")
socket.socket.connect = refuse
import numpy as np
from mmpt.embedding.embedder import SignCLIP
model = SignCLIP.from_pretrained({str(tmp_path / "model")!r}, device="cpu")
clips = np.load({str(tmp_path / "clips.npz")!r})
video = model.embed_video_features([clips[name] for name in clips.files])
np.savez({str(tmp_path / "out.npz")!r}, video=video, text=model.embed_text({TEXTS!r}))
"""
    done = run_code(code)
    assert done.returncode == 0, done.stderr
    out = np.load(tmp_path / "out.npz")
    np.testing.assert_allclose(out["video"], model.embed_video_features(clips), rtol=0, atol=1e-5)
    np.testing.assert_allclose(out["text"], model.embed_text(TEXTS), rtol=0, atol=1e-5)


def test_embedder_device(model: SignCLIP, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model")
    assert SignCLIP.from_pretrained(tmp_path / "model", device="cpu").device == torch.device("cpu")
    with pytest.raises(UserError, match="device"):
        SignCLIP.from_pretrained(tmp_path / "model", device="abacus")


def test_videos_and_json_are_no_poses(model_folder, tmp_path):
    write_video(tmp_path / "a.mp4", frames=3)
    (tmp_path / "a.json").write_text("[]")
    model = SignCLIP.from_pretrained(model_folder)
    for name, said in (
        ("a.mp4", "this is a video, not a .pose file; extract first: `signclip extract pose"),
        ("a.json", "this is JSON, not a .pose file; convert it: `signclip poses convert"),
    ):
        with pytest.raises(UserError, match=f"{name}: {said}"):
            model.embed_pose([tmp_path / name])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_embeddings_do_not_depend_on_the_default_dtype(
    model: SignCLIP, config: Config, data_dir: Path, clips: list[np.ndarray], dtype: torch.dtype
) -> None:
    """A script may have set it for computations of its own."""
    expected = model.embed_video_features(clips), model.embed_text(TEXTS)
    torch.set_default_dtype(dtype)
    try:
        weights = data_dir / "mmfusion" / "weights.safetensors"
        other = SignCLIP.from_checkpoint(weights, config, device="cpu", batch_size=2)
        got = other.embed_video_features(clips), other.embed_text(TEXTS)
    finally:
        torch.set_default_dtype(torch.float32)
    for mine, theirs in zip(got, expected):
        np.testing.assert_array_equal(mine, theirs)
    assert other.fingerprint == model.fingerprint

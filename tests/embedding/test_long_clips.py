"""Clips longer than the model, from config to model folder."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

import mmpt
from mmpt.cli.main import main
from mmpt.config import load_config
from mmpt.datasets.mmdataset import collate
from mmpt.embedding.embedder import SignCLIP
from mmpt.models import load_tokenizer
from mmpt.models.folder import LoadedModel
from mmpt.tasks import Task
from mmpt.utils.errors import UserError

LENGTHS = [4, 10, 11, 37]
WINDOWS = ["dataset.long_video=windows", "dataset.max_video_len=10", "dataset.window_step=4"]


def model_of(tiny_yaml: Path, *overrides: str) -> SignCLIP:
    config = load_config(tiny_yaml, list(overrides))
    torch.manual_seed(0)
    tokenizer = load_tokenizer(config.dataset.bert_name)
    return SignCLIP(LoadedModel(Task(config).build_model(), config.model, config.dataset, tokenizer))


def features() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, 63)).astype(np.float32) for n in LENGTHS]


def test_splits_keep_long_clips_and_batches_have_room_for_them(tiny_yaml, caplog):
    caplog.set_level(logging.INFO)
    task = Task(load_config(tiny_yaml, [*WINDOWS, "dataset.pad_to_max=true"]))
    whole = Task(load_config(tiny_yaml)).dataset("valid")
    dataset = task.dataset("valid")
    np.testing.assert_array_equal(dataset.lengths(), whole.lengths())
    [record] = [each for each in caplog.records if "longer than max_video_len=10" in each.message]
    assert record.levelno == logging.INFO and f"{dataset.n_long()} of 6 clips" in record.message
    samples = [dataset[index] for index in range(4)]
    batch = collate(samples, 0, *task.fixed_padding())
    assert batch["vfeats"].shape[1] == max(len(sample["vfeats"]) for sample in samples) > 10
    with torch.no_grad():
        vectors = task.build_model().eval().encode_video(batch["vfeats"], batch["vmasks"])
    assert vectors.isfinite().all()


def test_embedding_of_long_clips_is_the_mean_of_their_windows(tiny_yaml, tmp_path, caplog):
    model, short = model_of(tiny_yaml, *WINDOWS), model_of(tiny_yaml, "dataset.max_video_len=10")
    found = model.embed_video_features(features())
    assert "longer than" not in caplog.text, "nothing is cut"
    for vector, clip in zip(found, features()):
        last = max(0, len(clip) - 10)
        windows = [clip[start : start + 10] for start in [*range(0, last, 4), last]]
        np.testing.assert_allclose(vector, short.embed_video_features(windows).mean(0), atol=1e-5)
    model.save_pretrained(tmp_path / "model")
    again = mmpt.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(again.embed_video_features(features()), found)
    assert again.fingerprint == model.fingerprint
    assert model_of(tiny_yaml, *WINDOWS[:2]).fingerprint != model.fingerprint != short.fingerprint
    assert "embedded as overlapping windows of 10 frames" in (tmp_path / "model" / "README.md").read_text()
    with pytest.raises(UserError, match=r"long_video: windows\), and their number is not known to an ONNX"):
        from mmpt.embedding.onnx_export import export_onnx

        export_onnx(again, tmp_path / "onnx")


def test_embed_command_reads_all_frames_of_long_clips(tiny_yaml, small_table, tmp_path, capsys):
    vectors = []
    for name, overrides in (("windows", WINDOWS), ("cut", WINDOWS[1:2])):
        model_of(tiny_yaml, *overrides).save_pretrained(tmp_path / name)
        words = ["--in", str(small_table), "--model", str(tmp_path / name), "--split", "test"]
        words += ["--workers", "0", "--quiet"]
        assert main(["embed", *words, "--out", str(tmp_path / f"{name}.out")]) == 0
        vectors.append(np.load(tmp_path / f"{name}.out" / "embeddings.npy"))
        said = capsys.readouterr().err
        assert ("longer than the 10 frames" in said) == (name == "cut")
    assert (vectors[0] != vectors[1]).any(1).all()


def test_clips_of_750_frames_have_stretched_positions_in_all_paths(tiny_yaml, tmp_path):
    """30 s at 25 frames per second; the table has 512 positions."""
    rng = np.random.default_rng(0)
    clips = [rng.normal(size=(n, 63)).astype(np.float32) for n in (5, 600, 750)]
    for options in ([], ["model.ensemble_size=2", "model.multimodal_projection=true"], ["model.conv1d=1"]):
        model = model_of(tiny_yaml, "dataset.max_video_len=750", *options)
        together = model.embed_video_features(clips)
        alone = np.concatenate([model.embed_video_features([clip]) for clip in clips])
        np.testing.assert_allclose(alone, together, atol=1e-5)
        model.save_pretrained(tmp_path / "model", force=True)
        again = mmpt.from_pretrained(tmp_path / "model")
        np.testing.assert_array_equal(again.embed_video_features(clips), together)

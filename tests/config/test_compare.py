"""The config that a model was trained with, compared with the config it is used with."""

import logging

import pytest

from mmpt.config import load_config, save_config
from mmpt.config.compare import differences, trained_with, warn_of_other_preprocessing


@pytest.fixture
def trained(tiny_yaml, tmp_path):
    folder = tmp_path / "trained"
    folder.mkdir()
    save_config(load_config(tiny_yaml, ["dataset.clip_frames=8"]), folder / "config.yaml")
    return folder / "checkpoint_best.pt"


def test_differences_are_named_with_both_values(tiny_yaml):
    before = load_config(tiny_yaml)
    changes = ["dataset.max_len=7", "dataset.augment3d.rotation=0.5", "fairseq.common.seed=3"]
    changes.append("fairseq.ema.store_ema=true")
    found = differences(before, load_config(tiny_yaml, changes))
    assert differences(before, before) == {} and len(found) == 4
    assert found["dataset.max_len"] == (before.dataset.max_len, 7)
    assert found["dataset.augment3d.rotation"] == (0, 0.5)
    assert found["fairseq.common.seed"][1] == 3 and found["fairseq.ema.store_ema"] == (None, True)


def test_preprocessing_different_from_training_warns(trained, tiny_yaml, caplog):
    with caplog.at_level(logging.WARNING):
        same = load_config(tiny_yaml, ["dataset.clip_frames=8", "dataset.augment2d=true", "loss.mixup=0.1"])
        warn_of_other_preprocessing(trained, same)
        assert "was trained with" not in caplog.text
        warn_of_other_preprocessing(trained, load_config(tiny_yaml, ["dataset.max_len=16"]))
    assert "dataset.clip_frames is None" in caplog.text and "was trained with 8" in caplog.text
    assert "dataset.max_len is 16" in caplog.text


@pytest.mark.parametrize(
    "key, told",
    [
        ("model.pooling=max", "model.pooling is max"),
        ("model.multimodal_projection=l2_norm", "model.multimodal_projection is l2_norm"),
        ("dataset.flip_pose=right", "dataset.flip_pose is right"),
        ("dataset.flip_pose=0.5", None),  # in training only
        ("dataset.augment2d=true", None),
        ("dataset.presence=true", "dataset.presence is True"),
        ("dataset.pose_layout=canonical", "dataset.pose_layout is canonical"),
        ("model.dropout=0.3", None),
    ],
)
def test_embedding_settings_different_from_training_warn(trained, tiny_yaml, caplog, key, told):
    warn_of_other_preprocessing(trained, load_config(tiny_yaml, ["dataset.clip_frames=8", key]))
    assert [message.partition(",")[0] for message in caplog.messages] == ([told] if told else [])


def test_compare_with_a_checkpoint_without_a_config(trained, tiny_yaml, tmp_path, caplog):
    assert trained_with(tmp_path / "other.pt") is None and "cannot be read" not in caplog.text
    (trained.parent / "config.yaml").write_text("nonsense: 1\n")
    warn_of_other_preprocessing(trained, load_config(tiny_yaml))
    assert "cannot be read, so its settings are not compared" in caplog.text

"""The ten RWTH experiments: published values, and typos are found."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import locallaunch
from mmpt.config import load_config
from mmpt.config.fairseq_options import option
from mmpt.experiments.comparison import read_published
from mmpt.tasks import Task
from mmpt.training import prepare

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "projects" / "signclip"
# config -> what sets it apart: frames, token ids, width, epochs
EXPERIMENTS = {
    "rwthfs_videoclip": (8, 32, 512, 10),
    "rwthfs_scratch": (8, 32, 512, 25),
    "rwthfs_scratch_i3d_512": (32, 96, 512, 25),
    "rwthfs_scratch_i3d": (32, 96, 1024, 25),
    "rwthfs_scratch_pose": (128, 96, 1629, 25),
    "rwthfs_scratch_pose_aug": (128, 96, 1629, 25),
    "rwthfs_scratch_hand_dominant": (128, 96, 63, 25),
    "rwthfs_scratch_hand_dominant_norm": (128, 96, 63, 25),
    "rwthfs_scratch_hand_dominant_aug": (256, 96, 63, 25),
}
TRAINING = list(EXPERIMENTS)
TESTING = [f"test_{name}" for name in EXPERIMENTS] + ["test_rwthfs_zs"]


def test_rwthfs_configs_are_the_published_rows():
    published = read_published(ROOT / "configs" / "published_rwthfs.csv")
    assert sorted(published) == sorted(TESTING) and len(TESTING) == 10
    assert sorted(path.stem for path in PROJECT.glob("*rwthfs*.yaml")) == sorted(TRAINING + TESTING)


@pytest.mark.parametrize("name", TRAINING)
def test_rwthfs_configs_have_published_values(name):
    config = load_config(PROJECT / f"{name}.yaml")
    frames, tokens, width, epochs = EXPERIMENTS[name]
    assert (config.dataset.max_video_len, config.dataset.max_len) == (frames, tokens)
    assert (config.model.vfeat_dim, option(config.fairseq, "max_epoch")) == (width, epochs)
    assert config.dataset.bert_name == "bert-base-uncased" and config.model.num_hidden_video_layers == 6
    wanted = {
        "batch_size": 35,
        "lr": [5e-5],
        "optimizer": "adam",
        "adam_betas": "(0.9, 0.98)",
        "clip_norm": 2.0,
    }
    wanted |= {"lr_scheduler": "polynomial_decay", "warmup_updates": 122 if "videoclip" in name else 1000}
    assert {key: option(config.fairseq, key) for key in wanted} == wanted
    assert config.dataset.augment2d == name.endswith("_aug")
    assert config.dataset.normalize_hand == name.endswith("_norm")
    assert (option(config.fairseq, "finetune_from_model") is not None) == (name == "rwthfs_videoclip")
    keep = bool(config.dataset.vfeat_custom)
    assert keep == (width == 1024)
    hand = [*config.dataset.pose_components] if config.dataset.pose_components else None
    assert hand == (["RIGHT_HAND_LANDMARKS"] if "hand" in name else None)
    Task(config)  # names are registered, and the width is that of the features


@pytest.mark.parametrize("name", TRAINING)
def test_rwthfs_test_config_evaluates_the_training_config(name):
    train, test = (Task(load_config(PROJECT / f"{prefix}{name}.yaml")) for prefix in ("", "test_"))
    assert test.checkpoint_path() == train.checkpoint_path() and test.results_path() == train.results_path()
    assert (test.config.dataset.split, test.config.task_type) == ("test", "local_predict")
    assert test.config.model == train.config.model


def test_rwthfs_zero_shot_evaluates_videoclip(monkeypatch, tmp_path):
    monkeypatch.setenv("SIGNCLIP_RUNS", str(tmp_path))
    task = Task(load_config(PROJECT / "test_rwthfs_zs.yaml"))
    start = option(load_config(PROJECT / "rwthfs_videoclip.yaml").fairseq, "finetune_from_model")
    assert str(task.checkpoint_path()) == start == str(tmp_path / "retri/videoclip/checkpoint_best.pt")
    assert task.results_path() == tmp_path / "rwthfs_zs" / "eval"


def test_rwthfs_data_root_is_an_environment_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("SIGNCLIP_DATA", str(tmp_path))
    for name in TRAINING:
        dataset = load_config(PROJECT / f"{name}.yaml").dataset
        paths = (
            dataset.train_path,
            dataset.val_path,
            dataset.test_path,
            dataset.gesture_id_path,
            dataset.vfeat_dir,
        )
        assert all(path and path.startswith(f"{tmp_path}/rwthfs/") for path in paths)


@pytest.mark.parametrize("name", TRAINING + TESTING)
def test_dryrun_finds_a_typo_in_a_key(name, tmp_path, capsys):
    assert locallaunch.main([str(PROJECT / f"{name}.yaml"), "--dryrun"]) == 2  # the database is not here
    module = "mmpt evaluate" if name.startswith("test_") else "mmpt train"
    assert f" -m {module} " in capsys.readouterr().out

    shutil.copytree(PROJECT, tmp_path / "projects" / "signclip")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    path = tmp_path / "projects" / "signclip" / f"{name}.yaml"
    content = yaml.safe_load(path.read_text())
    content.setdefault("dataset", {})["max_vide_len"] = 8
    path.write_text(yaml.safe_dump(content))
    assert locallaunch.main([str(path), "--dryrun"]) == 2
    said = capsys.readouterr().err
    assert str(path) in said and "dataset.max_vide_len" in said and "max_video_len" in said


@pytest.mark.parametrize(
    "override, meant",
    [
        ("dataset.meta_processor=RWTHFSMetaProcesor", "RWTHFSMetaProcessor"),
        ("dataset.video_processor=RWTHFSPoseProcesor", "RWTHFSPoseProcessor"),
        ("dataset.pose_components=[RIGHT_HAND_LANDMARK]", "RIGHT_HAND_LANDMARKS"),
        ("model.video_encoder_cls=MMBertForEncode", "MMBertForEncoder"),
        ("model.text_encoder_cls=BertModle", "BertModel"),
        ("loss.loss_cls=MMContraLos", "MMContraLoss"),
    ],
)
def test_dryrun_finds_a_typo_in_a_value(override, meant, capsys):
    path = str(PROJECT / "rwthfs_scratch_hand_dominant.yaml")
    assert locallaunch.main([path, "--dryrun", override]) == 2
    said = capsys.readouterr()
    assert path in said.err and f"Did you mean '{meant}'" in said.err and not said.out


@pytest.mark.parametrize("name", TRAINING)
def test_rwthfs_configs_are_short(name):
    lines = (PROJECT / f"{name}.yaml").read_text().splitlines()
    assert len([line for line in lines if not line.startswith("#")]) <= 10


def test_mini_rwthfs_settings_are_accepted(monkeypatch, tmp_path):
    """`make mini-rwthfs` takes minutes; this tells at once if training refuses what it asks for."""
    monkeypatch.setenv("SIGNCLIP_RUNS", str(tmp_path))
    asked = subprocess.run(
        ["make", "-n", "mini-rwthfs"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    (line,) = [line for line in asked.splitlines() if "experiment results" in line]
    overrides = [word for word in line.split() if re.match(r"(dataset|fairseq)\.", word)]
    assert "fairseq.optimization.max_epoch=1" in overrides
    for name in ("rwthfs_scratch", "rwthfs_scratch_pose"):
        assert prepare(str(PROJECT / f"{name}.yaml"), overrides).argv

"""Published FingerCLIP and SignCLIP configs load unchanged."""

import logging

import pytest
import yaml

from mmpt.config import load_config
from mmpt.tasks import Task
from mmpt.utils.errors import UserError

FAIRSEQ = {
    "common": {"fp16": True, "tensorboard_logdir": "run", "log_interval": 1000},
    "dataset": {"num_workers": 1, "batch_size": 35},
    "optimization": {
        "lr": [5.0e-05],
        "clip_norm": 2.0,
        "optimizer": "adam",
        "adam_betas": "(0.9, 0.98)",
        "lr_scheduler": "polynomial_decay",
        "total_num_update": 1000000,
        "warmup_updates": 1000,
        "weight_decay": 0.0,
        "ddp_backend": "no_c10d",
        "max_epoch": 25,
    },
    "checkpoint": {
        "no_epoch_checkpoints": True,
        "restore_file": "runs/x/checkpoint_best.pt",
        "reset_optimizer": True,
        "reset_dataloader": True,
        "reset_meters": True,
        "save_dir": "runs/y",
    },
}
MODEL = {
    "model_cls": "MMFusionSeparate",
    "mm_encoder_cls": None,
    "video_encoder_cls": "MMBertForEncoder",
    "text_encoder_cls": "BertModel",
    "num_hidden_video_layers": 6,
    "vfeat_dim": 63,
}
PATHS = {
    f"{name}_path": f"/somewhere/{name}.txt" for name in ("train", "val", "test", "gesture_id", "metadata")
}
DATASET = {
    "max_video_len": 256,
    "max_len": 96,
    "video_processor": "RWTHFSPoseProcessor",
    "bert_name": "bert-base-uncased",
    "meta_processor": "RWTHFSMetaProcessor",
    "text_processor": "TextProcessor",
    "vfeat_dir": "/somewhere/else",
    "aligner": "DSAligner",
    "pose_components": ["RIGHT_HAND_LANDMARKS"],
    **PATHS,
}
TRAINING = {
    "dataset": DATASET,
    "fairseq": FAIRSEQ,
    "task_type": "sweep_small",
    "model": MODEL,
    "loss": {"loss_cls": "MMContraLoss"},
    "eval": {"save_path": "runs/y"},
}
TESTING = {
    "dataset": {**DATASET, "split": "test"},
    "slurm_config": "big",
    "task_type": "local_predict",
    "fairseq": {
        "dataset": {"batch_size": 256, "valid_subset": "test", "num_workers": 2},
        "common_eval": {"path": "runs/y/checkpoint_best.pt"},
    },
    "model": MODEL,
    "eval": {"save_path": "runs/y/eval"},
    "metric": "RWTHFSMetric",
    "predictor": "RetrievalPredictor",
}
VARIANTS = {
    "dataset": [
        {"augment2d": True},
        {"normalize_hand": True},
        {"augment_temporal": True, "augment_temporal_chance": 0.05, "gaussian_noise": True},
        {"pose_components": "reduced_face", "flip_pose": "right", "anonym_pose": True},
        {"flip_pose": 0.2},
        {"preprocess": "sign-vq"},
        {"vfeat_custom": 1, "video_processor": "RWTHFSVideoProcessor"},
        {
            "data_dir": "/tfds",
            "train_datasets": [["asl_signs", "1.0.0", "1.0.0-uzh"], ["sem_lex", "1.0.0"]],
            "sp_universal_tagging": True,
        },
        {
            "test_datasets": [["asl_citizen", "1.0.0"]],
            "test_separately": True,
            "test_in_vocab": True,
            "task": "identification_oracle",
        },
        {
            "unique_sampler_num": 35,
            "config_name": "holistic_lip",
            "augment_magic": True,
            "debug": True,
            "train_for_test": True,
        },
        {"include_lip_reading": True, "only_lip_reading": True},
        {"use_valid_for_pretraining": True, "preprocess_gloss": True},
    ],
    "model": [
        {"conv1d": 2},
        {"dropout": 0.4},
        {"multimodal_projection": True},
        {"multimodal_projection": "l2_norm"},
        {"use_cosign": True, "use_cosign_training": True},
        {
            "model_cls": "MMFusionWithI3D",
            "checkpoint_path": "x",
            "num_classes": 5383,
            "num_in_frames": 16,
            "path_to_i3d_repo": "y",
            "i3d_batch_size": 16,
            "freeze_feature_extractor": True,
        },
        {"use_agcn": True, "use_conformer": True},
    ],
}
CASES = [
    (base, section, extra)
    for base in (TRAINING, TESTING)
    for section, extras in VARIANTS.items()
    for extra in extras
]


@pytest.mark.parametrize(
    "base, section, extra", CASES, ids=[f"{i}-{'-'.join(c[2])}" for i, c in enumerate(CASES)]
)
def test_published_configs_load_without_warnings(tmp_path, caplog, base, section, extra):
    path = tmp_path / "published.yaml"
    path.write_text(yaml.safe_dump({**base, section: {**base[section], **extra}}))
    with caplog.at_level(logging.INFO):
        config = load_config(path)
    assert all(getattr(getattr(config, section), key) == value for key, value in extra.items())
    assert all(record.levelno < logging.WARNING for record in caplog.records)
    assert ("slurm_config: " in caplog.text) == ("slurm_config" in base)


@pytest.mark.parametrize(
    "section, extra",
    [
        ("dataset", {"augment_magic": True}),
        ("model", {"use_cosign": True}),
        ("dataset", {"test_in_vocab": True}),
        ("dataset", {"train_datasets": [["asl_signs", "1.0.0"]]}),
        ("dataset", {"sp_universal_tagging": True}),
        ("dataset", {"data_dir": "/tfds"}),
        ("dataset", {"include_lip_reading": True}),
        ("dataset", {"preprocess_gloss": True}),
        ("model", {"use_agcn": True}),
        ("model", {"checkpoint_path": "bsl5k.pth.tar"}),
    ],
)
def test_published_unsupported_options_are_refused(tmp_path, section, extra):
    path = tmp_path / "published.yaml"
    path.write_text(yaml.safe_dump({**TRAINING, section: {**TRAINING[section], **extra}}))
    with pytest.raises(UserError, match=next(iter(extra))):
        Task(load_config(path))


@pytest.mark.parametrize(
    "extra",
    [
        {"dataset": {"pre_compute_vfeat": True, "lip_feature_dir": "/somewhere"}},
        {"dataset": {"vfeat_example_dir": "/somewhere", "vfeat_dir_test": "/somewhere"}},
        {"dataset": {"num_iso_layer": 12, "sliding_window": 16, "sliding_window_size": 32}},
        {"dataset": {"tfeat_dir": "/somewhere", "mm_prob": 0.5}, "task": "VideoRetriTask", "num_cands": 64},
    ],
)
def test_published_keys_of_other_data_sets_are_reported_as_ignored(tmp_path, caplog, extra):
    path = tmp_path / "published.yaml"
    merged = {**TRAINING, **extra, "dataset": {**DATASET, **extra["dataset"]}}
    path.write_text(yaml.safe_dump(merged))
    with caplog.at_level(logging.INFO):
        assert load_config(path).dataset.max_video_len == 256
    named = [*(f"dataset.{key}" for key in extra["dataset"]), *(key for key in extra if key != "dataset")]
    assert all(key in caplog.text for key in named)
    assert all(record.levelno < logging.WARNING for record in caplog.records)


def test_published_includes_relative_to_a_parent_folder(tmp_path, monkeypatch):
    """Published configs name includes relative to the folder in which training was started."""
    folder = tmp_path / "projects" / "task"
    folder.mkdir(parents=True)
    (folder / "default.yaml").write_text("task_type: sweep_small\n")
    (folder / "ft.yaml").write_text("includes: projects/task/default.yaml\n")
    (folder / "x.yaml").write_text(yaml.safe_dump({"includes": "projects/task/ft.yaml", "dataset": DATASET}))
    for place, name in ((tmp_path, "projects/task/x.yaml"), (tmp_path.parent, str(folder / "x.yaml"))):
        monkeypatch.chdir(place)
        assert load_config(name).task_type == "sweep_small"

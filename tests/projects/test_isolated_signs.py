"""The configs of isolated sign recognition: they load, match, and name missing data."""

from pathlib import Path

import pytest

from mmpt.cli import train as train_cli
from mmpt.config import load_config
from mmpt.tasks import Task

PROJECT = Path("projects/signclip")
TABLES = ["asl_signs", "asl_citizen_scratch", "asl_citizen_finetune", "sem_lex_scratch", "sem_lex_finetune"]
TABLES += ["multilingual"]


@pytest.mark.parametrize("name", [*TABLES, "fslex_multilingual"])
def test_isolated_sign_training_and_test_configs_agree(name):
    config, twin = load_config(PROJECT / f"{name}.yaml"), load_config(PROJECT / f"test_{name}.yaml")
    assert config.model == twin.model and twin.dataset.split == "test"
    assert twin.task_type == "local_predict"
    assert config.fairseq["checkpoint"]["save_dir"] == twin.fairseq["checkpoint"]["save_dir"]
    assert Task(config).video_processor(training=True).feature_dim == config.model.vfeat_dim


def test_multilingual_config():
    config = load_config(PROJECT / "multilingual.yaml")
    assert config.dataset.pose_components == "reduced_face" and config.model.vfeat_dim == 609
    assert config.model.num_hidden_video_layers == 12 and config.dataset.augment_temporal
    for name in ("asl_citizen_finetune", "sem_lex_finetune"):
        fine = load_config(PROJECT / f"{name}.yaml")
        assert fine.model == config.model, "weights fit"
        start = Path(fine.fairseq["checkpoint"]["finetune_from_model"])
        assert start.parent == Path(config.fairseq["checkpoint"]["save_dir"])


def test_multilingual_config_samples(small_table, data_dir, pose_cache):
    overrides = [f"dataset.table_path={small_table}", f"dataset.cache_dir={pose_cache}"]
    bert = data_dir / "mmfusion" / "bert"
    task = Task(load_config(PROJECT / "multilingual.yaml", [*overrides, f"dataset.bert_name={bert}"]))
    sample = task.dataset("valid")[0]
    assert sample["vfeats"].shape[1] == 609 and sample["text"] == "<en> <asq> A"


@pytest.mark.parametrize("name", TABLES)
def test_missing_table_names_the_import_script(name, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SIGNCLIP_DATA", str(tmp_path))
    assert train_cli.main([str(PROJECT / f"{name}.yaml"), "--in-process"]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert str(tmp_path) in error and "scripts/import_" in error and "SIGNCLIP_DATA" in error


def test_fslex_multilingual_has_all_languages_and_letters(data_dir, pose_cache):
    bert = data_dir / "mmfusion" / "bert"
    overrides = [f"dataset.bert_name={bert}", f"dataset.cache_dir={pose_cache}"]
    task = Task(load_config(PROJECT / "fslex_multilingual.yaml", overrides))
    examples = [e for split in ("train", "valid", "test") for e in task.dataset(split).examples]
    assert len({e.group for e in examples}) == 19
    assert len({e.text.split("> ")[-1] for e in examples}) > 150
    assert "<en> <gsg> A" in task.dataset("test").prompts
    batches = task.dataset("train").batches(78, 1)
    assert sorted(i for batch in batches for i in batch) == list(range(len(task.dataset("train"))))
    assert task.dataset("train")[0]["vfeats"].shape[1] == 346

"""The configs of the fingerspelling lexicon: their training, validation and test splits."""

import dataclasses
from pathlib import Path

from mmpt.config import load_config
from mmpt.tasks import Task

PROJECT = Path("projects/signclip")


def languages(name: str, split: str, *overrides: str) -> set[str]:
    task = Task(load_config(PROJECT / f"{name}.yaml", list(overrides)))
    return {example.group for example in task.dataset(split).examples}


def test_fslex_refit_config_adds_only_the_validation_languages(pose_cache):
    cache = f"dataset.cache_dir={pose_cache}"
    train, valid, test = (languages("fslex_best", split, cache) for split in ("train", "valid", "test"))
    assert not train & valid and not (train | valid) & test
    assert languages("fslex_best_refit", "train", cache) == train | valid
    assert languages("test_fslex_best_refit", "test", cache) == test
    best, refit = (load_config(PROJECT / f"{name}.yaml") for name in ("fslex_best", "fslex_best_refit"))
    for part in ("model", "loss", "eval"):
        assert getattr(best, part) == getattr(refit, part)
    changed = {"train_languages", "valid_languages"}
    fields = {field.name for field in dataclasses.fields(best.dataset)} - changed
    assert all(getattr(best.dataset, name) == getattr(refit.dataset, name) for name in fields)
    assert best.fairseq["optimization"] == refit.fairseq["optimization"]


def test_fslex_config_without_validation_evaluates_the_last_checkpoint():
    twins = [
        Task(load_config(PROJECT / f"{name}.yaml")) for name in ("fslex_best_refit", "test_fslex_best_refit")
    ]
    assert {task.checkpoint_path().name for task in twins} == {"checkpoint_last.pt"}
    assert Task(load_config(PROJECT / "fslex_best.yaml")).checkpoint_path().name == "checkpoint_best.pt"
    named = ["fairseq.common_eval.path=elsewhere.pt"]
    assert (
        str(Task(load_config(PROJECT / "fslex_best_refit.yaml", named)).checkpoint_path()) == "elsewhere.pt"
    )

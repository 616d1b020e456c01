"""Training with batches of neighbours: resumed as if never interrupted; one process only."""

import signal
from pathlib import Path

import pytest
import torch

from mmpt.config import load_config
from mmpt.tasks import Task
from mmpt.training.neighbours import EpochBatches, check_one_process
from mmpt.utils.checkpoint import load_torch_file
from mmpt.utils.errors import UserError
from tests.cli.test_train import same_weights
from tests.commands import O, train

HARD = "dataset.batch_sampler=neighbours"
CPU = torch.device("cpu")


@pytest.fixture
def task(tiny_yaml: Path) -> Task:
    torch.manual_seed(0)
    return Task(load_config(tiny_yaml, [HARD]))


def test_first_epoch_is_that_of_unique_prompts_and_later_ones_follow_the_weights(
    task: Task, tiny_yaml: Path
) -> None:
    model, dataset = task.build_model().train(), task.dataset("train")
    drawn, state = EpochBatches(task, 4), torch.get_rng_state()
    drawn.draw(model, CPU, 1)
    assert drawn.state_dict() is None
    assert dataset.batches(4, 1) == Task(load_config(tiny_yaml)).dataset("train").batches(4, 1)
    drawn.draw(model, CPU, 2)
    assert model.training and torch.equal(torch.get_rng_state(), state)
    second = dataset.batches(4, 2)
    assert sorted(i for batch in second for i in batch) == list(range(len(dataset)))
    assert all(len({dataset.labels[i] for i in batch}) == len(batch) for batch in second)
    again = EpochBatches(task, 4)
    again.draw(model, CPU, 2)
    assert dataset.batches(4, 2) == second, "the same weights, seed and epoch"
    for parameter in model.video_encoder.parameters():
        torch.nn.init.normal_(parameter)
    again = EpochBatches(task, 4)
    again.draw(model, CPU, 2)
    assert dataset.batches(4, 2) != second, "other weights"
    again.restore(drawn.state_dict())
    again.draw(model, CPU, 2)
    assert dataset.batches(4, 2) == second, "those of a checkpoint"
    other_size = EpochBatches(task, 3)
    other_size.restore(drawn.state_dict())
    assert other_size.state_dict() is None


def test_with_label_aware_any_clips_are_in_a_batch(tiny_yaml: Path) -> None:
    task = Task(load_config(tiny_yaml, [HARD, "loss.label_aware=true", "dataset.neighbours_from=1"]))
    dataset = task.dataset("train")
    EpochBatches(task, 9).draw(task.build_model(), CPU, 1)
    batches = dataset.batches(9, 1)
    assert [len(batch) for batch in batches] == [9, 9]
    assert any(len({dataset.labels[i] for i in batch}) < 9 for batch in batches)


def test_several_processes_and_options_without_effect_are_refused(
    tiny_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for option in ("dataset.oversample=true", "dataset.unique_sampler_num=4"):
        with pytest.raises(UserError, match=r"has no effect with dataset\.batch_sampler: neighbours"):
            Task(load_config(tiny_yaml, [HARD, option]))
    with pytest.raises(UserError, match=r"neighbours_from is for dataset\.batch_sampler: neighbours"):
        Task(load_config(tiny_yaml, ["dataset.neighbours_from=3"]))
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_one_process(load_config(tiny_yaml).dataset)
    with pytest.raises(UserError, match="needs a training of one process, and this one has 2"):
        check_one_process(load_config(tiny_yaml, [HARD]).dataset)


@pytest.mark.slow
def test_a_run_stopped_inside_an_epoch_ends_as_one_that_was_not(tiny_yaml: Path, tmp_path: Path) -> None:
    options = [str(tiny_yaml), HARD, f"{O}.max_epoch=3"]
    folders = [f"fairseq.checkpoint.save_dir={tmp_path}/{name}" for name in ("whole", "stopped")]
    whole = train(*options, folders[0])
    assert whole.returncode == 0, whole.stderr
    assert "epoch 2: batches of neighbours" in whole.stderr and "epoch 1: batches" not in whole.stderr
    assert "epoch 4: batches" not in whole.stderr, "the run has three"
    stopped = train(*options, folders[1], stop_at=6)  # of five updates an epoch, numbered from 0
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr
    saved = load_torch_file(tmp_path / "stopped" / "checkpoint_last.pt")["extra_state"]["neighbours"]
    assert saved["epoch"] == 2 and sorted(saved["order"].tolist()) == list(range(18))
    resumed = train(*options, folders[1])
    assert resumed.returncode == 0 and "begins again" not in resumed.stderr, resumed.stderr
    assert "epoch 2: batches" not in resumed.stderr and "epoch 3: batches" in resumed.stderr
    for name in ("checkpoint_best.pt", "checkpoint_last.pt"):
        assert same_weights(tmp_path / "whole" / name, tmp_path / "stopped" / name)

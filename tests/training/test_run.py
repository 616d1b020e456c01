"""The plan of a training run: made once, written nothing."""

import shutil

import pytest
import torch

from mmpt.config import loader
from mmpt.config.run_folder import BEST, DATA, LAST, METRICS, SAVED_CONFIG, TOKENIZER
from mmpt.models.loading import load_model
from mmpt.tasks import Task
from mmpt.training import prepare
from mmpt.training.resume import StartKind
from mmpt.training.run import active, active_plan, check_plan, preflight
from mmpt.utils.errors import UserError
from mmpt.utils.files import read_json, write_json
from tests.commands import O


def test_prepare_and_preflight_load_the_config_and_build_the_task_once(tiny_yaml, monkeypatch, tmp_path):
    calls = []
    read, init = loader._read, Task.__init__
    monkeypatch.setattr(loader, "_read", lambda path, above: calls.append("yaml") or read(path, above))
    monkeypatch.setattr(Task, "__init__", lambda self, *args: calls.append("task") or init(self, *args))
    plan = prepare(str(tiny_yaml), [f"{O}.max_epoch=2"])
    preflight(plan)
    assert calls == ["yaml", "task"]
    assert plan.config.fairseq["optimization"]["max_epoch"] == 2
    assert plan.start.kind is StartKind.SCRATCH
    assert not (tmp_path / "run").exists(), "nothing is written"


def test_prepare_warns_of_a_moved_run(tiny_yaml, tmp_path, caplog):
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.copy(tiny_yaml, moved / SAVED_CONFIG)
    (moved / LAST).touch()
    prepare(str(tiny_yaml))
    assert "lies beside" not in caplog.text
    plan = prepare(str(moved / SAVED_CONFIG))
    assert f"add fairseq.checkpoint.save_dir={moved}" in caplog.text and plan.start.kind is StartKind.SCRATCH


def test_argv_holds_config_overrides_and_options(tiny_yaml):
    plan = prepare(str(tiny_yaml), ["fairseq.checkpoint.save_interval=2", f"{O}.max_epoch=3"])
    assert plan.argv[:7] == [str(tiny_yaml), "--task", "mmtask", "--arch", "mmarch", "--criterion", "mmloss"]
    assert plan.argv[7:9] == ["--override", "fairseq.checkpoint.save_interval=2"]
    given = dict(zip(plan.argv, plan.argv[1:]))
    assert given["--save-interval"] == "1", "the last epoch is saved"
    assert given["--batch-size"] == "4" and given["--required-batch-size-multiple"] == "1"


@pytest.mark.parametrize("name", [SAVED_CONFIG, DATA, METRICS])
def test_files_that_no_run_wrote_are_never_overwritten(tiny_yaml, tmp_path, monkeypatch, name):
    (tmp_path / "run").mkdir()
    file = tmp_path / "run" / name
    for content in ("mine: 1\n", tiny_yaml.read_text(), '{"mine": 1}'):
        file.write_text(content)
        with pytest.raises(UserError, match=rf"{name} was not written by a training run"):
            prepare(str(tiny_yaml))
    file.unlink()
    plan = prepare(str(tiny_yaml))
    monkeypatch.setattr("mmpt.training.run.training_data", lambda config: {})
    plan.save_record()
    (tmp_path / "run" / METRICS).write_text('{"epo')  # killed while it wrote the first line
    assert prepare(str(tiny_yaml)).start.kind is StartKind.SCRATCH


def test_weights_of_another_tokenizer_are_refused(tiny_yaml, tmp_path, monkeypatch):
    monkeypatch.setattr("mmpt.training.run.training_data", lambda config: {})
    plan = prepare(str(tiny_yaml))
    plan.save_record()
    parts = ("model", "optimizer_history", "last_optimizer_state", "extra_state")
    torch.save({key: {} for key in parts}, tmp_path / "run" / LAST)
    other = f"fairseq.checkpoint.save_dir={tmp_path / 'other'}"
    finetune = f"fairseq.checkpoint.finetune_from_model={tmp_path / 'run' / LAST}"
    starts = [[], [other, finetune], [other, finetune.replace("finetune_from_model", "restore_file")]]
    for overrides in starts:
        check_plan(prepare(str(tiny_yaml), overrides))
    write_json(tmp_path / "run" / DATA, {**read_json(tmp_path / "run" / DATA), TOKENIZER: "0" * 64})
    for overrides in starts:
        with pytest.raises(UserError, match=f"{LAST} was trained with another tokenizer than that of"):
            check_plan(prepare(str(tiny_yaml), overrides))
    with pytest.raises(UserError, match="was trained with another tokenizer"):
        load_model(tmp_path / "run" / LAST, plan.config)


@pytest.mark.parametrize("files, dropped", [([], False), ([LAST], True), ([BEST, SAVED_CONFIG], True)])
def test_resets_apply_to_another_runs_checkpoint_only(tiny_yaml, tmp_path, files, dropped):
    (tmp_path / "run").mkdir()
    for name in files:
        (tmp_path / "run" / name).touch()
    other = ["fairseq.checkpoint.restore_file=other.pt", "fairseq.checkpoint.reset_meters=true"]
    argv = prepare(str(tiny_yaml), other).argv
    assert ("--restore-file" not in argv) is dropped and ("--reset-meters" not in argv) is dropped


def test_running_removes_half_written_files_and_locks_the_folder(tiny_yaml, tmp_path, monkeypatch):
    plan = prepare(str(tiny_yaml))
    (tmp_path / "run").mkdir()
    half = tmp_path / "run" / "checkpoint_last.pt.tmp"
    half.touch()
    with plan.running():
        assert not half.exists()
        half.touch()
        with pytest.raises(UserError, match="in use by another training run"), plan.running():
            pass
        monkeypatch.setenv("RANK", "1")
        with plan.running():  # another rank of the same run leaves it to rank 0
            assert half.exists()
        monkeypatch.delenv("RANK")
    assert not half.exists()


def test_the_active_plan_ends_with_its_block(tiny_yaml):
    plan = prepare(str(tiny_yaml))
    assert active_plan() is None
    with active(plan):
        assert active_plan() is plan
    assert active_plan() is None


@pytest.mark.parametrize("aware", [False, True])
def test_preflight_warns_of_equal_prompts_as_negatives(tiny_yaml, caplog, aware):
    groups = ["dataset.batch_sampler=prompt_groups", "dataset.clips_per_prompt=3"]
    preflight(prepare(str(tiny_yaml), [*groups, f"loss.label_aware={str(aware).lower()}"]))
    assert ("set loss.label_aware: true" in caplog.text) != aware

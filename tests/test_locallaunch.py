"""locallaunch.py: the commands for a config, and the exit status."""

import argparse
import sys

import pytest

from mmpt.cli import train
from mmpt.utils.errors import UserError
from tests.commands import run
from tests.conftest import ROOT, run_module


def test_locallaunch_dryrun_prints_the_commands(tiny_yaml, capsys):
    test_yaml = tiny_yaml.with_name("test_tiny.yaml")
    test_yaml.write_text("includes: tiny.yaml\n")
    assert train.main(["--dryrun", f"{tiny_yaml},{test_yaml}", "eval.after_training=true"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" -m mmpt ")[1].split()[0] for line in lines] == ["train", "evaluate", "evaluate"]
    assert all("eval.after_training=true" in line for line in lines)


def commands(config, *overrides, jobtype=None):
    args = argparse.Namespace(overrides=list(overrides), jobtype=jobtype, force=False, verbose=False)
    return train.commands(str(config), args)


@pytest.mark.parametrize(
    "task_type, jobtype, processes",
    [
        ("local_small", None, 2),
        ("local_big", None, 4),
        ("sweep_small", None, 1),
        ("local_single", "local_small", 2),
    ],
)
def test_job_types(tiny_yaml, task_type, jobtype, processes):
    (command,) = commands(tiny_yaml, f"task_type={task_type}", jobtype=jobtype)
    assert (f"--nproc-per-node={processes}" in command) == (processes > 1)
    assert command[0] == sys.executable


def test_locallaunch_unknown_local_job_type(tiny_yaml):
    with pytest.raises(UserError, match="task_type: expected one of local_single, local_small"):
        commands(tiny_yaml, "task_type=local_smal")


def test_predict_by_job_type(tiny_yaml):
    (command,) = commands(tiny_yaml, jobtype="local_predict")
    assert command[1:4] == ["-m", "mmpt", "evaluate"]


@pytest.mark.parametrize("jobtype", ["local_single", pytest.param("local_small", marks=pytest.mark.slow)])
def test_locallaunch_exit_status_is_the_jobs(tiny_yaml, jobtype):
    """And of two processes that find the same mistake, one says it."""
    failed = run("train", tiny_yaml, "model.vfeat_dim=64", "--jobtype", jobtype)
    assert failed.returncode == 2
    assert "Traceback" not in failed.stderr and failed.stderr.count("error:") == 1


def test_locallaunch_missing_rwth_data(tmp_path):
    """One clear message, exit 2, no traceback; it names what to run instead."""
    config = ROOT / "projects" / "signclip" / "rwthfs_scratch_pose.yaml"
    failed = run("train", "--in-process", config, SIGNCLIP_DATA=str(tmp_path))
    assert failed.returncode == 2
    assert "fslex_scratch_pose.yaml" in failed.stderr and "Traceback" not in failed.stderr
    assert failed.stderr.count("error:") == 1


@pytest.mark.parametrize("arguments", [["no_such.yaml"], [","], ["x.yaml", "--jobtype", "local_predict"]])
def test_no_config(arguments, capsys):
    assert train.main(arguments) == 2
    assert "error:" in capsys.readouterr().err


def test_locallaunch_lock_refuses_two_evaluations(tiny_yaml, tmp_path, capsys):
    from mmpt.cli.evaluate import main
    from mmpt.utils.lock import folder_lock

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint_best.pt").write_bytes(b"")
    with folder_lock(tmp_path / "run" / "eval", "a test"):
        assert main([str(tiny_yaml)]) == 2
    assert "is in use by another evaluation" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["loss.learnable_temperature=true", "loss.loss_cls=MMSigmoidLoss"])
def test_locallaunch_two_processes_train_loss_parameters(tiny_yaml, loss):
    """Temperature and bias: fairseq's legacy_ddp cannot sum gradients of parameters without a shape."""
    options = [loss, "loss.gather=true", "fairseq.optimization.max_epoch=1"]
    command = ["locallaunch.py", str(tiny_yaml), "--jobtype", "local_small", *options]
    done = run_module(*command, "fairseq.dataset.batch_size=3")
    assert done.returncode == 0, done.stderr
    assert "epoch 1" in done.stderr
    refused = run_module(*command)  # two batches of four, and six letters: one would be its own negative
    assert refused.returncode == 2 and "batch_size to at most 3" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["dataset.table_path=none.csv"], "there is no table none.csv"),
        (["dataset.prompt_templates=['{tex}']"], "names the column 'tex'"),
        (["fairseq.dataset.batch_size=7"], "6 prompts cannot fill a batch of 7"),
        (["loss.gather=true", "--jobtype", "local_small"], "2 processes share a batch of 8 clips; 6 prompts"),
        (["dataset.prompt_templates=['{signed_language}']", "fairseq.dataset.batch_size=2"], ""),
        (["dataset.prompt_templates=['{text}']", "dataset.max_len=4"], ""),
        (["dataset.prompt_templates=['the letter {text}']", "dataset.max_len=4"], "same token ids"),
        (["dataset.prompt_templates=['ሰላም{text}']"], "knows no word of 6 of"),
        (["fairseq.dataset.batch_size=1"], "a batch of one clip has no negatives"),
        (["fairseq.checkpoint.restore_file=none.pt"], "there is no checkpoint none.pt to resume from"),
        (["model.video_hidden_size=16"], "a multiple of 32 was expected"),
        (["dataset.vfeat_dir=nowhere"], "none of the 12 clips is in the folder of features nowhere"),
        ([], ""),
    ],
)
def test_dryrun_reads_the_table(tiny_yaml, small_table, overrides, words, capsys):
    table = ["dataset.meta_processor=TableMetaProcessor", f"dataset.table_path={small_table}"]
    assert train.main(["--dryrun", str(tiny_yaml), *table, *overrides]) == (2 if words else 0)
    said = capsys.readouterr()
    assert "--in-process" in said.out and words in said.err and said.err.count("\n") == bool(words)
    assert not (tiny_yaml.parent / "run").exists()

"""Training as users start it: it learns, resumes, and says what is wrong."""

import json
import logging
import resource
import shlex
import socket
import sys
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch

from mmpt.cli.main import main
from mmpt.training.run import prepare
from mmpt.utils.checkpoint import load_state_dict_file
from mmpt.utils.errors import UserError
from tests.commands import O, run, run_code, run_lines, start, train, train_runs
from tests.conftest import ROOT, run_module


def same_weights(one: Path, other: Path) -> bool:
    first, second = load_state_dict_file(one), load_state_dict_file(other)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_train_evaluate_and_search(tiny_yaml, tmp_path, capsys):
    """The whole path: the commands that the launcher starts, and the demo."""
    overrides = [
        "eval.after_training=true",
        "fairseq.optimization.max_epoch=2",
        "fairseq.checkpoint.save_interval=5",  # which would never come
        "fairseq.dataset.validate_interval=5",
    ]
    assert main(["train", str(tiny_yaml), *overrides, "--dryrun"]) == 0
    commands = capsys.readouterr().out.splitlines()
    assert [line.split(" -m mmpt ")[1].split()[0] for line in commands] == ["train", "evaluate"]
    done = run_lines(commands, ROOT)
    assert done.returncode == 0, done.stderr
    epochs = [line for line in done.stderr.splitlines() if "mmpt.epoch: epoch " in line]
    assert len(epochs) == 2
    for word in ("train loss", "valid loss", "valid V2T R@1"):
        assert word in epochs[0]
    assert (tmp_path / "run" / "config.yaml").is_file()
    results = json.loads((tmp_path / "run" / "eval" / "results.json").read_text())
    assert results["n_videos"] == 6 and results["n_prompts"] == 6 and results["similarity"] == "cosine"
    assert results["chance"]["v2t R@1"] == pytest.approx(1 / 6)
    assert {"P@1", "P@5", "P@10", "R@1", "R@5", "R@10", "MedianR", "MeanR"} <= results["t2v"].keys()
    assert {"R@1", "R@5", "R@10", "MedianR", "MeanR"} <= results["v2t"].keys()
    for name in (
        "results.md",
        "confusion_matrix.png",
        "video_embeddings.npy",
        "text_embeddings.npy",
        "ids.json",
        "report.html",
    ):
        assert (tmp_path / "run" / "eval" / name).is_file()
        assert name in done.stdout

    asked = run("demo", "--config", tiny_yaml, "--letter", "B", "--text", "a house")
    assert asked.returncode == 0, asked.stderr
    assert (
        "random text" in asked.stdout
        and "a house" in asked.stdout
        and "Fingerspell the letter B." in asked.stdout
    )


def test_print_fairseq_shows_a_command_that_trains_the_same_model(finished, tmp_path, capsys):
    """fairseq-train with the arguments that --print-fairseq shows gives the same model."""
    place = f"fairseq.checkpoint.save_dir={tmp_path}/hand"
    assert main(["train", str(finished[0]), "--print-fairseq", f"{O}.max_epoch=1", place]) == 0
    arguments = shlex.split(capsys.readouterr().out)
    assert arguments[0] == "fairseq-train"
    other = [*arguments, "--override", "model.pooling=max"]
    call = "import sys; from fairseq_cli.train import cli_main"
    by_hand = run_code(
        "".join([call, *(f"; sys.argv = {words}; cli_main()" for words in (arguments, other))])
    )
    assert "started by fairseq-train: save_dir is not locked" in by_hand.stdout, by_hand.stderr
    assert same_weights(finished[1] / "checkpoint_last.pt", tmp_path / "hand" / "checkpoint_last.pt")
    assert by_hand.returncode != 0 and "Traceback" not in by_hand.stderr
    assert "model.pooling is max, but the run in" in by_hand.stderr, by_hand.stderr


def test_fine_tuning_starts_from_the_weights_of_a_checkpoint(finished, tmp_path):
    path, folder, _ = finished
    start = folder / "checkpoint_best.pt"
    tune = [
        str(path),
        f"fairseq.checkpoint.restore_file={start}",
        "fairseq.checkpoint.reset_optimizer=true",
        f"fairseq.checkpoint.save_dir={tmp_path}/tuned",
        f"{O}.max_update=1",
        f"{O}.lr=[0]",
    ]
    wider = [*tune, "dataset.hand_frame=palm", "model.vfeat_dim=69"]
    done = train_runs([tune, [*wider, f"fairseq.checkpoint.save_dir={tmp_path}/wider"]])
    assert "starting from the weights in" in done.stderr, done.stderr
    assert same_weights(start, tmp_path / "tuned" / "checkpoint_last.pt")
    assert done.returncode == 2 and f"{start} does not fit the model" in done.stderr
    assert "videomlp.linear1.weight" in done.stderr and "Traceback" not in done.stderr


def test_best_checkpoint_by_recall_is_the_highest(tiny_yaml):
    recall = ["fairseq.checkpoint.best_checkpoint_metric=v2t_R@1"]
    assert "--maximize-best-checkpoint-metric" in prepare(str(tiny_yaml), recall).argv
    assert "--maximize-best-checkpoint-metric" not in prepare(str(tiny_yaml)).argv


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["datset.max_len=3"], "Did you mean dataset?"),
        (["model.vfeat_dim=64"], "model.vfeat_dim"),
        (["fairseq.dataset.batch_size=7"], "at most 6"),
        (["dataset.video_processor=PoseProcesor"], "Did you mean 'PoseProcessor'?"),
        (["dataset.bert_name=package:no_such_package"], "no_such_package"),
        (["fairseq.checkpoint.finetune_from_model=no/such.pt"], "no/such.pt"),
        (
            ["fairseq.checkpoint.finetune_from_model=a.pt", "fairseq.checkpoint.restore_file=b.pt"],
            "leave one of them out",
        ),
        (["fairseq.checkpoint.restore_file=no/such.pt"], "no/such.pt"),
        (["model.train_last_layers=1"], "frame MLP, which is random without a checkpoint"),
        (
            ["model.train_projections_only=true", "model.multimodal_projection=true"],
            "or leave train_projections_only out",
        ),
        (["fairseq.checkpoint.best_checkpoint_metric=loos"], "one of loss, v2t_R@1, t2v_P@1"),
        (["fairseq.dataset.num_workers=100000"], "fairseq.dataset.num_workers 100000: expected 0 to "),
        (["fairseq.dataset.batch_size=1"], "a batch of one clip has no negatives"),
        (["fairseq.dataset.batch_size_valid=1"], "a batch of one clip has no negatives, and its loss is 0"),
        (["fairseq.dataset.max_valid_steps=0"], "expected a number of at least 1, got 0"),
        (["fairseq.ema.ema_update_freq=0"], "expected a number of at least 1, got 0"),
        (["fairseq.distributed_training.distributed_world_size=0"], "expected a number of at least 1, got 0"),
        (["fairseq.distributed_training.ddp_backend=fully_sharded"], "fully_sharded needs a package"),
        (["fairseq.distributed_training.pipeline_model_parallel=true"], "splits models written for it"),
        (["fairseq.distributed_training.cpu_offload=true"], "is of fully_sharded, which is not supported"),
        (
            ["fairseq.dataset.disable_validation=true", "fairseq.checkpoint.patience=1", f"{O}.max_epoch=0"],
            "this run would never end",
        ),
        (["fairseq.dataset.max_tokens=500"], "set fairseq.dataset.batch_size"),
        (["fairseq.common.bf16=true"], "leave it out. model.autocast=bf16"),
        (["fairseq.common.memory_efficient_bf16=true"], "leave it out. model.autocast=bf16"),
        (["fairseq.common.tpu=true"], "leave it out. model.autocast=bf16"),
        (["fairseq.dataset.train_subset=test"], "leave it out"),
        (["fairseq.dataset.valid_subset=test"], "leave it out"),
        (
            ["fairseq.dataset.max_valid_steps=1", "fairseq.checkpoint.best_checkpoint_metric=v2t_R@1"],
            "v2t_R@1 ranks all of them",
        ),
        (["fairseq.checkpoint.write_checkpoints_asynchronously=true"], "saves nothing here: leave it out"),
        (["fairseq.common.model_parallel_size=2"], "model_parallel_size=2 splits models"),
        (["fairseq.distributed_training.zero_sharding=os"], "zero_sharding=os needs a package"),
        (["fairseq.distributed_training.distributed_world_size=99"], "--jobtype local_small"),
        (
            [
                "fairseq.checkpoint.best_checkpoint_metric=v2t_R@1",
                "fairseq.checkpoint.maximize_best_checkpoint_metric=false",
            ],
            "is the one with the highest value",
        ),
        (["metric=RetrievalMetrik"], "Known: RWTHFSMetric"),
        (
            ["fairseq.optimization.optimizer=adagrad"],
            "fairseq.optimization.adam_betas: fairseq has no such option with optimizer: adagrad",
        ),
        (
            ["fairseq.optimization.lr_scheduler=cosine"],
            "fairseq.optimization.total_num_update: fairseq has no such option with optimizer: adam and "
            "lr_scheduler: cosine. Leave it out; where an included config sets it, set it to null.",
        ),
        (
            [f"{O}.optimizer=composite", f"{O}.adam_betas=null", f"{O}.weight_decay=null"],
            "optimizer: composite and lr_scheduler: polynomial_decay cannot be made",
        ),
        (
            [f"{O}.lr_scheduler=pass_through", f"{O}.total_num_update=null", f"{O}.warmup_updates=null"],
            "lr_scheduler: pass_through cannot be made: Pass-through schedule can only be used with",
        ),
        (
            [f"{O}.lr_scheduler=tri_stage", f"{O}.total_num_update=null", f"{O}.warmup_updates=null"],
            "lr_scheduler: tri_stage cannot be made: please specify steps or phase_ratio",
        ),
        (
            [f"{O}.lr_scheduler=triangular", f"{O}.total_num_update=null", f"{O}.warmup_updates=null"],
            "fairseq.optimization.max_lr: has to be set",
        ),
        ([f"{O}.max_epoch=0"], "this run would never end"),
        ([f"{O}.total_num_update=null"], f"{O}.total_num_update: has to be set"),
        (["fairseq.checkpoint.no_save_optimizer_state=true"], "leaves nothing that an interrupted run can"),
        (["fairseq.checkpoint.no_last_checkpoints=true"], "leaves nothing that an interrupted run can"),
        (["fairseq.checkpoint.checkpoint_suffix=_2"], "checkpoint_suffix=_2 gives checkpoints names"),
        (["fairseq.checkpoint.continue_once=no/such.pt"], "restore_file here: leave it out"),
        (["eval.after_training=true", "eval.device=gpu"], "device 'gpu'"),
        (
            ["loss.learnable_temperature=true", "loss.temperature=0.001"],
            "a learnable temperature must start below the bound",
        ),
        (
            ["loss.loss_cls=MMSigmoidLoss", "loss.label_smoothing=0.1"],
            "loss.label_smoothing is 0.1, which MMSigmoidLoss does not support",
        ),
        (["dataset.letters=[A]", "dataset.prompt='The letter.'"], "contains neither {letter} nor"),
    ],
)
def test_config_mistakes_end_with_one_line_and_status_2(tiny_yaml, tmp_path, overrides, words, capsys):
    from mmpt.cli.train import main

    assert main([str(tiny_yaml), *overrides, "--in-process"]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert sum(line.startswith("error:") for line in message.splitlines()) == 1
    assert not (tmp_path / "run").exists(), "nothing may be written before the config is known to be good"


def test_max_valid_steps_is_the_number_of_batches(tiny_yaml, tmp_path):
    """Of two; fairseq validates one more. Retrieval is only measured on all clips."""
    folders = [tmp_path / f"{steps}" for steps in (1, 2)]
    done = train_runs(
        [
            [
                str(tiny_yaml),
                f"{O}.max_epoch=1",
                f"fairseq.dataset.max_valid_steps={folder.name}",
                f"fairseq.checkpoint.save_dir={folder}",
            ]
            for folder in folders
        ]
    )
    assert done.returncode == 0, done.stderr
    logged = [json.loads((folder / "metrics.jsonl").read_text()) for folder in folders]
    assert ["valid_v2t_R@1" in line for line in logged] == [False, True]


def test_an_epoch_without_an_update_is_an_error(tiny_yaml):
    options = [f"{O}.skip_remainder_batch=true", f"{O}.max_epoch=1"]
    done = train_runs([[str(tiny_yaml), *options, f"{O}.update_freq=[{batches}]"] for batches in (5, 4)])
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "skips the last of 5 batches of an epoch, and an update takes 5" in done.stderr
    assert "epoch 1 | train loss" in done.stderr, "with 4 it trains"


def test_options_without_effect_are_named(tiny_yaml, caplog):
    none = "fairseq.dataset.disable_validation=true"
    with caplog.at_level(logging.INFO):
        prepare(
            str(tiny_yaml),
            [none, "fairseq.checkpoint.patience=1", "fairseq.checkpoint.keep_best_checkpoints=2"],
        )
        plateau = [f"{O}.lr_scheduler=reduce_lr_on_plateau", f"{O}.total_num_update=null"]
        prepare(str(tiny_yaml), [none, *plateau, "fairseq.common.amp=true"])
    assert (
        "no effect without validation (disable_validation): patience, keep_best_checkpoints\n" in caplog.text
    )
    assert "(disable_validation): lr_scheduler: reduce_lr_on_plateau\n" in caplog.text
    assert torch.cuda.is_available() or "amp needs a GPU: training in fp32" in caplog.text


def test_fine_tuning_refuses_a_frame_mlp_that_would_stay_random(tiny_yaml, tmp_path):
    from mmpt.config import load_config
    from mmpt.tasks import Task

    state = Task(load_config(tiny_yaml)).build_model().state_dict()
    other = {name: tensor for name, tensor in state.items() if "videomlp" not in name}
    torch.save({"model": other}, tmp_path / "other.pt")
    start = [str(tiny_yaml), f"fairseq.checkpoint.finetune_from_model={tmp_path}/other.pt"]
    start += ["model.init_ignore=['video_encoder.videomlp.*']", f"{O}.max_update=1"]
    done = train_runs([[*start, "model.train_last_layers=1"], start])
    assert done.returncode == 2 and "it would stay random" in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "run" / "checkpoint_last.pt").is_file(), "with all layers it trains"


def test_train_without_an_epoch_is_an_error(tiny_yaml, tmp_path):
    done = train(tiny_yaml, f"{O}.stop_min_lr=1")  # where the learning rate never is
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert f"error: nothing was trained, and no checkpoint is in {tmp_path}/run" in done.stderr
    assert "checkpoints are in" not in done.stderr


@pytest.mark.slow
def test_full_disk_is_one_line_and_leaves_no_checkpoint(tiny_yaml, tmp_path):
    assert train(tiny_yaml, f"{O}.max_epoch=1").returncode == 0
    known = sorted((tmp_path / "run").iterdir())
    size = (tmp_path / "run" / "checkpoint_last.pt").stat().st_size // 2
    full = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
    no_pyc = {"PYTHONDONTWRITEBYTECODE": "1"}  # Python 3.11 would keep half a .pyc file
    done = run_module("-m", "mmpt.cli.train", str(tiny_yaml), f"{O}.max_epoch=2", preexec_fn=full, env=no_pyc)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "error: the disk is full, or a quota is reached" in done.stderr
    assert sorted((tmp_path / "run").iterdir()) == known


def test_lock_refuses_two_runs_in_one_folder(tiny_yaml, tmp_path, capsys):
    from mmpt.cli.train import main
    from mmpt.utils.lock import folder_lock

    with folder_lock(tmp_path / "run", "a test"):
        assert main([str(tiny_yaml), "--in-process"]) == 2
    assert "is in use by another training run" in capsys.readouterr().err


def test_training_without_fairseq_says_what_to_install(tiny_yaml, monkeypatch, capsys):
    import importlib.util

    from mmpt.cli import train as command

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert command.main([str(tiny_yaml), "--in-process"]) == 2
    how = "install_fairseq.py" if sys.version_info >= (3, 13) else 'pip install "mmpt[train]"'
    assert how in capsys.readouterr().err


def test_two_processes_gather_and_resume(tiny_yaml, tmp_path):
    """Two gloo processes, forked as torchrun would start them, and a resume of both."""
    options = ["--in-process", "loss.gather=true", "fairseq.dataset.batch_size=2"]
    for epoch in (1, 2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        both = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        until = f"fairseq.optimization.max_epoch={epoch}"
        runs = [start("train", tiny_yaml, *options, until, **both, RANK=r, LOCAL_RANK=r) for r in "01"]
        ended = [process.end() for process in runs]
        assert [process.returncode for process in ended] == [0, 0], ended
        log = [line for process in ended for line in process.stderr.splitlines()]
        epochs = [line for line in log if "mmpt.epoch: epoch " in line]
        assert len(epochs) == 1 and f" epoch {epoch} " in epochs[0], "one line an epoch, from one process"
        assert "valid V2T R@1" in epochs[0]
    assert (tmp_path / "run" / "checkpoint_best.pt").is_file()


@pytest.mark.slow
def test_train_non_finite_batches_end_the_run(tiny_yaml):
    blown_up = [
        "fairseq.optimization.lr=[1.0e+30]",
        "fairseq.optimization.clip_norm=0",
        "loss.max_nonfinite=2",
    ]
    done = train(tiny_yaml, *blown_up)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.count(": skipped") == 2
    assert "2 such batches were skipped before" in done.stderr and "svk/" in done.stderr


def test_train_on_a_cluster_says_where_the_checkpoints_are(tiny_yaml, tmp_path, monkeypatch, caplog):
    from mmpt.cli.train import main

    monkeypatch.setattr("mmpt.cluster.waiting.run_jobs", lambda *_: [0])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    for there in (False, True):
        assert main([str(tiny_yaml), "--cluster", "local"]) == 0
        assert (f"checkpoints are in {tmp_path / 'run'}" in caplog.text) == there
        (tmp_path / "run" / "checkpoint_last.pt").touch()


def test_all_options_that_a_loss_does_not_have_are_refused_before_data_is_read(tiny_yaml, monkeypatch):
    from mmpt.losses.contrastive import LOSSES
    from mmpt.training.run import prepare

    monkeypatch.setattr(LOSSES, "get", lambda *_: torch.nn.Identity)
    options = ["loss.loss_cls=Own", "loss.temperature=0.1", "loss.learnable_temperature=true"]
    said = (
        r"loss.temperature is 0.1, loss.learnable_temperature is True, which Own does not support: leave the "
    )
    with pytest.raises(
        UserError, match=said + r"default: loss.temperature=1.0, loss.learnable_temp.*=False\."
    ):
        prepare(str(tiny_yaml), options)


@pytest.mark.parametrize("command", [["config", "print-fairseq"], ["train", "--in-process"]])
def test_commands_that_import_fairseq_leave_warnings_and_logs_as_before(tiny_yaml, command):
    """Else every later warning of the process, such as a notebook's, is hidden."""
    main(["config", "print-fairseq", str(tiny_yaml)])  # fairseq is imported now
    names = ["", "fairseq", "fairseq_cli", "fairseq.checkpoint_utils", "torch", "train", "valid"]
    loggers = [logging.getLogger(name) for name in names]

    def state():
        return [(logger.level, [*logger.handlers]) for logger in loggers], [*warnings.filters]

    before = state()
    assert main([*command, str(tiny_yaml), f"{O}.max_epoch=1"]) == 0
    assert state() == before

"""Training as users start it: it learns, resumes, and says what is wrong."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mmpt.config import load_config, save_config
from mmpt.fairseq_plugin.args import LAST
from mmpt.fairseq_plugin.going_on import check_gone_on
from mmpt.utils.checkpoint import load_state_dict_file, load_torch_file
from mmpt.utils.errors import UserError
from tests.conftest import ENVIRONMENT, ROOT, run_module, write_tiny

O = "fairseq.optimization"


def train(path: Path, *overrides: str, **options):
    return run_module("-m", "mmpt.cli.train", str(path), *overrides, **options)


def same_weights(one: Path, other: Path) -> bool:
    first, second = load_state_dict_file(one), load_state_dict_file(other)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_train_evaluate_and_ask(tiny_yaml, tmp_path):
    """The whole path, by the commands of the README."""
    done = run_module(
        "locallaunch.py",
        str(tiny_yaml),
        "eval.after_training=true",
        "fairseq.optimization.max_epoch=2",
        "fairseq.checkpoint.save_interval=5",  # which would never come
        "fairseq.dataset.validate_interval=5",
    )
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
    ):
        assert (tmp_path / "run" / "eval" / name).is_file()
        assert name in done.stdout

    asked = run_module("demo_finger.py", "--config", str(tiny_yaml), "--letter", "B", "--text", "a house")
    assert asked.returncode == 0, asked.stderr
    assert (
        "random text" in asked.stdout
        and "a house" in asked.stdout
        and "Fingerspell the letter B." in asked.stdout
    )


def test_typed_by_hand(tiny_yaml, tmp_path):
    """fairseq-train with the arguments that --print-fairseq shows gives the same model."""
    shown = train(tiny_yaml, "--print-fairseq", "fairseq.optimization.max_epoch=1")
    assert shown.returncode == 0, shown.stderr
    program, *arguments = shlex.split(shown.stdout)
    assert program == "fairseq-train"
    launcher = "import sys; from fairseq_cli.train import cli_main; sys.argv[0] = 'fairseq-train'; cli_main()"
    by_hand = run_module("-c", launcher, *[a.replace("/run", "/hand") for a in arguments])
    assert by_hand.returncode == 0, by_hand.stderr
    assert train(tiny_yaml, "fairseq.optimization.max_epoch=1").returncode == 0
    assert same_weights(tmp_path / "run" / "checkpoint_last.pt", tmp_path / "hand" / "checkpoint_last.pt")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_dir, pose_cache):
    """A training that nothing interrupted: its config, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    path = write_tiny(folder, data_dir, pose_cache)
    done = train(path, *OPTIONS, f"fairseq.checkpoint.save_dir={folder}/whole")
    assert done.returncode == 0, done.stderr
    return path, folder / "whole", done


#: trains, and is asked to stop while it is at a certain update
STOPPED = """
import os, signal, sys
from mmpt.cli.train import main
from mmpt.fairseq_plugin.task import FairseqMMTask
step, number = FairseqMMTask.train_step, int(sys.argv[1])
def train_step(self, sample, model, criterion, optimizer, update_num, *more, **options):
    if update_num == number:
        os.kill(os.getpid(), signal.SIGTERM)
    return step(self, sample, model, criterion, optimizer, update_num, *more, **options)
FairseqMMTask.train_step = train_step
sys.exit(main(sys.argv[2:]))
"""


def test_asked_to_stop_in_the_last_update_of_an_epoch(tiny_yaml, tmp_path):
    """The epoch is judged as ever: the best checkpoint is that of a run that nothing interrupted."""
    epochs = "fairseq.optimization.max_epoch=2"
    whole = train(tiny_yaml, epochs, f"fairseq.checkpoint.save_dir={tmp_path}/whole")
    options = [str(tiny_yaml), epochs, f"fairseq.checkpoint.save_dir={tmp_path}/stopped"]
    stopped = run_module("-c", STOPPED, "9", *options)  # of ten updates, numbered from 0
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr
    judged = [
        next(line.split(" | ")[1:4] for line in run.stderr.splitlines() if " epoch 2 " in line)
        for run in (whole, stopped)
    ]
    assert judged[0] == judged[1]
    for name in ("checkpoint_best.pt", "checkpoint_last.pt"):
        assert same_weights(tmp_path / "whole" / name, tmp_path / "stopped" / name)


RUNS = "import json, sys; from mmpt.cli.train import main; sys.exit(max(map(main, json.loads(sys.argv[1]))))"


@pytest.mark.slow
def test_a_run_that_max_update_ended_stays_ended(tiny_yaml, tmp_path):
    """Also where it was asked to stop in its last update, inside an epoch, which is judged as ever."""
    options = [str(tiny_yaml), f"{O}.max_update=7", f"{O}.max_epoch=0"]
    again = [*options, f"fairseq.checkpoint.save_dir={tmp_path}/again"]
    whole = run_module("-c", RUNS, json.dumps([again, again]))
    assert whole.returncode == 0, whole.stderr
    assert "this run has ended before: at update 7 (max_update)" in whole.stderr
    stopped = [*options, f"fairseq.checkpoint.save_dir={tmp_path}/stopped"]
    assert run_module("-c", STOPPED, "6", *stopped).returncode == 128 + signal.SIGTERM
    assert train(*stopped).returncode == 0
    for name in ("checkpoint_best.pt", "checkpoint_last.pt"):
        for folder in ("again", "stopped"):
            history = load_torch_file(tmp_path / folder / name)["optimizer_history"]
            assert history[-1]["num_updates"] == 7
        assert same_weights(tmp_path / "again" / name, tmp_path / "stopped" / name)


@pytest.mark.slow
def test_patience_counts_what_is_judged_but_not_saved(tiny_yaml, tmp_path):
    """Asked to stop at the end of such an epoch, a run ends where one that nothing interrupted ends: behind
    the third epoch, of which the first is the best. And its best checkpoint is none that was not to be saved.
    """
    options = [
        str(tiny_yaml),
        "fairseq.checkpoint.patience=2",
        "fairseq.checkpoint.save_interval=2",
        f"{O}.lr=[1.0e-20]",
        f"{O}.max_epoch=10",
    ]
    stopped = run_module("-c", STOPPED, "4", *options)  # of five updates, numbered from 0
    assert stopped.returncode == 128 + signal.SIGTERM and " epoch 1 " in stopped.stderr, stopped.stderr
    assert [path.name for path in (tmp_path / "run").glob("*.pt")] == ["checkpoint_last.pt"]
    again = train(*options)
    assert again.returncode == 0, again.stderr
    assert " epoch 3 " in again.stderr and " epoch 4 " not in again.stderr
    lines = [line for line in (stopped.stderr + again.stderr).splitlines() if " epoch " in line]
    assert [line.endswith("| not saved") for line in lines] == [True, False, True]


@pytest.mark.slow
@pytest.mark.parametrize(
    "schedule",
    [
        pytest.param(
            ["lr_scheduler=reduce_lr_on_plateau", "lr_shrink=0.5", "lr_threshold=0.5"], id="plateau"
        ),
        pytest.param(
            ["lr_scheduler=reduce_lr_on_plateau", "lr_threshold=0.5", "lr_patience=1"], id="patient plateau"
        ),
        pytest.param(["lr_scheduler=fixed", "lr=[1.0e-3,2.0e-3,3.0e-3,4.0e-3]"], id="a rate for each epoch"),
    ],
)
def test_the_scheduler_goes_on_where_it_was(tiny_yaml, tmp_path, schedule):
    """Epochs one at a time, and one of them stopped inside, end as all of them at once."""
    options = [str(tiny_yaml), f"{O}.total_num_update=null", *(f"{O}.{option}" for option in schedule)]
    folders = [f"fairseq.checkpoint.save_dir={tmp_path}/{name}" for name in ("whole", "parts")]
    runs = [[*options, folders[0], f"{O}.max_epoch=4"]]
    runs += [[*options, folders[1], f"{O}.max_epoch={epochs}"] for epochs in (1, 2)]
    done = run_module("-c", RUNS, json.dumps(runs))
    assert done.returncode == 0, done.stderr
    stopped = run_module("-c", STOPPED, "12", *options, folders[1], f"{O}.max_epoch=4")
    assert stopped.returncode == 128 + signal.SIGTERM
    assert train(*options, folders[1], f"{O}.max_epoch=4").returncode == 0
    files = [tmp_path / name / "checkpoint_last.pt" for name in ("whole", "parts")]
    rates = [load_torch_file(file)["last_optimizer_state"]["param_groups"][0]["lr"] for file in files]
    assert rates[0] == rates[1] != 1e-3
    assert same_weights(*files)


def test_a_run_that_patience_ended_stays_ended(tiny_yaml, tmp_path):
    options = ["fairseq.checkpoint.patience=1", "fairseq.optimization.lr=[1.0e-20]"]
    first = train(tiny_yaml, *options)
    assert first.returncode == 0 and " epoch 2 " in first.stderr and " epoch 3 " not in first.stderr
    before = (tmp_path / "run" / "checkpoint_last.pt").read_bytes()
    again = train(tiny_yaml, *options)
    assert again.returncode == 0, again.stderr
    assert "epoch" not in again.stderr and "(patience)" in again.stderr
    assert (tmp_path / "run" / "checkpoint_last.pt").read_bytes() == before
    patient = train(tiny_yaml, "fairseq.checkpoint.patience=2", options[1])
    assert patient.returncode == 0 and " epoch 3 " in patient.stderr


def test_patience_of_one_run_is_not_that_of_the_next(tiny_yaml, tmp_path):
    """Two runs in one process: the second is another one, and begins with all its patience."""
    options = [str(tiny_yaml), "fairseq.checkpoint.patience=1", "fairseq.optimization.lr=[1.0e-20]"]
    runs = [[*options, f"fairseq.checkpoint.save_dir={tmp_path}/{name}"] for name in ("one", "two")]
    done = run_module("-c", RUNS, json.dumps(runs))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(" epoch 1 ") == done.stderr.count(" epoch 2 ") == 2


def test_the_best_of_one_run_is_not_that_of_the_next(tiny_yaml, tmp_path):
    """Two runs in one process: the second keeps its best checkpoint, however good the first one's was."""
    options = [str(tiny_yaml), f"{O}.max_epoch=1", "fairseq.checkpoint.best_checkpoint_metric=loss"]
    runs = [
        [*options, f"fairseq.checkpoint.save_dir={tmp_path}/{name}", f"loss.temperature={temperature}"]
        for name, temperature in (("one", 1.0), ("two", 0.1))  # a sharper loss of a model that is not trained
    ]
    done = run_module("-c", RUNS, json.dumps(runs))
    assert done.returncode == 0, done.stderr
    for name in ("one", "two"):
        assert (tmp_path / name / "checkpoint_best.pt").is_file()


# Published YAMLs reset the optimizer and the data loader at every start, so this one does as well: a resumed
# run must not obey that.
OPTIONS = [
    "fairseq.optimization.max_epoch=10",
    "fairseq.checkpoint.save_interval_updates=2",
    "fairseq.checkpoint.keep_interval_updates=1",
    "fairseq.checkpoint.reset_optimizer=true",
    "fairseq.checkpoint.reset_dataloader=true",
    "fairseq.checkpoint.reset_meters=true",
]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_interrupted_and_started_again_equals_uninterrupted(whole, tmp_path, number):
    """Killed or asked to stop inside an epoch: the second start goes on from the last checkpoint and ends
    with the same weights. SIGTERM goes to the launcher, which hands it on.
    """
    path, whole_folder, uninterrupted = whole
    folder = tmp_path / "stopped"
    start = ["locallaunch.py"] if number == signal.SIGTERM else ["-m", "mmpt.cli.train"]
    command = [*start, str(path), *OPTIONS, f"fairseq.checkpoint.save_dir={folder}"]
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True
    )
    deadline = time.monotonic() + 120
    while not list(folder.glob("checkpoint_2_*.pt")):  # within the second epoch
        assert process.poll() is None and time.monotonic() < deadline, (
            "training ended before it could be interrupted"
        )
        time.sleep(0.005)
    process.send_signal(number)
    said = process.communicate()[1]
    if number == signal.SIGTERM:
        assert process.returncode == 128 + signal.SIGTERM
        assert "SIGTERM: saving a checkpoint" in said and "Traceback" not in said
        assert (folder / "checkpoint_last.pt").is_file()
    for checkpoint in folder.glob("[!.]*.pt"):
        load_state_dict_file(checkpoint)  # whole, whatever the moment

    again = run_module(*command)
    assert again.returncode == 0, again.stderr
    first_epoch = next(line for line in again.stderr.splitlines() if "mmpt.epoch: epoch " in line)
    assert " epoch 1 " not in first_epoch, "it began anew"
    assert same_weights(whole_folder / "checkpoint_last.pt", folder / "checkpoint_last.pt")
    assert not list(folder.glob(".*.tmp*")) + list(folder.glob("*.pt.tmp"))
    last = [
        [line.split(" | ")[1:4] for line in out.stderr.splitlines() if " epoch 10 " in line][-1]
        for out in (uninterrupted, again)
    ]
    assert last[0] == last[1]


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 3])
def test_running_mean_of_the_weights(tiny_yaml, tmp_path, every):
    """fairseq's EMA is what is judged, saved, resumed and loaded; also every three updates, of five."""
    ema = ["fairseq.ema.store_ema=true", "fairseq.ema.ema_decay=0.9", "fairseq.optimization.lr=[1.0e-02]"]
    ema.append(f"fairseq.ema.ema_update_freq={every}")
    whole, halves = (f"fairseq.checkpoint.save_dir={tmp_path}/{name}" for name in ("whole", "halves"))
    assert train(tiny_yaml, *ema, whole, "fairseq.optimization.max_epoch=2").returncode == 0
    for epochs in (1, 2):
        done = train(tiny_yaml, *ema, halves, f"fairseq.optimization.max_epoch={epochs}")
        assert done.returncode == 0, done.stderr
    last = tmp_path / "whole" / "checkpoint_last.pt"
    assert same_weights(last, tmp_path / "halves" / "checkpoint_last.pt"), "a resumed mean is another mean"
    content = load_torch_file(last)
    key = "video_encoder.videomlp.linear1.weight"
    mean = load_state_dict_file(last)[key]
    assert torch.equal(mean, content["extra_state"]["ema"][f"mmmodel.{key}"])
    assert not torch.equal(mean, content["model"][f"mmmodel.{key}"])


def test_fine_tuning_starts_from_a_checkpoint(tiny_yaml, tmp_path):
    assert train(tiny_yaml, "fairseq.optimization.max_epoch=1").returncode == 0
    start = tmp_path / "run" / "checkpoint_best.pt"
    tune = [
        f"fairseq.checkpoint.restore_file={start}",
        "fairseq.checkpoint.reset_optimizer=true",
        f"fairseq.checkpoint.save_dir={tmp_path}/tuned",
        "fairseq.optimization.max_epoch=1",
        "fairseq.optimization.lr=[0]",
    ]
    done = train(tiny_yaml, *tune)
    assert done.returncode == 0, done.stderr
    assert "starting from the weights in" in done.stderr
    assert same_weights(start, tmp_path / "tuned" / "checkpoint_last.pt")
    wider = train(
        tiny_yaml,
        *tune,
        "dataset.hand_frame=palm",
        "model.vfeat_dim=69",
        f"fairseq.checkpoint.save_dir={tmp_path}/wider",
    )
    assert (
        wider.returncode == 2
        and "videomlp.linear1.weight" in wider.stderr
        and "Traceback" not in wider.stderr
    )


def test_what_another_run_left_is_gone_on_from_but_for_what_is_reset(tiny_yaml, tmp_path):
    """Without reset_optimizer, restore_file is all of a checkpoint; epochs count anew only if asked to."""
    one_epoch = ["fairseq.optimization.max_epoch=1"]
    assert train(tiny_yaml, *one_epoch).returncode == 0
    restore = f"fairseq.checkpoint.restore_file={tmp_path}/run/checkpoint_last.pt"
    anew = [*one_epoch, restore, f"fairseq.checkpoint.save_dir={tmp_path}/anew"]
    anew.append("fairseq.checkpoint.reset_dataloader=true")
    done = train(tiny_yaml, *anew)
    assert done.returncode == 0 and " epoch 1 " in done.stderr, done.stderr
    updates = [
        load_torch_file(folder / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"]
        for folder in (tmp_path / "run", tmp_path / "anew")
    ]
    assert updates[1] == 2 * updates[0], "the optimizer began anew too"
    assert "--reset-dataloader" not in train(tiny_yaml, *anew, "--print-fairseq").stdout, "a run of its own"

    on = train(tiny_yaml, *one_epoch, restore, f"fairseq.checkpoint.save_dir={tmp_path}/on")
    assert on.returncode == 0 and " epoch 1 " not in on.stderr, on.stderr


def test_the_best_by_a_share_is_the_highest(tiny_yaml):
    shown = train(tiny_yaml, "--print-fairseq", "fairseq.checkpoint.best_checkpoint_metric=v2t_R@1")
    assert "--maximize-best-checkpoint-metric" in shown.stdout
    assert "--maximize" not in train(tiny_yaml, "--print-fairseq").stdout


def test_another_model_does_not_go_on_and_destroys_nothing(tiny_yaml, tmp_path):
    once = ["fairseq.optimization.max_epoch=1", "fairseq.dataset.batch_size_valid=4"]
    assert train(tiny_yaml, *once).returncode == 0
    known = (tmp_path / "run" / "config.yaml").read_bytes()
    done = train(tiny_yaml, "fairseq.optimization.max_epoch=2", "model.num_hidden_video_layers=1")
    assert done.returncode == 2 and "are of another model" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "config.yaml").read_bytes() == known


@pytest.mark.parametrize(
    "began, goes_on",
    [
        (["loss.learnable_temperature=true"], {"loss.learnable_temperature": "False"}),
        ([], {"loss.loss_cls": "MMSigmoidLoss"}),
        ([], {"model.freeze_text": "True"}),
        ([], {f"{O}.lr_scheduler": "fixed", f"{O}.total_num_update": None}),
        ([], {f"{O}.optimizer": "sgd", f"{O}.adam_betas": None}),
        ([], {"fairseq.ema.store_ema": "True"}),
    ],
)
def test_what_a_checkpoint_does_not_fit_is_named(tiny_yaml, tmp_path, capsys, began, goes_on):
    """Whether it is the run's own or another run's; and what its checkpoints were made with is left."""
    from mmpt.cli.train import main

    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "checkpoint_last.pt").touch()
    save_config(load_config(tiny_yaml, began), folder / "config.yaml")
    known = (folder / "config.yaml").read_bytes()
    key, value = next(iter(goes_on.items()))
    overrides = [f"{name}={'null' if to is None else to}" for name, to in goes_on.items()]
    new = [
        f"fairseq.checkpoint.restore_file={folder}/checkpoint_last.pt",
        f"fairseq.checkpoint.save_dir={tmp_path}/new",
    ]
    for more, advice in (([], "name another fairseq.checkpoint.save_dir"), (new, "finetune_from_model=")):
        assert main([str(tiny_yaml), *overrides, *more]) == 2
        (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert f"{key} is {value}, but the run in {folder} began with {key} " in error and advice in error
    assert (folder / "config.yaml").read_bytes() == known and not (tmp_path / "new").exists()


def test_what_may_change_when_a_run_goes_on(tiny_yaml, tmp_path):
    (tmp_path / "run").mkdir()
    torch.save(dict.fromkeys(("model", "optimizer_history", "extra_state")), tmp_path / "run" / LAST)
    save_config(load_config(tiny_yaml), tmp_path / "run" / "config.yaml")
    for override in (
        f"{O}.lr=[1.0]",
        f"{O}.max_epoch=9",
        "model.autocast=bf16",
        "loss.cached_chunk=2",
    ):
        check_gone_on(load_config(tiny_yaml, [override]))
    with pytest.raises(UserError, match=r"model\.pooling is max"):
        check_gone_on(load_config(tiny_yaml, ["model.pooling=max"]))
    for override in ("model.dropout=0.2", "loss.gather=true", "dataset.augment2d=false"):
        with pytest.raises(UserError, match="this would be another experiment"):
            check_gone_on(load_config(tiny_yaml, [override]))


@pytest.mark.slow
def test_a_checkpoint_that_does_not_fit_when_it_is_loaded(tiny_yaml, tmp_path):
    """Nothing beside it says what it was made with: one line, and no settings are written that were not gone
    on with."""
    assert train(tiny_yaml, f"{O}.max_epoch=1", "model.num_hidden_video_layers=1").returncode == 0
    (tmp_path / "run" / "config.yaml").unlink()
    alone = tmp_path / "alone.pt"
    shutil.copy(tmp_path / "run" / "checkpoint_last.pt", alone)
    restore = [f"fairseq.checkpoint.restore_file={alone}", f"fairseq.checkpoint.save_dir={tmp_path}/new"]
    sgd = ["model.num_hidden_video_layers=1", f"{O}.optimizer=sgd", f"{O}.adam_betas=null"]
    told = {
        "run/checkpoint_last.pt was made with another model": [],
        "alone.pt was made with another model": restore,
        "Optimizer does not match": [*restore, *sgd],
    }
    for words, overrides in told.items():
        done = train(tiny_yaml, f"{O}.max_epoch=2", *overrides)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
        assert words in done.stderr
    assert not list(tmp_path.glob("*/config.yaml"))


@pytest.mark.parametrize(
    "content, words", [(b"garbage", "cannot be read as a checkpoint"), (None, "finetune_from_model=")]
)
def test_what_holds_no_training_is_not_gone_on_from(tiny_yaml, tmp_path, capsys, content, words):
    from mmpt.cli.train import main

    file = tmp_path / "file.pt"
    file.write_bytes(content) if content else torch.save({"model": {"a": torch.zeros(1)}}, file)
    assert main([str(tiny_yaml), f"fairseq.checkpoint.restore_file={file}"]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert str(file) in error and words in error
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_stretched_position_table_trains_on_and_resumes(tiny_yaml, tmp_path):
    """The ancestor stretches the table when a clip is too long for it, and its checkpoints keep it."""
    assert train(tiny_yaml, "fairseq.optimization.max_epoch=1").returncode == 0
    key = "video_encoder.bert.embeddings.position_embeddings.weight"
    content = load_torch_file(tmp_path / "run" / "checkpoint_last.pt")
    table = content["model"][f"mmmodel.{key}"]
    stretched = torch.randn(2 * len(table), table.shape[1])
    content["model"][f"mmmodel.{key}"] = stretched
    torch.save(content, tmp_path / "stretched.pt")
    tune = [
        f"fairseq.checkpoint.finetune_from_model={tmp_path}/stretched.pt",
        f"fairseq.checkpoint.save_dir={tmp_path}/tuned",
    ]
    last = tmp_path / "tuned" / "checkpoint_last.pt"
    done = train(tiny_yaml, *tune, "fairseq.optimization.max_epoch=1", "fairseq.optimization.lr=[0]")
    assert done.returncode == 0, done.stderr
    assert torch.equal(load_state_dict_file(last)[key], stretched)
    again = train(tiny_yaml, *tune, "fairseq.optimization.max_epoch=2", "fairseq.optimization.lr=[1.0e-02]")
    assert again.returncode == 0, again.stderr
    assert " epoch 2 " in again.stderr and " epoch 1 " not in again.stderr
    after = load_state_dict_file(last)[key]
    assert after.shape == stretched.shape and not torch.equal(after, stretched)


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
        (["fairseq.checkpoint.best_checkpoint_metric=loos"], "one of loss, v2t_R@1, t2v_P@1"),
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
            "that with the most",
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
        (["eval.after_training=true", "eval.device=gpu"], "device 'gpu'"),
        (["dataset.letters=[A]", "dataset.prompt='The letter.'"], "no {letter} in it"),
    ],
)
def test_mistakes_end_with_one_line_and_status_2(tiny_yaml, tmp_path, overrides, words, capsys):
    from mmpt.cli.train import main

    assert main([str(tiny_yaml), *overrides]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert sum(line.startswith("error:") for line in message.splitlines()) == 1
    assert not (tmp_path / "run").exists(), "nothing may be written before the config is known to be good"


def test_two_runs_in_one_folder_are_refused(tiny_yaml, tmp_path, capsys):
    from mmpt.cli.train import main
    from mmpt.utils.lock import folder_lock

    with folder_lock(tmp_path / "run", "a test"):
        assert main([str(tiny_yaml)]) == 2
    assert "is in use by another training run" in capsys.readouterr().err


def test_training_without_fairseq_says_what_to_install(tiny_yaml, monkeypatch, capsys):
    import importlib.util

    from mmpt.cli import train as command

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert command.main([str(tiny_yaml)]) == 2
    assert "pip install --no-deps ve-fairseq" in capsys.readouterr().err


def test_two_processes_contrast_over_the_global_batch(tiny_yaml, tmp_path):
    """Two gloo processes through the real launcher, and a resume of both."""
    options = ["--jobtype", "local_small", "loss.gather=true", "fairseq.dataset.batch_size=2"]
    first = run_module("locallaunch.py", str(tiny_yaml), *options, "fairseq.optimization.max_epoch=1")
    assert first.returncode == 0, first.stderr
    assert " epoch 1 " in first.stderr and "valid V2T R@1" in first.stderr
    second = run_module("locallaunch.py", str(tiny_yaml), *options, "fairseq.optimization.max_epoch=2")
    assert second.returncode == 0, second.stderr
    epochs = [line for line in second.stderr.splitlines() if "mmpt.epoch: epoch " in line]
    assert len(epochs) == 1 and " epoch 2 " in epochs[0], "one line an epoch, from one process"
    assert (tmp_path / "run" / "checkpoint_best.pt").is_file()


@pytest.mark.slow
def test_batches_that_are_not_finite_end_the_run_with_the_names_of_their_clips(tiny_yaml):
    blown_up = [
        "fairseq.optimization.lr=[1.0e+30]",
        "fairseq.optimization.clip_norm=0",
        "loss.max_nonfinite=2",
    ]
    done = train(tiny_yaml, *blown_up)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.count(": left out") == 2
    assert "2 such batches were left out before" in done.stderr and "svk/" in done.stderr


@pytest.mark.parametrize(
    "change, words",
    [
        ("fairseq.common.seed=9", "fairseq.common.seed is 9"),
        ("loss.label_smoothing=0.3", "loss.label_smoothing is 0.3"),
        ("dataset.augment2d=false", "dataset.augment2d is False"),
        ("dataset.augment3d.rotation=0.3", "dataset.augment3d.rotation is 0.3"),
        ("dataset.letters=[A,B,C,D,E]", "dataset.letters is"),
    ],
)
def test_another_experiment_does_not_take_the_place_of_a_finished_one(finished, capsys, change, words):
    """Its results would be those of the run before, under the new settings."""
    from mmpt.cli.train import main

    before = {path.name: path.read_bytes() for path in finished[1].glob("*.*") if path.is_file()}
    assert main([str(finished[0]), f"fairseq.checkpoint.save_dir={finished[1]}", change]) == 2
    message = capsys.readouterr().err
    assert words in message and "this would be another experiment" in message
    assert {path.name: path.read_bytes() for path in finished[1].glob("*.*") if path.is_file()} == before


def test_the_same_experiment_goes_on_faster_longer_or_elsewhere(finished, tmp_path):
    import shutil

    shutil.copytree(finished[1], tmp_path / "moved")
    same = ["loss.cached_chunk=2", "dataset.store_dtype=float16", f"dataset.cache_dir={tmp_path}"]
    folder = f"fairseq.checkpoint.save_dir={tmp_path / 'moved'}"
    done = train(finished[0], folder, *same, f"{O}.max_epoch=2", f"{O}.lr=[0.002]")
    assert done.returncode == 0, done.stderr
    assert "checkpoint_last.pt, behind update 5" in done.stderr and " epoch 2 " in done.stderr
    assert f"going on with another {O}.lr than the run began with: [0.002]" in done.stderr
    again = train(finished[0], folder, *same, f"{O}.max_epoch=2", f"{O}.lr=[0.002]")
    assert again.returncode == 0 and "all 2 epochs are trained, nothing is left to do" in again.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data_dir, pose_cache):
    """A YAML, and the folder of the run of one epoch that it made."""
    folder = tmp_path_factory.mktemp("finished")
    path = write_tiny(folder, data_dir, pose_cache)
    done = train(path, f"fairseq.checkpoint.save_dir={folder / 'run'}", f"{O}.max_epoch=1")
    assert done.returncode == 0, done.stderr
    return path, folder / "run"

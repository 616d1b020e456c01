"""Resume: as if nothing had interrupted the run, or refused as another experiment."""

import shutil
import signal

import pytest
import torch

from mmpt.config import load_config, save_config
from mmpt.training.run import preflight, prepare
from mmpt.utils.checkpoint import load_state_dict_file, load_torch_file
from mmpt.utils.errors import UserError
from tests.cli.test_train import same_weights
from tests.commands import O, run, start, train, train_runs
from tests.conftest import run_module, write_tiny
from tests.processors.table_data import table_rows, write_table
from tests.waiting import wait_until

B = "fairseq.dataset.batch_size"


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_dir, pose_cache):
    """An uninterrupted run: its config, its folder and what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    path = write_tiny(folder, data_dir, pose_cache)
    done = train(path, *OPTIONS, f"fairseq.checkpoint.save_dir={folder}/whole")
    assert done.returncode == 0, done.stderr
    return path, folder / "whole", done


def test_stop_in_the_last_update_of_an_epoch_validates_it(finished, tmp_path):
    """The best checkpoint is that of a run that was not interrupted."""
    path, folder, whole = finished
    options = [f"{O}.max_epoch=1", f"fairseq.checkpoint.save_dir={tmp_path}"]
    stopped = train(path, *options, stop_at=4)  # of five updates, numbered from 0
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr
    judged = [
        next(line.split(" | ")[1:4] for line in run.stderr.splitlines() if " epoch 1 " in line)
        for run in (whole, stopped)
    ]
    assert judged[0] == judged[1]
    for name in ("checkpoint_best.pt", "checkpoint_last.pt"):
        assert same_weights(folder / name, tmp_path / name)


@pytest.mark.slow
def test_resume_after_max_update_trains_nothing(tiny_yaml, tmp_path):
    """Also if it was stopped in its last update, inside an epoch."""
    options = [str(tiny_yaml), f"{O}.max_update=7", f"{O}.max_epoch=0"]
    again = [*options, f"fairseq.checkpoint.save_dir={tmp_path}/again"]
    whole = train_runs([again, again])
    assert whole.returncode == 0, whole.stderr
    assert "this run had already ended: at update 7 (max_update)" in whole.stderr
    stopped = [*options, f"fairseq.checkpoint.save_dir={tmp_path}/stopped"]
    assert train(*stopped, stop_at=6).returncode == 128 + signal.SIGTERM
    assert train(*stopped).returncode == 0
    for name in ("checkpoint_best.pt", "checkpoint_last.pt"):
        for folder in ("again", "stopped"):
            history = load_torch_file(tmp_path / folder / name)["optimizer_history"]
            assert history[-1]["num_updates"] == 7
        assert same_weights(tmp_path / "again" / name, tmp_path / "stopped" / name)


@pytest.mark.slow
def test_resume_after_stop_time_hours_trains_nothing(tiny_yaml):
    runs = [[str(tiny_yaml), f"{O}.max_epoch=1"], [str(tiny_yaml), f"{O}.stop_time_hours=1.0e-7"]]
    done = train_runs(runs)
    assert done.returncode == 0, done.stderr
    assert "hours (stop_time_hours)" in done.stderr and " epoch 2 " not in done.stderr


@pytest.mark.slow
def test_resume_patience_counts_validations_that_are_not_saved(tiny_yaml, tmp_path):
    """Stopped at the end of such an epoch, a resumed run ends after the same epoch as an uninterrupted one.

    That is the third; the first is the best. An epoch that is not to be saved is no best checkpoint.
    """
    options = [
        str(tiny_yaml),
        "fairseq.checkpoint.patience=2",
        "fairseq.checkpoint.save_interval=2",
        f"{O}.lr=[1.0e-20]",
        f"{O}.max_epoch=10",
    ]
    stopped = train(*options, stop_at=4)  # of five updates, numbered from 0
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
        pytest.param(
            ["lr_scheduler=polynomial_decay", "total_num_update=40", "force_anneal=2"], id="annealed"
        ),
    ],
)
def test_resume_lr_scheduler(tiny_yaml, tmp_path, schedule):
    """Epochs one at a time, one of them interrupted, end as all of them at once."""
    options = [str(tiny_yaml), f"{O}.total_num_update=null", *(f"{O}.{option}" for option in schedule)]
    folders = [f"fairseq.checkpoint.save_dir={tmp_path}/{name}" for name in ("whole", "parts")]
    runs = [[*options, folders[0], f"{O}.max_epoch=4"]]
    runs += [[*options, folders[1], f"{O}.max_epoch={epochs}"] for epochs in (1, 2)]
    done = train_runs(runs)
    assert done.returncode == 0, done.stderr
    stopped = train(*options, folders[1], f"{O}.max_epoch=4", stop_at=12)
    assert stopped.returncode == 128 + signal.SIGTERM
    assert train(*options, folders[1], f"{O}.max_epoch=4").returncode == 0
    files = [tmp_path / name / "checkpoint_last.pt" for name in ("whole", "parts")]
    rates = [load_torch_file(file)["last_optimizer_state"]["param_groups"][0]["lr"] for file in files]
    assert rates[0] == rates[1] != 1e-3
    assert same_weights(*files)


def test_resume_after_patience_trains_nothing(tiny_yaml, tmp_path):
    """Patience starts afresh in the next run of a process, and a higher one goes on."""
    options = [str(tiny_yaml), f"{O}.lr=[1.0e-20]", "fairseq.checkpoint.patience=1"]
    runs = [[*options, f"fairseq.checkpoint.save_dir={tmp_path}/{name}"] for name in ("one", "two")]
    first = train_runs(runs)
    assert first.returncode == 0 and " epoch 3 " not in first.stderr, first.stderr
    assert first.stderr.count(" epoch 1 ") == first.stderr.count(" epoch 2 ") == 2
    before = (tmp_path / "one" / "checkpoint_last.pt").read_bytes()
    again = train_runs([runs[0], [*runs[1], "fairseq.checkpoint.patience=2"]])
    assert again.returncode == 0, again.stderr
    nothing, patient = again.stderr.split("(patience)")
    assert " epoch " not in nothing and " epoch 3 " in patient
    assert (tmp_path / "one" / "checkpoint_last.pt").read_bytes() == before


def test_best_checkpoint_starts_afresh_in_the_next_run_of_a_process(tiny_yaml, tmp_path):
    """The second run saves its best checkpoint although the first one had a better loss."""
    options = [str(tiny_yaml), f"{O}.max_epoch=1", "fairseq.checkpoint.best_checkpoint_metric=loss"]
    runs = [
        [*options, f"fairseq.checkpoint.save_dir={tmp_path}/{name}", f"loss.temperature={temperature}"]
        for name, temperature in (("one", 1.0), ("two", 0.1))  # a sharper loss of a model that is not trained
    ]
    done = train_runs(runs)
    assert done.returncode == 0, done.stderr
    for name in ("one", "two"):
        assert (tmp_path / name / "checkpoint_best.pt").is_file()


# Published YAMLs reset the optimizer and the data loader at every start: a resumed run must not obey that.
OPTIONS = [
    "fairseq.optimization.max_epoch=4",
    "fairseq.checkpoint.save_interval_updates=2",
    "fairseq.checkpoint.keep_interval_updates=1",
    "fairseq.checkpoint.reset_optimizer=true",
    "fairseq.checkpoint.reset_dataloader=true",
    "fairseq.checkpoint.reset_meters=true",
]


@pytest.mark.parametrize(
    ("signals", "words"),
    [
        ([signal.SIGTERM, signal.SIGKILL], ["--in-process"]),
        pytest.param([signal.SIGTERM], [], marks=pytest.mark.slow, id="launcher"),
    ],
)
def test_resume_after_kill_equals_uninterrupted(whole, tmp_path, signals, words):
    """Asked to stop inside an epoch, and killed inside the next: each start resumes from the last checkpoint,
    and the last one ends with the same weights. The launcher hands SIGTERM on.
    """
    path, whole_folder, uninterrupted = whole
    folder = tmp_path / "stopped"
    command = ["train", path, *OPTIONS, f"fairseq.checkpoint.save_dir={folder}", *words]
    for epoch, number in enumerate(signals, start=2):
        said = _interrupt(command, folder, epoch, number)
        assert (" epoch 1 " in said) == (epoch == 2), "it did not resume"
        if number == signal.SIGTERM:
            assert "SIGTERM: saving a checkpoint" in said and "Traceback" not in said
            assert (folder / "checkpoint_last.pt").is_file()
        for checkpoint in folder.glob("[!.]*.pt"):
            load_state_dict_file(checkpoint)  # whole, whatever the moment

    again = run(*command)
    assert again.returncode == 0, again.stderr
    first_epoch = next(line for line in again.stderr.splitlines() if "mmpt.epoch: epoch " in line)
    assert f" epoch {epoch} " in first_epoch, "it did not resume"
    assert same_weights(whole_folder / "checkpoint_last.pt", folder / "checkpoint_last.pt")
    assert not list(folder.glob(".*.tmp*")) + list(folder.glob("*.pt.tmp"))
    last = [
        [line.split(" | ")[1:4] for line in out.stderr.splitlines() if " epoch 4 " in line][-1]
        for out in (uninterrupted, again)
    ]
    assert last[0] == last[1]


def _interrupt(command, folder, epoch, number):
    """Start the command and send it a signal within an epoch; what it said."""
    saved, first = f"checkpoint_{epoch}_*.pt", epoch == 2
    started = start(*command, hold=("mmpt.fairseq_plugin.task:FairseqMMTask.train_step", 9 if first else 7))
    wait_until(lambda: [*folder.glob(saved)] or not started.process.is_alive(), f"{saved} is written")
    started.send(number)
    ended = started.end()
    assert ended.returncode == (-number if number == signal.SIGKILL else 128 + number), ended.stderr
    return ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 3])
def test_resume_ema_weights(tiny_yaml, tmp_path, every):
    """EMA weights are validated, saved, resumed and loaded; also if updated every third of five updates."""
    ema = ["fairseq.ema.store_ema=true", "fairseq.ema.ema_decay=0.9", "fairseq.optimization.lr=[1.0e-02]"]
    ema.append(f"fairseq.ema.ema_update_freq={every}")
    whole, halves = (f"fairseq.checkpoint.save_dir={tmp_path}/{name}" for name in ("whole", "halves"))
    assert train(tiny_yaml, *ema, whole, "fairseq.optimization.max_epoch=2").returncode == 0
    for epochs in (1, 2):
        done = train(tiny_yaml, *ema, halves, f"fairseq.optimization.max_epoch={epochs}")
        assert done.returncode == 0, done.stderr
    last = tmp_path / "whole" / "checkpoint_last.pt"
    assert same_weights(last, tmp_path / "halves" / "checkpoint_last.pt"), "the resumed EMA differs"
    content = load_torch_file(last)
    key = "video_encoder.videomlp.linear1.weight"
    mean = load_state_dict_file(last)[key]
    assert torch.equal(mean, content["extra_state"]["ema"][f"mmmodel.{key}"])
    assert not torch.equal(mean, content["model"][f"mmmodel.{key}"])


def test_resume_from_another_run_obeys_resets(finished, tmp_path):
    """Without reset_optimizer, restore_file restores all of a checkpoint but what `reset_*` names."""
    path, folder, _ = finished
    restore = f"fairseq.checkpoint.restore_file={folder}/checkpoint_last.pt"
    reset = [str(path), f"{O}.max_epoch=1", restore, f"fairseq.checkpoint.save_dir={tmp_path}/reset"]
    reset.append("fairseq.checkpoint.reset_dataloader=true")
    on = [str(path), f"{O}.max_epoch=2", restore, f"fairseq.checkpoint.save_dir={tmp_path}/on"]
    done = train_runs([reset, on])
    assert done.returncode == 0, done.stderr
    epochs = [line for line in done.stderr.splitlines() if "mmpt.epoch: epoch " in line]
    assert len(epochs) == 2 and " epoch 1 " in epochs[0] and " epoch 2 " in epochs[1]
    updates = [
        load_torch_file(place / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"]
        for place in (folder, tmp_path / "reset", tmp_path / "on")
    ]
    assert updates == [5, 10, 10], "the optimizer was reset too"
    assert "--reset-dataloader" not in prepare(reset[0], reset[1:]).argv, "a run of its own"


@pytest.mark.slow
def test_resume_from_the_best_checkpoint_if_the_last_is_missing(tiny_yaml, tmp_path):
    whole = train(tiny_yaml, f"{O}.max_epoch=2", f"fairseq.checkpoint.save_dir={tmp_path}/whole")
    assert whole.returncode == 0 and train(tiny_yaml, f"{O}.max_epoch=1").returncode == 0
    (tmp_path / "run" / "checkpoint_last.pt").unlink()
    again = [tiny_yaml, f"{O}.max_epoch=2"]
    assert train(*again, "--print-fairseq").returncode == 0
    assert not (tmp_path / "run" / "checkpoint_last.pt").exists(), "showing a command writes nothing"
    done = train(*again)
    assert done.returncode == 0 and "resuming from checkpoint_best.pt" in done.stderr, done.stderr
    assert " epoch 1 " not in done.stderr
    assert same_weights(*(tmp_path / name / "checkpoint_last.pt" for name in ("whole", "run")))


@pytest.mark.parametrize(
    "began, resumed_with",
    [
        (["loss.learnable_temperature=true"], {"loss.learnable_temperature": "False"}),
        ([], {"loss.loss_cls": "MMSigmoidLoss"}),
        ([], {"model.freeze_text": "True"}),
        ([], {f"{O}.lr_scheduler": "fixed", f"{O}.total_num_update": None}),
        ([], {f"{O}.optimizer": "sgd", f"{O}.adam_betas": None}),
        ([], {"fairseq.ema.store_ema": "True"}),
    ],
)
def test_resume_names_settings_that_do_not_fit_the_checkpoint(tiny_yaml, tmp_path, began, resumed_with):
    """Both in its own folder and from another run; the config.yaml there is not overwritten."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "checkpoint_last.pt").touch()
    save_config(load_config(tiny_yaml, began), folder / "config.yaml")
    known = (folder / "config.yaml").read_bytes()
    key, value = next(iter(resumed_with.items()))
    overrides = [f"{name}={'null' if to is None else to}" for name, to in resumed_with.items()]
    new = [
        f"fairseq.checkpoint.restore_file={folder}/checkpoint_last.pt",
        f"fairseq.checkpoint.save_dir={tmp_path}/new",
    ]
    for more, advice in (([], "name another fairseq.checkpoint.save_dir"), (new, "finetune_from_model=")):
        with pytest.raises(UserError) as error:
            preflight(prepare(str(tiny_yaml), [*overrides, *more]))
        said = str(error.value)
        assert f"{key} is {value}, but the run in {folder} began with {key} " in said and advice in said
    assert (folder / "config.yaml").read_bytes() == known and not (tmp_path / "new").exists()


@pytest.mark.slow
def test_resume_from_a_checkpoint_that_fails_to_load(tiny_yaml, tmp_path):
    """Without a config.yaml beside it: one line, and no config.yaml is written."""
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
    "content, words",
    [
        (b"garbage", "cannot be read as a checkpoint"),
        ({"model": {"a": torch.zeros(1)}}, "finetune_from_model="),
        # fairseq would resume with a new optimizer and a new schedule
        (
            {"model": {"a": torch.zeros(1)}, "optimizer_history": [], "extra_state": {}},
            "finetune_from_model=",
        ),
    ],
)
def test_resume_needs_training_state(tiny_yaml, tmp_path, capsys, content, words):
    from mmpt.cli.train import main

    file = tmp_path / "file.pt"
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    assert main([str(tiny_yaml), f"fairseq.checkpoint.restore_file={file}", "--in-process"]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert str(file) in error and words in error
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_fine_tune_and_resume_a_stretched_position_table(tiny_yaml, tmp_path):
    """The ancestor stretches the table for a clip that is too long, and saves it so."""
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
    "change, words",
    [
        ("fairseq.common.seed=9", "fairseq.common.seed is 9"),
        ("loss.label_smoothing=0.3", "loss.label_smoothing is 0.3"),
        ("dataset.augment2d=false", "dataset.augment2d is False"),
        ("dataset.augment3d.rotation=0.3", "dataset.augment3d.rotation is 0.3"),
        ("dataset.letters=[A,B,C,D,E]", "dataset.letters is"),
    ],
)
def test_resume_as_another_experiment_is_refused(finished, change, words):
    with pytest.raises(UserError) as error:
        preflight(prepare(str(finished[0]), [f"fairseq.checkpoint.save_dir={finished[1]}", change]))
    assert words in str(error.value) and "this would be another experiment" in str(error.value)


def test_resume_with_another_model_overwrites_nothing(finished, capsys):
    from mmpt.cli.train import main

    before = {path.name: path.read_bytes() for path in finished[1].glob("*.*") if path.is_file()}
    place = f"fairseq.checkpoint.save_dir={finished[1]}"
    assert main([str(finished[0]), place, "model.num_hidden_video_layers=1", "--in-process"]) == 2
    assert "are of another model" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in finished[1].glob("*.*") if path.is_file()} == before


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, data_dir, pose_cache):
    """A config, and the folder of its run, which was stopped after three of the five batches of epoch 1."""
    folder = tmp_path_factory.mktemp("stopped")
    path = write_tiny(folder, data_dir, pose_cache)
    assert train(path, stop_at=2).returncode == 128 + signal.SIGTERM
    return path, folder / "run"


@pytest.mark.parametrize("size, old", [(6, False), (3, False), (4, True), (6, True)])
def test_resume_with_another_batch_size_begins_the_epoch_again(stopped, tmp_path, size, old):
    """fairseq counts batches: it would skip as many of other clips, or end in a traceback."""
    shutil.copytree(stopped[1], tmp_path / "run")
    last = tmp_path / "run" / "checkpoint_last.pt"
    if old:
        content = load_torch_file(last)
        del content["extra_state"]["batches"]
        torch.save(content, tmp_path / "old.pt")  # the file itself is mapped
        (tmp_path / "old.pt").replace(last)
    done = train(stopped[0], f"fairseq.checkpoint.save_dir={last.parent}", f"{O}.max_epoch=1", f"{B}={size}")
    assert done.returncode == 0, done.stderr
    again = size != 4
    assert ("epoch 1 begins again: after the 3 batches that were trained" in done.stderr) == again
    batches = -(-18 // size) if again else 2
    assert load_torch_file(last)["optimizer_history"][-1]["num_updates"] == 3 + batches


@pytest.mark.slow
def test_resume_with_another_number_of_processes_begins_the_epoch_again(stopped, tmp_path):
    shutil.copytree(stopped[1], tmp_path / "run")
    options = [f"fairseq.checkpoint.save_dir={tmp_path}/run", f"{O}.max_epoch=1", f"{B}=4"]
    done = run_module("locallaunch.py", str(stopped[0]), "--jobtype", "local_small", *options)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch 1 begins again") == 1
    last = load_torch_file(tmp_path / "run" / "checkpoint_last.pt")
    assert last["optimizer_history"][-1]["num_updates"] == 3 + 3


def test_resets_without_a_checkpoint_are_refused(stopped, tmp_path, capsys):
    from mmpt.cli.train import main

    for folder in (stopped[1], tmp_path / "new"):
        place = f"fairseq.checkpoint.save_dir={folder}"
        assert main(["--in-process", str(stopped[0]), place, "fairseq.checkpoint.reset_dataloader=true"]) == 2
        assert "reset_dataloader is for a checkpoint that restore_file names" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_resume_with_an_edited_table_is_refused(tiny_yaml, tmp_path):
    rows = table_rows("ABCD")
    table = write_table(tmp_path / "table.csv", rows)
    options = ["dataset.meta_processor=TableMetaProcessor", f"dataset.table_path={table}"]
    plan = prepare(str(tiny_yaml), options)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint_last.pt").touch()
    plan.save_record()
    write_table(table, [{**row, "text": {"A": "B", "B": "A"}.get(row["text"], row["text"])} for row in rows])
    with pytest.raises(UserError, match=r"the clips of train and the clips of valid in .* began with"):
        preflight(prepare(str(tiny_yaml), options))


def test_resume_with_other_speed_length_or_place(finished, tmp_path):
    shutil.copytree(finished[1], tmp_path / "moved")
    same = ["loss.cached_chunk=2", "dataset.store_dtype=float16", f"dataset.cache_dir={tmp_path}"]
    run = [str(finished[0]), f"fairseq.checkpoint.save_dir={tmp_path / 'moved'}", *same, f"{O}.lr=[0.002]"]
    run.append(f"{O}.max_epoch=2")
    done = train_runs([run, run])
    assert done.returncode == 0, done.stderr
    assert "checkpoint_last.pt, after update 5" in done.stderr and done.stderr.count(" epoch 2 ") == 1
    assert f"resuming with another {O}.lr: [0.002], was" in done.stderr
    assert "all 2 epochs are trained, nothing is left to do" in done.stderr


def test_resume_reads_the_plateau_schedule_of_checkpoints_of_version_0_1_0(tiny_yaml, tmp_path):
    """The count of bad epochs was saved as `in_vain`."""
    schedule = [f"{O}.lr_scheduler=reduce_lr_on_plateau", f"{O}.lr_threshold=0.99", f"{O}.lr_patience=2"]
    options = [f"{O}.total_num_update=null", f"{O}.warmup_updates=null", *schedule]
    last = tmp_path / "run" / "checkpoint_last.pt"
    assert train(tiny_yaml, *options, f"{O}.max_epoch=2").returncode == 0
    content = load_torch_file(last)
    scheduler = content["optimizer_history"][-1]["lr_scheduler_state"]
    scheduler["in_vain"] = scheduler.pop("num_bad_epochs") + 5
    torch.save(content, tmp_path / "old.pt")  # not in place: the content is a memory map of the file
    (tmp_path / "old.pt").replace(last)
    done = train(tiny_yaml, *options, f"{O}.max_epoch=3")
    assert done.returncode == 0, done.stderr
    group = load_torch_file(last)["last_optimizer_state"]["param_groups"][0]
    assert group["lr"] == pytest.approx(1e-4), "after more than lr_patience bad epochs the rate is lowered"

"""scripts/results.py: which experiments run, and the table."""

import argparse
import csv
import os
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mmpt.cli.experiment import results
from mmpt.config import ClusterConfig, load_config, save_config
from mmpt.config.package_files import package_root
from mmpt.evaluators.provenance import evaluation_facts
from mmpt.evaluators.reports.results import EmbeddedSplit, make_results
from mmpt.experiments.comparison import (
    Published,
    Row,
    comparison_markdown,
    in_published_order,
    read_published,
)
from mmpt.tasks import Task
from mmpt.utils.errors import UserError
from mmpt.utils.files import read_json, write_json
from mmpt.utils.stand_in import mark_stand_in

ZS, SCRATCH, HAND = (
    f"projects/signclip/test_rwthfs_{x}.yaml" for x in ("zs", "scratch", "scratch_hand_dominant")
)
CONFIGS = [HAND, SCRATCH]


class FakeLauncher:
    """Replaces locallaunch.py: writes the files of training and evaluation."""

    def __init__(self):
        self.calls: list[str] = []
        self.fail: dict[str, int] = {}
        self.while_it_trains = lambda: None

    def __call__(self, path, overrides, force=False):
        self.calls.append(path.stem)
        config = load_config(path, overrides)
        task = Task(config)
        if path.stem.startswith("test_"):
            if not self.fail.get(path.stem):
                self.evaluate(path, overrides, task)
        else:
            folder = task.checkpoint_path().parent
            save_config(config, folder / "config.yaml")
            self.while_it_trains()
            for name in ("checkpoint_best.pt", "checkpoint_last.pt"):  # a failure comes after the first epoch
                (folder / name).write_bytes(b"weights")
        return self.fail.get(path.stem, 0)

    def evaluate(self, path, overrides, task):
        rng = np.random.default_rng(len(path.stem))
        texts, videos = rng.normal(size=(35, 8)), rng.normal(size=(70, 8))
        names = [str(number) for number in range(70)]
        made = make_results(EmbeddedSplit(texts, videos, np.arange(70) % 35, names[:35], names), resamples=20)
        command = shlex.join(["python", "locallaunch.py", str(path), *overrides])
        made |= {"checkpoint": str(task.checkpoint_path()), "config": str(path), "command": command}
        made["evaluated"] = evaluation_facts(task.config)
        write_json(task.results_path() / "results.json", made)

    def take(self):
        taken, self.calls = self.calls, []
        return taken


@pytest.fixture
def launcher(monkeypatch, tmp_path):
    monkeypatch.setenv("SIGNCLIP_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SIGNCLIP_DATA", str(tmp_path / "data"))
    fake = FakeLauncher()
    monkeypatch.setattr(results, "_launch", fake)
    return fake


@pytest.fixture(autouse=True)
def no_picture(request, monkeypatch):
    """Composing it takes a third of the time: only the test of the figure does it."""
    if "rendered" not in request.fixturenames:
        monkeypatch.setattr("mmpt.experiments.comparison.comparison_chart", lambda path, rows, title: path)


def run(tmp_path, *items):
    return results.main([*items, "--out", str(tmp_path / "table")])


def table(tmp_path):
    with open(tmp_path / "table" / "results.csv", newline="") as file:
        return {row["config"]: row for row in csv.DictReader(file)}


def test_results_runs_what_is_missing(launcher, tmp_path, rendered):
    assert run(tmp_path, *CONFIGS) == 0
    assert launcher.take() == [
        *("rwthfs_scratch", "test_rwthfs_scratch"),
        *("rwthfs_scratch_hand_dominant", "test_rwthfs_scratch_hand_dominant"),
    ]
    rows = table(tmp_path)
    assert list(rows) == ["test_rwthfs_scratch", "test_rwthfs_scratch_hand_dominant"]  # the paper's order
    row = rows["test_rwthfs_scratch_hand_dominant"]
    assert float(row["v2t R@1 published"]) == 0.8170 and float(row["t2v MedianR published"]) == 1
    assert 0 <= float(row["v2t R@1"]) < 0.3 and row["n_videos"] == "70"
    text = (tmp_path / "table" / "results.md").read_text()
    assert f"{float(row['v2t R@1']):.4f} (0.8170)" in text
    assert (tmp_path / "table" / "results.png").stat().st_size > 10_000
    assert sorted(path.name for path in (tmp_path / "table").iterdir()) == [
        ".results.files.json",
        "results.csv",
        "results.md",
        "results.png",
    ]


def test_resume_results_finishes_an_interrupted_training(launcher, tmp_path):
    launcher.fail["rwthfs_scratch"] = 137
    assert run(tmp_path, SCRATCH) == 137
    assert launcher.take() == ["rwthfs_scratch"]  # not evaluated: its checkpoint is an early one
    assert "failed with exit status 137" in table(tmp_path)["test_rwthfs_scratch"]["notes"]
    launcher.fail.clear()
    assert run(tmp_path, SCRATCH) == 0
    assert launcher.take() == ["rwthfs_scratch", "test_rwthfs_scratch"]


def test_results_continues_after_a_failure(launcher, tmp_path, capsys):
    launcher.fail["rwthfs_scratch"] = 2
    assert run(tmp_path, *CONFIGS) == 2
    assert launcher.take()[-1] == "test_rwthfs_scratch_hand_dominant"
    assert table(tmp_path)["test_rwthfs_scratch_hand_dominant"]["v2t R@1"]
    assert "1 of 2 failed: test_rwthfs_scratch." in capsys.readouterr().err


def test_results_collect(launcher, tmp_path):
    assert run(tmp_path, SCRATCH) == 0
    launcher.take()
    assert run(tmp_path, "--collect", *CONFIGS, ZS) == 0
    assert launcher.take() == []
    rows = table(tmp_path)
    assert rows["test_rwthfs_scratch"]["v2t R@1"] and rows["test_rwthfs_zs"]["v2t R@1"] == ""
    assert "not run yet" in rows["test_rwthfs_zs"]["notes"]


def test_results_does_not_train_a_copied_checkpoint(launcher, tmp_path):
    best = tmp_path / "runs" / "rwthfs_scratch" / "checkpoint_best.pt"
    best.parent.mkdir(parents=True)
    best.write_bytes(b"published")
    assert run(tmp_path, SCRATCH) == 0
    assert launcher.take() == ["test_rwthfs_scratch"]
    assert best.read_bytes() == b"published"


def test_results_with_a_damaged_run(launcher, tmp_path, capsys):
    assert run(tmp_path, *CONFIGS) == 0
    (tmp_path / "runs" / "rwthfs_scratch" / "config.yaml").write_text("dataset: {no_such_key: 1}\n")
    launcher.take()
    assert run(tmp_path, *CONFIGS) == 2
    rows = table(tmp_path)
    assert "no_such_key" in rows["test_rwthfs_scratch"]["notes"]
    assert rows["test_rwthfs_scratch_hand_dominant"]["notes"] == "right hand"
    assert "Traceback" not in capsys.readouterr().err


def test_results_ctrl_c(launcher, tmp_path):
    launcher.fail["rwthfs_scratch"] = 130
    assert run(tmp_path, *CONFIGS) == 130
    assert launcher.take() == ["rwthfs_scratch"]


def test_results_zero_shot_trains_nothing(launcher, tmp_path):
    assert run(tmp_path, ZS, "dataset.max_video_len=16") == 0
    assert launcher.take() == ["test_rwthfs_zs"]
    assert "max_video_len=16" in table(tmp_path)["test_rwthfs_zs"]["notes"]


def test_results_second_run_evaluates_newer_checkpoints_only(launcher, tmp_path):
    assert run(tmp_path, SCRATCH) == 0
    launcher.take()
    assert run(tmp_path, SCRATCH) == 0
    assert launcher.take() == []
    best = tmp_path / "runs" / "rwthfs_scratch" / "checkpoint_best.pt"
    os.utime(best, (best.stat().st_mtime + 60,) * 2)
    assert run(tmp_path, SCRATCH) == 0
    assert launcher.take() == ["test_rwthfs_scratch"]


def test_results_with_more_epochs_or_other_settings(launcher, tmp_path, capsys):
    assert run(tmp_path, SCRATCH, "fairseq.optimization.max_epoch=1") == 0
    assert "max_epoch=1" in table(tmp_path)["test_rwthfs_scratch"]["notes"]
    launcher.take()
    assert run(tmp_path, SCRATCH) == 0
    assert launcher.take() == ["rwthfs_scratch", "test_rwthfs_scratch"]
    assert "max_epoch" not in table(tmp_path)["test_rwthfs_scratch"]["notes"]
    assert run(tmp_path, SCRATCH, "model.num_hidden_video_layers=2") == 2
    assert launcher.take() == []
    said = capsys.readouterr().err
    assert "model.num_hidden_video_layers" in said and "SIGNCLIP_RUNS" in said


def test_results_ignores_data_paths(launcher, tmp_path, monkeypatch):
    assert run(tmp_path, SCRATCH) == 0
    launcher.take()
    monkeypatch.setenv("SIGNCLIP_DATA", str(tmp_path / "moved"))
    assert run(tmp_path, SCRATCH, "fairseq.dataset.num_workers=2") == 0
    assert launcher.take() == []
    assert run(tmp_path, SCRATCH, "eval.similarity=dot") == 0
    assert launcher.take() == ["test_rwthfs_scratch"]
    assert "num_workers" not in table(tmp_path)["test_rwthfs_scratch"]["notes"]


def test_a_clip_that_was_replaced_since_training_is_named(launcher, tmp_path, capsys):
    """The split files are the same, and so are the names of the clips."""
    folder = tmp_path / "data" / "rwthfs"
    (folder / "s3d").mkdir(parents=True)
    for name, clip in (("train", "1_1_1_cam2"), ("val", "2_1_1_cam2"), ("test", "3_1_1_cam2")):
        (folder / f"{name}.txt").write_text(f"{clip}\n")
        (folder / "s3d" / f"{clip}.npy").write_bytes(b"numbers")
    (folder / "ids.txt").write_text("1 = A\n")
    data = [f"dataset.vfeat_dir={folder}/s3d", f"dataset.gesture_id_path={folder}/ids.txt"]
    assert run(tmp_path, SCRATCH, *data) == 0
    launcher.take()
    (folder / "s3d" / "3_1_1_cam2.npy").write_bytes(b"srebmun")
    assert run(tmp_path, SCRATCH, *data) == 0
    assert launcher.take() == ["test_rwthfs_scratch"]
    (folder / "s3d" / "1_1_1_cam2.npy").write_bytes(b"srebmun")
    assert run(tmp_path, SCRATCH, *data) == 2
    assert launcher.take() == [] and "(clips of train)" in capsys.readouterr().err


def test_a_file_that_is_edited_while_a_model_trains_is_not_what_it_was_trained_on(launcher, tmp_path, capsys):
    train = tmp_path / "data" / "rwthfs" / "train.txt"
    train.parent.mkdir(parents=True)
    train.write_text("1_1_1_cam1\n")
    launcher.while_it_trains = lambda: train.write_text("2_1_1_cam1\n")
    run(tmp_path, SCRATCH)
    assert run(tmp_path, SCRATCH) == 2
    assert "(dataset.train_path)" in capsys.readouterr().err


@pytest.fixture
def own_config(tmp_path):
    """An evaluation config of the user's, beside the one that trains it."""
    for name in ("rwthfs_scratch", "test_rwthfs_scratch"):
        text = f"includes: {package_root()}/projects/signclip/{name}.yaml\n"
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path / "test_rwthfs_scratch.yaml"


def test_results_evaluates_an_edited_config_again(launcher, tmp_path, own_config):
    text = own_config.read_text()
    for more in ("", "dataset: {letters: [A]}", "eval: {similarity: dot}", "dataset: {split: valid}"):
        own_config.write_text(f"{text}{more}\n")
        assert run(tmp_path, str(own_config)) == 0
        assert launcher.take()[-1:] == ["test_rwthfs_scratch"], more
    assert run(tmp_path, str(own_config)) == 0
    assert launcher.take() == []


def test_results_without_recorded_settings_are_evaluated_again(launcher, tmp_path):
    assert run(tmp_path, SCRATCH) == 0
    launcher.take()
    found = next((tmp_path / "runs").rglob("results.json"))
    write_json(found, {key: value for key, value in read_json(found).items() if key != "evaluated"})
    finished = tmp_path / "runs" / "rwthfs_scratch" / "training_finished.json"
    write_json(finished, {key: value for key, value in read_json(finished).items() if key != "files"})
    assert run(tmp_path, SCRATCH) == 0
    assert launcher.take() == ["test_rwthfs_scratch"]


def test_results_compares_data_files_by_content(launcher, tmp_path, monkeypatch, capsys):
    """Wherever they lie."""
    for folder in ("data", "moved"):
        (tmp_path / folder / "rwthfs").mkdir(parents=True)
        for name in ("train.txt", "test.txt"):
            (tmp_path / folder / "rwthfs" / name).write_text("1_1_1_cam1\n")
    assert run(tmp_path, SCRATCH) == 0
    launcher.take()
    monkeypatch.setenv("SIGNCLIP_DATA", str(tmp_path / "moved"))
    assert run(tmp_path, SCRATCH) == 0
    assert launcher.take() == []
    (tmp_path / "moved" / "rwthfs" / "test.txt").write_text("2_1_1_cam1\n")
    assert run(tmp_path, SCRATCH) == 0
    assert launcher.take() == ["test_rwthfs_scratch"]
    (tmp_path / "moved" / "rwthfs" / "train.txt").write_text("2_1_1_cam1\n")
    assert run(tmp_path, SCRATCH) == 2
    assert launcher.take() == [] and "(dataset.train_path)" in capsys.readouterr().err


def test_results_refuses_stand_ins(launcher, tmp_path, capsys):
    mark_stand_in(tmp_path / "data" / "rwthfs", "drawn figures")
    write_json(
        tmp_path / "data" / "rwthfs" / "s3d" / "manifest.json",
        {
            "format": 1,
            "extractor": "s3d",
            "runs": {"a": {"options": {"weights": "random:3"}, "tools": {}}},
            "files": {"x.mpg": {"run": "a"}},
        },
    )
    mark_stand_in(tmp_path / "runs" / "retri" / "videoclip", "untrained towers")
    assert run(tmp_path, ZS, SCRATCH) == 2
    assert launcher.take() == []
    assert "--allow-stand-ins" in capsys.readouterr().err
    assert (
        run(tmp_path, ZS, SCRATCH, "projects/signclip/test_rwthfs_videoclip.yaml", "--allow-stand-ins") == 0
    )
    notes = {name: row["notes"] for name, row in table(tmp_path).items()}
    assert all("drawn figures" in note and "random:3" in note for note in notes.values())
    assert ["untrained" in notes[f"test_rwthfs_{name}"] for name in ("zs", "videoclip", "scratch")] == [
        True,
        True,
        False,
    ]


def test_results_refuses_two_configs_of_one_name(launcher, tmp_path, own_config, capsys):
    """One of them was dropped. One that is given twice is one."""
    assert run(tmp_path, SCRATCH, str(own_config)) == 2
    assert "expected configs with different names" in capsys.readouterr().err and launcher.take() == []
    assert run(tmp_path, SCRATCH, f"./{SCRATCH}") == 0
    assert len(table(tmp_path)) == 1


@pytest.mark.parametrize(
    "items",
    [
        [SCRATCH, "dataset.max_len_typo=3"],
        ["no_such.yaml"],
        ["dataset.max_len=3"],
        [SCRATCH, "--published", "none.csv"],
    ],
)
def test_results_errors_run_nothing(launcher, tmp_path, items, capsys):
    assert run(tmp_path, *items) == 2
    assert "error:" in capsys.readouterr().err and launcher.take() == []
    assert not (tmp_path / "table").exists()


def test_results_refuses_a_training_config(launcher, tmp_path, capsys):
    """Its changes would not be detected, and old results would be listed as current."""
    assert run(tmp_path, SCRATCH, SCRATCH.replace("test_", "")) == 2
    assert f"is a training config: give its evaluation config, such as {SCRATCH}" in (capsys.readouterr().err)
    assert launcher.take() == [] and not (tmp_path / "table").exists()


def test_results_with_an_unwritable_table(launcher, tmp_path, capsys):
    (tmp_path / "table").touch()
    assert run(tmp_path, ZS, SCRATCH) == 2
    assert f"error: {tmp_path / 'table'}" in capsys.readouterr().err and launcher.take() == []


def test_results_calls_locallaunch(monkeypatch, tmp_path):
    """The real call: locallaunch.py, whose exit status is ours."""
    monkeypatch.setenv("SIGNCLIP_RUNS", str(tmp_path))
    assert results._launch("no_such.yaml", []) == 2


# ---- the table alone
def test_published_numbers(tmp_path):
    published = read_published(package_root() / "configs" / "published_rwthfs.csv")
    best = published["test_rwthfs_scratch_hand_dominant_aug"]
    assert list(best.values.values()) == [0.9143, 0.7429, 0.4257, 1, 0.9346, 1, 1, 1]
    assert in_published_order(["x", "test_rwthfs_scratch", "test_rwthfs_zs", "x"], published) == [
        *("test_rwthfs_zs", "test_rwthfs_scratch", "x"),
    ]
    (tmp_path / "bad.csv").write_text("config,note\nx,y\n")
    with pytest.raises(UserError, match="t2v P@1"):
        read_published(tmp_path / "bad.csv")


def test_results_row_without_published_numbers():
    text = comparison_markdown(
        [Row("mine", None, None, ["a | b"]), Row("x", None, Published({"v2t R@1": 0.5}, "note"), [])]
    )
    assert "a \\| b" in text and "- (0.5000)" in text and "note; not run yet" in text


def test_results_as_jobs_of_a_cluster_have_a_job_for_each_experiment(monkeypatch):
    """What is complete has none; only a training whose job succeeds is recorded."""
    pytest.importorskip("submitit")
    recorded, asked = [], []

    def experiment(name, trains, evaluates):
        return SimpleNamespace(
            name=name,
            path=Path(f"test_{name}.yaml"),
            trained_by=Path(f"{name}.yaml"),
            overrides=["a=1"],
            config=SimpleNamespace(cluster=ClusterConfig()),
            needs_training=lambda: trains,
            needs_evaluation=lambda: evaluates,
            training_files=dict,
            mark_trained=lambda files: recorded.append(name),
        )

    def run_jobs(cluster, jobs, cancel):
        asked.extend(jobs)
        return [0, 0, 3]

    monkeypatch.setattr("mmpt.cluster.waiting.run_jobs", run_jobs)
    given = [
        ("both", True, True),
        ("evaluated", False, True),
        ("complete", False, False),
        ("bad", True, True),
    ]
    args = argparse.Namespace(cluster="local", cluster_config=None, cancel_on_interrupt=False, force=False)
    statuses = results._run_as_jobs([experiment(*one) for one in given], args)
    assert statuses == {"both": 0, "evaluated": 0, "bad": 3} and recorded == ["both"]
    words = [[" ".join(step.command[4:]) for step in job.steps] for job in asked]
    assert words[0] == ["both.yaml a=1 eval.after_training=false", "test_both.yaml a=1"]
    assert words[1] == ["test_evaluated.yaml a=1"]

"""Series of runs: each is made once, failures do not stop the others, other settings are refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmpt.evaluators import runs
from mmpt.evaluators.folds import (
    FoldResult,
    check_folds,
    folds_of,
    picture,
    svm_baseline,
    table,
    with_clips_of,
)
from mmpt.evaluators.runs import Run, interval_of_mean, run_all
from mmpt.utils.errors import UserError

# stands in for locallaunch.py: notes that it was called, and writes what an evaluation writes
LAUNCHER = """
import json, pathlib, sys
given = dict(word.split("=", 1) for word in sys.argv[2:])
with open(pathlib.Path(sys.argv[0]).with_name("calls.txt"), "a") as file:
    file.write(" ".join(sys.argv[2:]) + "\\n")
if given.get("fairseq.common.seed") == "13":
    sys.exit(3)
folder = pathlib.Path(given["eval.save_path"])
folder.mkdir(parents=True)
pathlib.Path(given["fairseq.checkpoint.save_dir"], "checkpoint_last.pt").write_bytes(b"large")
(folder / "ids.json").write_text(json.dumps({"prompt_of_video": [0, 1, 1], "nearest_prompt": [0, 1, 0]}))
results = {"n_videos": 3, "n_prompts": 2, "chance": {}, "similarity": "cosine"}
(folder / "results.json").write_text(json.dumps(results | {"v2t": {"R@1": 2 / 3}, "t2v": {"P@1": 1.0}}))
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    launcher = tmp_path / "launcher.py"
    launcher.write_text(LAUNCHER)
    monkeypatch.setattr(runs, "LAUNCHER", launcher)
    return tmp_path / "calls.txt"


def series(config: Path, folder: Path, *seeds: int, overrides: tuple[str, ...] = ()) -> list[Run]:
    return [
        Run(f"seed{seed}", config, (*overrides, f"fairseq.common.seed={seed}"), folder / str(seed), "last")
        for seed in seeds
    ]


def test_each_is_made_once(tiny_yaml: Path, tmp_path: Path, calls: Path) -> None:
    assert run_all(series(tiny_yaml, tmp_path, 1, 2), jobs=2) == []
    assert len(calls.read_text().splitlines()) == 2
    assert "fairseq.dataset.disable_validation=true" in calls.read_text()
    again = series(tiny_yaml, tmp_path, 1, 2, 3)
    assert run_all(again) == []
    assert len(calls.read_text().splitlines()) == 3, "only what was missing"
    assert again[0].correct().tolist() == [True, True, False]
    assert not list(tmp_path.glob("*/*.pt")), "checkpoints are deleted"


def test_a_failure_does_not_stop_the_others(tiny_yaml: Path, tmp_path: Path, calls: Path) -> None:
    all_runs = series(tiny_yaml, tmp_path, 13, 2)
    assert run_all(all_runs) == [all_runs[0]]
    assert all_runs[1].results() is not None
    assert all_runs[0].results() is None


@pytest.mark.parametrize("jobs", [0, -1])
def test_no_jobs_are_refused(tiny_yaml: Path, tmp_path: Path, calls: Path, jobs: int) -> None:
    with pytest.raises(UserError, match="at least 1"):
        run_all(series(tiny_yaml, tmp_path, 1), jobs=jobs)
    assert not calls.exists()


def test_other_settings_are_refused(tiny_yaml: Path, tmp_path: Path, calls: Path) -> None:
    run_all(series(tiny_yaml, tmp_path, 1))
    with pytest.raises(UserError, match="other settings"):
        run_all(series(tiny_yaml, tmp_path, 1, overrides=("loss.temperature=0.5",)))
    with pytest.raises(UserError, match="temperature"):
        series(tiny_yaml, tmp_path, 1, overrides=("loss.temprature=0.5",))


def test_a_new_key_with_its_default_is_the_same_run(
    tiny_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update of mmpt that brings options does not throw away hours of done runs; an option that is set
    differs, wherever it stands."""
    run = series(tiny_yaml, tmp_path, 1)[0]
    before = run.digest()
    loaded = runs.load_config

    def with_new_key(*args: Any) -> Any:
        config = loaded(*args)
        config.model = dataclasses.make_dataclass("Newer", [("fresh", int, 3)], bases=(type(config.model),))(
            **dataclasses.asdict(config.model)
        )
        return config

    monkeypatch.setattr(runs, "load_config", with_new_key)
    assert run.digest() == before
    monkeypatch.undo()
    for override in ("model.members=2", "dataset.augment3d.rotation=0.5", "dataset.left_handed=[]"):
        assert series(tiny_yaml, tmp_path, 1, overrides=(override,))[0].digest() != before


def test_files_of_data_are_those_at_the_start_of_a_run(
    tiny_yaml: Path, tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, start = tmp_path / "table.csv", runs._start
    table.write_text("id,path,text\n")

    def start_then_edit(*given: Any) -> Any:
        process = start(*given)
        table.write_text("id,path,text\na,b,c\n")
        return process

    monkeypatch.setattr(runs, "_start", start_then_edit)
    [run] = series(tiny_yaml, tmp_path, 1, overrides=(f"dataset.table_path={table}",))
    assert run_all([run]) == []
    with pytest.raises(UserError, match="have changed"):
        run.results()


@pytest.mark.parametrize("name", ["a #b", "a: b", "[a", "'a'", "ä b", "plain-1.5"])
def test_folders_of_any_name(tiny_yaml: Path, tmp_path: Path, name: str) -> None:
    from mmpt.config import load_config

    folder = tmp_path / name
    config = load_config(tiny_yaml, list(series(tiny_yaml, folder, 1)[0].arguments))
    assert config.fairseq["checkpoint"]["save_dir"] == str(folder / "1")
    assert config.eval.save_path == str(folder / "1" / "eval")


def test_files_of_data_that_changed_are_refused(
    tiny_yaml: Path, tmp_path: Path, calls: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("id,path,text\n")
    overrides = (f"dataset.table_path={table}",)
    [run] = series(tiny_yaml, tmp_path, 1, overrides=overrides)
    assert run_all([run]) == [] and run.results() is not None
    table.write_text("id,path,text\na,b,c\n")
    with pytest.raises(UserError, match=r"dataset\.table_path have changed"):
        run.results()
    record = json.loads((run.folder / "run.json").read_text())
    del record["files"]  # as records were: hours of training are not thrown away
    (run.folder / "run.json").write_text(json.dumps(record))
    assert run_all([run]) == [] and "1 of them do not record" in caplog.text
    assert len(calls.read_text().splitlines()) == 1


def test_interval_of_a_mean() -> None:
    low, high = interval_of_mean(np.arange(100) < 60)
    assert 0.48 < low < 0.53 and 0.67 < high < 0.72  # the binomial's: 0.6 -+ 1.96 * 0.049
    assert interval_of_mean(np.ones(10)) == (1.0, 1.0)
    one_clip = np.array([[1, 0, 1, 0], [0, 1, 0, 1]])  # right in one of two trainings, whatever the clip
    assert interval_of_mean(one_clip) == (0.5, 0.5)


def test_interval_of_a_mean_of_folds() -> None:
    """Each fold counts alike, however many clips it has, and what differs between folds is not drawn anew."""
    easy, hard, few = np.ones(30), np.zeros(30), np.array([0, 1])
    assert interval_of_mean(easy, hard) == (0.5, 0.5)
    assert interval_of_mean(easy, easy, hard) == pytest.approx((2 / 3, 2 / 3))
    assert interval_of_mean(easy, few) == (0.5, 1.0), "half of the mean hangs on two clips"
    many = np.arange(400) % 2
    low, high = interval_of_mean(many, np.stack([many, 1 - many]))
    assert 0.5 - low == pytest.approx(1.96 * 0.025 / 2, abs=0.004) and high - 0.5 == pytest.approx(
        0.5 - low, abs=0.004
    )


def test_folds() -> None:
    assert [fold.name for fold in folds_of(["a", "b", "c"])] == ["a", "b", "c"]
    fold = folds_of(["a", "b", "c"], [["a", "c"]])[0]
    assert fold.name == "a+c" and fold.train == ("b",)
    assert "dataset.train_languages=[b]" in fold.overrides and "dataset.valid_languages=[]" in fold.overrides


@pytest.mark.parametrize(
    ("languages", "together", "words"),
    [
        ([], None, "languages: expected sign languages"),
        (["a", ""], None, "languages: expected sign languages"),
        (["a", "b", "a"], None, "languages: a is given more than once"),
        (["a", "b"], [], "folds: expected sign languages"),
        (["a", "b"], [["a", ""]], "folds: expected sign languages"),
        (["a", "b"], [["a"], []], "the fold '' leaves all languages"),
        (["a", "b", "c"], [["a", "b"], ["b"]], "folds: b is given more than once"),
        (["a"], None, "the fold 'a' leaves no languages"),
        (["a", "b"], [["b", "a"]], "leaves no languages"),
    ],
)
def test_folds_that_make_no_sense(languages: list[str], together: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        folds_of(languages, together)


def test_svm_sees_the_folds_own_clips(tiny_yaml: Path) -> None:
    from mmpt.config import load_config

    fold = folds_of(["svk", "swl", "psr", "gsg"], [["gsg"]])[0]
    correct = svm_baseline(load_config(tiny_yaml, ["dataset.hand_frame=palm", "model.vfeat_dim=69"]), fold)
    assert correct.shape == (6,) and correct.dtype == bool
    assert correct.mean() > 1 / 6, "above chance on real hands"


def test_an_svm_on_other_features_is_given_the_same_clips_and_prompts(tiny_yaml: Path) -> None:
    from mmpt.config import load_config

    [fold] = folds_of(["svk", "swl", "psr", "gsg"], [["gsg"]])
    config = load_config(tiny_yaml, ["dataset.letters=[A, B, C]", "dataset.prompt='{letter} of {language}'"])
    other = load_config(tiny_yaml, ["dataset.hand_frame=palm", "model.vfeat_dim=69"])
    with pytest.raises(UserError, match="palm: in the fold gsg, its 18 clips of train are not the 9 of"):
        check_folds(config, [fold], {"palm": other})
    other = with_clips_of(other, config)
    check_folds(config, [fold], {"palm": other})
    assert svm_baseline(other, fold).shape == svm_baseline(config, fold).shape == (3,)
    assert other.dataset.hand_frame == "palm"


def test_table_and_picture(tmp_path: Path) -> None:
    one, other = folds_of(["a", "b"])
    results = [
        FoldResult(one, np.array([[1, 1, 0, 0], [1, 1, 1, 1]], bool), np.array([1, 0, 0, 0], bool), 0.5, 4),
        FoldResult(other, np.array([[0, 0], [0, 0]], bool), np.array([0, 1], bool), 1.0, 2),
    ]
    text = table(results)
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert rows[2][3].startswith("0.750 (") and rows[2][4].startswith("0.250 (") and rows[2][5] == "+0.500"
    assert rows[4][0] == "| mean of 2" and rows[4][3].startswith("0.375 (")
    assert rows[4][5] == "+0.000 (-0.375 to +0.375)", "with its interval, clip by clip"
    assert "ahead of the SVM in 1 of 2 folds, level in 0" in text
    assert [row[2] for row in rows[2:]] == ["0.250", "0.500", "0.375"], "of a fold's own prompts"
    assert picture(tmp_path / "folds.png", results, "title").stat().st_size > 5000


def test_table_and_picture_with_svms_on_other_features(tmp_path: Path) -> None:
    one, other = folds_of(["a", "b"])
    right, wrong = np.ones(4, bool), np.zeros(4, bool)
    half = np.array([1, 0, 1, 0], bool)
    results = [
        FoldResult(one, half[None], wrong, 0.5, 4, {"palm": half}),
        FoldResult(other, half[None], wrong, 0.5, 4, {"palm": right}),
    ]
    text = table(results)
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert rows[0][7].startswith("SVM, palm") and rows[2][7].startswith("0.500 (")
    assert rows[4][4].startswith("0.000 (") and rows[4][7].startswith("0.750 (")
    assert "ahead of the SVM in 2 of 2 folds, level in 0." in text
    assert "ahead of the SVM on the features of palm in 0 of 2 folds, level in 1." in text
    assert picture(tmp_path / "folds.png", results, "title").stat().st_size > 5000


@pytest.mark.slow
def test_leave_one_out_by_command(tiny_yaml: Path, tmp_path: Path) -> None:
    from tests.conftest import run_module

    command = ["scripts/leave_one_out.py", "--config", str(tiny_yaml), "--out", str(tmp_path / "loo")]
    command += ["--languages", "svk", "swl", "psr", "--folds", "svk", "swl,psr", "--jobs", "1"]
    command += ["fairseq.optimization.max_epoch=2", "--svm-features", str(tiny_yaml)]
    done = run_module(*command)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "loo" / "folds.json").read_text())
    assert [fold["held_out"] for fold in found] == [["svk"], ["swl", "psr"]]
    assert [fold["n"] for fold in found] == [6, 12]
    assert [fold["chance"] for fold in found] == [1 / 6, 1 / 6]
    assert all(fold["svm on other features"] == {"tiny": fold["svm"]} for fold in found)
    again = run_module(*command)
    assert "2 of 2 runs are there already" in again.stderr and again.stdout == done.stdout

"""Many runs: each is made once, failures do not stop the others, other settings are refused."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mmpt.experiments import runs
from mmpt.experiments.runs import Processes, Run, run_all
from mmpt.utils.errors import UserError
from tests.conftest import ROOT

# stands in for `signclip train`: notes that it was called, and writes what an evaluation writes
LAUNCHER = """
import json, pathlib, sys, yaml
given = dict(word.split("=", 1) for word in sys.argv[2:] if word != "--force")
given = {key: str(yaml.safe_load(value)) for key, value in given.items()}
with open(pathlib.Path(sys.argv[0]).with_name("calls.txt"), "a") as file:
    file.write(" ".join(sys.argv[2:]) + "\\n")
if given.get("fairseq.common.seed") == "13":
    print("error: no luck", file=sys.stderr)
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
    monkeypatch.setattr(runs, "LAUNCH", (str(launcher),))
    for place in ("mmpt.experiments.runs._POLL", "mmpt.cluster.waiting._POLL"):
        monkeypatch.setattr(place, 0.02)
    return tmp_path / "calls.txt"


def series(config: Path, folder: Path, *seeds: int, overrides: tuple[str, ...] = ()) -> list[Run]:
    return [
        Run(f"seed{seed}", config, (*overrides, f"fairseq.common.seed={seed}"), folder / str(seed), "last")
        for seed in seeds
    ]


def test_runs_are_made_once(tiny_yaml: Path, tmp_path: Path, calls: Path) -> None:
    assert run_all(series(tiny_yaml, tmp_path, 1, 2), jobs=2) == []
    assert len(calls.read_text().splitlines()) == 2
    assert "fairseq.dataset.disable_validation=true" in calls.read_text()
    again = series(tiny_yaml, tmp_path, 1, 2, 3)
    assert "--force" not in calls.read_text()
    assert run_all(again, force=True) == []
    assert "--force" in calls.read_text().splitlines()[2]
    assert len(calls.read_text().splitlines()) == 3, "only what was missing"
    assert again[0].correct().tolist() == [True, True, False]
    assert not list(tmp_path.glob("*/*.pt")), "checkpoints are deleted"


def test_runs_continue_after_a_failure_and_say_why(
    tiny_yaml: Path, tmp_path: Path, calls: Path, caplog: pytest.LogCaptureFixture
) -> None:
    all_runs = series(tiny_yaml, tmp_path, 13, 2)
    assert run_all(all_runs) == [all_runs[0]]
    assert f"seed13 failed (exit status 3): error: no luck (log: {tmp_path / '13'}" in caplog.text
    assert all_runs[1].results() is not None
    assert all_runs[0].results() is None


def test_a_run_of_another_experiment_is_not_started_and_the_others_go_on(
    tiny_yaml: Path, tmp_path: Path, calls: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, free = series(tiny_yaml, tmp_path, 1, 2)
    run.folder.mkdir()
    first = Processes(1)
    other = first.start(run, [sys.executable, "-c", "import time; time.sleep(60)"])
    assert run_all([run, free]) == [run]
    assert f"{run.folder} is in use by another experiment: wait for it" in caplog.text
    assert run.results() is None and free.results() is not None and other.poll() is None
    first.stop([other])
    assert run_all([run]) == [] and run.results() is not None


@pytest.mark.parametrize("jobs", [0, -1, 100_000])
def test_a_number_of_jobs_out_of_range(tiny_yaml: Path, tmp_path: Path, calls: Path, jobs: int) -> None:
    with pytest.raises(UserError, match=f"^--jobs {jobs}: expected 1 to "):
        run_all(series(tiny_yaml, tmp_path, 1), jobs=jobs)
    assert not calls.exists()


def test_runs_with_other_settings_are_refused(tiny_yaml: Path, tmp_path: Path, calls: Path) -> None:
    run_all(series(tiny_yaml, tmp_path, 1))
    with pytest.raises(UserError, match="other settings"):
        run_all(series(tiny_yaml, tmp_path, 1, overrides=("loss.temperature=0.5",)))
    with pytest.raises(UserError, match="temperature"):
        series(tiny_yaml, tmp_path, 1, overrides=("loss.temprature=0.5",))


def test_run_digest_ignores_new_default_keys(
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
    for override in ("model.ensemble_size=2", "dataset.augment3d.rotation=0.5", "dataset.left_handed=[]"):
        assert series(tiny_yaml, tmp_path, 1, overrides=(override,))[0].digest() != before


def test_run_records_the_data_files_at_its_start(
    tiny_yaml: Path, tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, start = tmp_path / "table.csv", runs.Processes.start
    table.write_text("id,path,text\n")

    def start_then_edit(*given: Any) -> Any:
        process = start(*given)
        table.write_text("id,path,text\na,b,c\n")
        return process

    monkeypatch.setattr(runs.Processes, "start", start_then_edit)
    [run] = series(tiny_yaml, tmp_path, 1, overrides=(f"dataset.table_path={table}",))
    assert run_all([run]) == []
    with pytest.raises(UserError, match="have changed"):
        run.results()


@pytest.mark.parametrize("name", ["a #b", "a: b", "[a", "'a'", "ä b", "plain-1.5"])
def test_run_folders_of_any_name(tiny_yaml: Path, tmp_path: Path, name: str) -> None:
    from mmpt.config import load_config

    folder = tmp_path / name
    config = load_config(tiny_yaml, list(series(tiny_yaml, folder, 1)[0].arguments))
    assert config.fairseq["checkpoint"]["save_dir"] == str(folder / "1")
    assert config.eval.save_path == str(folder / "1" / "eval")


def test_runs_with_changed_data_files_are_refused(
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
    assert run_all([run]) == [] and "1 finished runs have no hashes" in caplog.text
    assert len(calls.read_text().splitlines()) == 1


def test_runs_as_jobs_of_a_cluster_are_recorded_and_a_failed_one_says_why(
    tiny_yaml: Path, tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    from mmpt.cluster.trainings import ClusterTrainings

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("SIGNCLIP_RUNS", str(tmp_path / "runs"))
    args = argparse.Namespace(
        cluster="local",
        cluster_config=None,
        cancel_on_interrupt=False,
        command_line="signclip experiment ablate x",
    )
    good, bad = series(tiny_yaml, tmp_path, 1, 13)
    assert run_all([good, bad], launcher=ClusterTrainings(args, tiny_yaml, ())) == [bad]
    assert good.results() is not None and bad.results() is None
    assert "seed13 failed (exit status 3)" in (bad.folder / "log.txt").read_text()


def test_only_checkpoints_of_the_training_are_deleted(tiny_yaml: Path, tmp_path: Path, calls: Path) -> None:
    ours = ["checkpoint_best.pt", "checkpoint12.pt", "checkpoint_3_200.pt", "checkpoint.best_loss_1.234.pt"]
    theirs = ["checkpoint_mine.pt", "weights.pt", "checkpoint_best.pt.old"]
    (tmp_path / "1").mkdir()
    for name in ours + theirs:
        (tmp_path / "1" / name).write_bytes(b"x")
    assert run_all(series(tiny_yaml, tmp_path, 1)) == []
    left = {path.name for path in (tmp_path / "1").glob("*.pt*")}
    assert left == set(theirs)

"""Commands with --cluster write what they write without, on SLURM and by the local executor."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.test_slurm import cluster_yaml, run, slurm  # noqa: F401 (a fixture)
from tests.cluster.two_nodes import why_not
from tests.extractors.test_runner import content
from tests.pose.pose_fakes import fake_clip, write_pose

pytest.importorskip("submitit")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]


def outputs(environment: dict[str, str], folder: Path, words: list, *jobs: object) -> Iterator[tuple]:
    """Status and files in `out` of a command: without jobs, as those of SLURM, as those of this machine.

    Each runs in a folder of its own, so that all paths in the files are the same.
    """
    for kind in ("", "slurm", "local"):
        place = folder / (kind or "alone")
        place.mkdir()
        options = ["--cluster", kind, "--cluster-config", cluster_yaml(folder), *jobs] if kind else []
        status, said = run({**environment, "SIGNCLIP_RUNS": "runs"}, place, *words, *options)
        assert status in (0, 1), said
        assert any(place.glob("runs/cluster/*/*_log.err")) == bool(kind), said
        yield status, content(place / "out")


def same(found: Iterator[tuple], *names: str) -> None:
    alone, *jobs = found
    assert all(name in alone[1] for name in names), alone[1].keys()
    for other in jobs:
        assert other == alone


def test_check(slurm, small_table, tmp_path):  # noqa: F811
    table = tmp_path / "table.csv"
    rows = small_table.read_text().splitlines()
    table.write_text("\n".join([*rows, rows[-1].replace(rows[-1].split(",")[0], "lost", 1)]) + "\n")
    words = ["check", table, "--workers", 1, "--out", "out"]
    same(outputs(slurm, tmp_path, words, "--shards", 2), "check.json", "check.md")


def test_embed_5000_poses(slurm, model_folder, tmp_path):  # noqa: F811
    (tmp_path / "poses").mkdir()
    for number in range(5000):
        write_pose(tmp_path / "poses" / f"{number:04}.pose", fake_clip(frames=3 + number % 5, seed=number))
    words = ["embed", "--model", model_folder, "--in", tmp_path / "poses", "--workers", 1, "--out", "out"]
    same(outputs(slurm, tmp_path, words, "--shards", 4), "embeddings.npy", "ids.csv", "provenance.json")


def test_evaluate_a_table(slurm, model_folder, small_table, tmp_path):  # noqa: F811
    words = ["evaluate", "--model", model_folder, "--table", small_table, "--protocol", "v2v"]
    words += ["--bootstrap", 20, "--workers", 1, "--out", "out"]
    same(outputs(slurm, tmp_path, words, "--shards", 2), "protocols.json")


def test_evaluate_a_config(slurm, model_folder, tiny_yaml, tmp_path):  # noqa: F811
    words = ["evaluate", tiny_yaml, f"fairseq.common_eval.path={model_folder}", "eval.save_path=out"]
    same(outputs(slurm, tmp_path, words, "--shards", 2), "results.json")


@pytest.fixture
def one_epoch(tiny_yaml) -> Path:
    """A config that trains in seconds, in a folder that its runs share."""
    text = tiny_yaml.read_text().replace("max_epoch: 3", "max_epoch: 1")
    tiny_yaml.write_text(text.replace(f"save_dir: {tiny_yaml.parent}/run", "save_dir: run"))
    return tiny_yaml


def test_ablate(slurm, one_epoch, tmp_path):  # noqa: F811
    other = one_epoch.with_name("warm.yaml")
    other.write_text(one_epoch.read_text() + "loss: {temperature: 0.5}\n")
    words = ["experiment", "ablate", one_epoch, other, "--seeds", 1, "--jobs", 1, "--out", "out"]
    same(tables(outputs(slurm, tmp_path, words)), "ablations.json", "ablations.md")


def test_leave_one_out(slurm, one_epoch, tmp_path):  # noqa: F811
    words = ["experiment", "leave-one-out", "--config", one_epoch, "--languages", "svk", "swl", "psr"]
    words += ["--folds", "svk", "psr", "--jobs", 1, "--out", "out"]
    same(tables(outputs(slurm, tmp_path, words)), "folds.json", "table.csv")


def test_results(slurm, one_epoch, tmp_path):  # noqa: F811
    for name in ("a", "b"):
        text = one_epoch.read_text().replace("save_dir: run", f"save_dir: {name}")
        one_epoch.with_name(f"{name}.yaml").write_text(text)
        one_epoch.with_name(f"test_{name}.yaml").write_text(text)
    words = ["experiment", "results", tmp_path / "test_a.yaml", tmp_path / "test_b.yaml", "--out", "out"]
    same(tables(outputs(slurm, tmp_path, words)), "results.md", "results.csv")


def tables(found: Iterator[tuple]) -> Iterator[tuple]:
    """Without the files of the trainings, which hold durations."""
    for status, files in found:
        yield status, {name: text for name, text in files.items() if "/" not in name}

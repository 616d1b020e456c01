"""Commands on a real SLURM of two nodes on this machine (tests/cluster/two_nodes.py)."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mmpt.utils.checkpoint import load_torch_file
from tests.cluster.two_nodes import two_nodes, why_not
from tests.conftest import ROOT
from tests.extractors.videos import write_video

pytest.importorskip("submitit")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of commands on the cluster."""
    with two_nodes(tmp_path_factory.mktemp("slurm")) as environment:
        yield {**os.environ, **environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def signclip(slurm: dict[str, str], folder: Path, *words: object) -> "subprocess.Popen[str]":
    """Start `signclip WORDS` in a folder."""
    command = [sys.executable, "-m", "mmpt", *map(str, words)]
    return subprocess.Popen(
        command, env=slurm, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run(slurm: dict[str, str], folder: Path, *words: object) -> tuple[int, str]:
    """Run `signclip WORDS` in a folder: exit status and output."""
    process = signclip(slurm, folder, *words)
    output, _ = process.communicate(timeout=600)
    return process.returncode, output


def cluster_yaml(folder: Path, **keys: object) -> Path:
    """A file for --cluster-config."""
    path = folder / "cluster.yaml"
    given = {"time": '"10"', "stop_seconds": 30, **keys}
    path.write_text("cluster:\n" + "".join(f"  {key}: {value}\n" for key, value in given.items()))
    return path


@pytest.fixture
def without_dropout(tiny_yaml: Path, data_dir: Path, tmp_path: Path) -> Path:
    """The tiny config with a BERT that drops nothing, so that two ways of training can be compared."""
    bert = shutil.copytree(data_dir / "mmfusion" / "bert", tmp_path / "bert")
    settings = json.loads((bert / "config.json").read_text())
    settings |= {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
    (bert / "config.json").write_text(json.dumps(settings))
    tiny_yaml.write_text(tiny_yaml.read_text().replace(str(data_dir / "mmfusion" / "bert"), str(bert)))
    return tiny_yaml


def same_weights(one: Path, other: Path, tolerance: float) -> None:
    weights = [load_torch_file(path / "checkpoint_last.pt")["model"] for path in (one, other)]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=tolerance, atol=tolerance)


def test_two_nodes_train_as_one_process_on_the_whole_batch(slurm, without_dropout, tmp_path):
    options = ["loss.gather=true", "fairseq.optimization.adam_eps=1e-4"]
    one = [*options, f"fairseq.checkpoint.save_dir={tmp_path}/one", "fairseq.dataset.batch_size=6"]
    status, output = run(slurm, tmp_path, "train", without_dropout, *one)
    assert status == 0, output
    two = [*options, f"fairseq.checkpoint.save_dir={tmp_path}/two", "fairseq.dataset.batch_size=3"]
    nodes = ["--cluster", "slurm", "--cluster-config", cluster_yaml(tmp_path, nodes=2)]
    status, output = run(slurm, tmp_path, "train", without_dropout, *two, *nodes)
    assert status == 0, output
    same_weights(tmp_path / "one", tmp_path / "two", 1e-5)


def test_a_training_that_is_requeued_twice_ends_as_one_that_was_not(slurm, tiny_yaml, tmp_path):
    """The signal is the one that SLURM sends before the time limit; sent here so that no minute is waited."""
    options = ["fairseq.optimization.max_epoch=60", "fairseq.checkpoint.save_interval=60"]
    options += ["fairseq.dataset.disable_validation=true"]
    limited = ["--cluster", "slurm", "--cluster-config", cluster_yaml(tmp_path, time='"9"')]
    folder = f"fairseq.checkpoint.save_dir={tmp_path}/limited"
    process = signclip(slurm, tmp_path, "train", tiny_yaml, *options, folder, *limited)
    logs = tmp_path / "runs" / "cluster" / "train"
    for begun in (1, 2):
        while sum(log.read_text().count("train: 18 clips") for log in logs.glob("*_log.err")) < begun:
            assert process.poll() is None
            time.sleep(0.2)
        time.sleep(4)
        (job,) = logs.glob("*_0_log.err")
        subprocess.run(["scancel", "--signal=USR2", job.name.partition("_")[0]], env=slurm, check=True)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    assert sum(log.read_text().count("Requeued job") for log in logs.glob("*_0_log.out")) == 2
    assert sum(log.read_text().count("resuming from") for log in logs.glob("*_log.err")) == 2
    status, output = run(slurm, tmp_path, "train", tiny_yaml, *options)
    assert status == 0, output
    same_weights(tmp_path / "run", tmp_path / "limited", 0)


def test_a_node_that_dies_ends_the_training_in_one_line_and_the_same_command_goes_on(
    slurm, tiny_yaml, tmp_path
):
    options = ["loss.gather=true", "fairseq.dataset.batch_size=2", "fairseq.optimization.max_epoch=40"]
    nodes = ["--cluster", "slurm", "--cluster-config", cluster_yaml(tmp_path, nodes=2)]
    process = signclip(slurm, tmp_path, "train", tiny_yaml, *options, *nodes)
    while not (tmp_path / "run" / "checkpoint_last.pt").exists():
        assert process.poll() is None
        time.sleep(0.1)
    for pid in processes_of("n2"):
        os.kill(pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    (line,) = [line for line in output.splitlines() if " ERROR " in line]
    assert process.returncode and f"{tiny_yaml} failed (exit status" in line, output
    status, output = run(slurm, tmp_path, "train", tiny_yaml, *options, *nodes)
    assert status == 0, output
    logs = (tmp_path / "runs" / "cluster" / "train").glob("*_log.err")
    assert sum("resuming from" in log.read_text() for log in logs) == 1


def processes_of(node: str) -> list[int]:
    """The processes of jobs on a node; those of SLURM itself do not count."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"SLURMD_NODENAME={node}\0".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def test_shards_of_which_one_was_killed_and_requeued_merge_to_the_result_of_one_run(
    slurm, shared_videos, tmp_path
):
    videos = tmp_path / "videos"
    videos.mkdir()
    for number, video in enumerate(sorted(shared_videos.glob("*.mp4"))):
        (videos / f"real{number}.mp4").symlink_to(video)
    for number in range(20):
        write_video(videos / f"drawn{number}.mp4", frames=20 + number)
    pose = ["extract", "pose", "--in", videos, "--workers", 1]
    jobs = ["--cluster", "slurm", "--shards", 4, "--cluster-config", cluster_yaml(tmp_path)]
    process = signclip(slurm, tmp_path, *pose, "--out", tmp_path / "shards", *jobs)
    killed = kill_a_job(slurm, "--shard 2/4")
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 137 and "shard 2/4 failed" in output, output
    assert "not merged" in output and killed
    status, output = run(slurm, tmp_path, *pose, "--out", tmp_path / "shards", *jobs)
    assert status == 0, output
    status, output = run(slurm, tmp_path, *pose, "--out", tmp_path / "one")
    assert status == 0, output
    assert files_of(tmp_path / "shards") == files_of(tmp_path / "one")


def kill_a_job(slurm: dict[str, str], words: str) -> bool:
    """SIGKILL the command of a job, when it has begun to write."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        found = subprocess.run(["pgrep", "-f", f"mmpt .*{words}"], capture_output=True, text=True).stdout
        if found:
            time.sleep(8)  # in the middle of its files
            os.kill(int(found.split()[0]), signal.SIGKILL)
            return True
        time.sleep(0.1)
    return False


def files_of(folder: Path) -> dict[str, bytes]:
    """The results of an extraction, with its manifest."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != ".lock"}

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
from mmpt.utils.files import read_json
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
    output, _ = process.communicate(timeout=3000)
    return process.returncode, output


def cluster_yaml(folder: Path, **keys: object) -> Path:
    """A file for --cluster-config."""
    path = folder / "cluster.yaml"
    given = {"time": '"60"', "stop_seconds": 30, **keys}
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
    limited = ["--cluster", "slurm", "--cluster-config", cluster_yaml(tmp_path, time='"50"')]
    folder = f"fairseq.checkpoint.save_dir={tmp_path}/limited"
    process = signclip(slurm, tmp_path, "train", tiny_yaml, *options, folder, *limited)
    for begun in (1, 2):
        while in_logs(tmp_path, "epochs is logged", "*_log.err") < begun:
            assert process.poll() is None
            time.sleep(0.2)
        subprocess.run(["scancel", "--signal=USR2", job_of(tmp_path)], env=slurm, check=True)
    output, _ = process.communicate(timeout=3000)
    assert process.returncode == 0, output
    assert in_logs(tmp_path, "Starting with JobEnvironment", "*_0_log.out") == 3
    assert in_logs(tmp_path, "resuming from", "*_log.err") == 2
    status, output = run(slurm, tmp_path, "train", tiny_yaml, *options)
    assert status == 0, output
    same_weights(tmp_path / "run", tmp_path / "limited", 0)


def test_a_training_over_two_nodes_that_reaches_its_time_limit_twice_ends_as_one_that_does_not(
    slurm, tiny_yaml, tmp_path
):
    """It ends a few updates after its second stop, however fast this machine is.

    SLURM looks every 30 s which jobs reach their limit, and sends the signal up to a minute earlier than was
    asked. On a busy machine that may be before the first update: the next start gets a minute more.
    """
    options = ["loss.gather=true", "fairseq.dataset.batch_size=2", "fairseq.dataset.disable_validation=true"]
    endless = tiny_yaml.read_text().replace("max_epoch: 3", "max_epoch: 0\n    max_update: 100000")
    tiny_yaml.write_text(endless)
    ends = tmp_path / "ends.yaml"
    setup = json.dumps([f"[ ! -e {ends} ] || cp {ends} {tiny_yaml}"])
    on_two = cluster_yaml(tmp_path, nodes=2, time='"2"', setup=setup)
    jobs = ["--cluster", "slurm", "--cluster-config", on_two]
    limited = f"fairseq.checkpoint.save_dir={tmp_path}/limited"
    process = signclip(slurm, tmp_path, "train", tiny_yaml, *options, limited, *jobs)
    in_vain = 0
    while (stops := in_logs(tmp_path, "stopped by SIGTERM", "*_log.err")) < 2:
        assert process.poll() is None, process.communicate()
        if in_logs(tmp_path, "Requeued job", "*_0_log.out") - stops > in_vain:
            in_vain += 1
            longer = ["scontrol", "update", f"JobId={job_of(tmp_path)}", "TimeLimit=+1"]
            subprocess.run(longer, env=slurm, check=True)
        time.sleep(0.2)
    stopped = load_torch_file(tmp_path / "limited" / "checkpoint_last.pt")
    last = stopped["optimizer_history"][-1]["num_updates"] + 7
    ends.write_text(endless.replace("100000", str(last)))
    output, _ = process.communicate(timeout=3000)
    assert process.returncode == 0, output
    assert in_logs(tmp_path, "Job has timed out", "*_0_log.out") >= 2
    assert in_logs(tmp_path, "resuming from", "*_log.err") >= 2
    cluster_yaml(tmp_path, nodes=2, time='"60"')
    status, output = run(slurm, tmp_path, "train", tiny_yaml, *options, *jobs)
    assert status == 0, output
    same_weights(tmp_path / "run", tmp_path / "limited", 0)


def job_of(folder: Path) -> str:
    """The number of the only job of `signclip train` in a folder."""
    (log,) = (folder / "runs/cluster/train").glob("*_0_log.err")
    return log.name.partition("_")[0]


def in_logs(folder: Path, words: str, files: str) -> int:
    """How often the logs of the jobs of `signclip train` say something."""
    return sum(log.read_text().count(words) for log in (folder / "runs/cluster/train").glob(files))


def test_a_node_that_dies_ends_the_training_in_one_line_and_the_same_command_goes_on(
    slurm, tiny_yaml, tmp_path
):
    options = ["loss.gather=true", "fairseq.dataset.batch_size=2", "fairseq.optimization.max_epoch=40"]
    nodes = ["--cluster", "slurm", "--cluster-config", cluster_yaml(tmp_path, nodes=2)]
    process = signclip(slurm, tmp_path, "train", tiny_yaml, *options, *nodes)
    while not (tmp_path / "run" / "checkpoint_last.pt").exists():
        assert process.poll() is None
        time.sleep(0.1)
    for pid in processes(slurm, "n2"):
        os.kill(pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    (line,) = [line for line in output.splitlines() if " ERROR " in line]
    assert process.returncode and f"{tiny_yaml} failed (exit status" in line, output
    status, output = run(slurm, tmp_path, "train", tiny_yaml, *options, *nodes)
    assert status == 0, output
    assert in_logs(tmp_path, "resuming from", "*_log.err") == 1


def test_a_node_that_is_down_ends_the_training_and_the_requeued_job_goes_on(slurm, tiny_yaml, tmp_path):
    options = ["loss.gather=true", "fairseq.dataset.batch_size=2", "fairseq.optimization.max_epoch=40"]
    options += ["fairseq.dataset.disable_validation=true"]
    nodes = ["--cluster", "slurm", "--cluster-config", cluster_yaml(tmp_path, nodes=2)]
    downed = f"fairseq.checkpoint.save_dir={tmp_path}/downed"
    process = signclip(slurm, tmp_path, "train", tiny_yaml, *options, downed, *nodes)
    while not (tmp_path / "downed" / "checkpoint_last.pt").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    update = ["scontrol", "update", "nodename=n2"]
    subprocess.run([*update, "state=down", "reason=test"], env=slurm, check=True)
    deadline = time.monotonic() + 60
    while processes(slurm, "n1"):
        assert time.monotonic() < deadline, "the training on the other node still runs"
        time.sleep(0.2)
    assert process.poll() is None
    subprocess.run([*update, "state=resume"], env=slurm, capture_output=True)  # it may be back already
    output, _ = process.communicate(timeout=3000)
    assert process.returncode == 0 and " ERROR " not in output, output
    assert in_logs(tmp_path, "resuming from", "*_log.err") == 1
    assert in_logs(tmp_path, "Traceback", "*_log.err") == 0
    status, output = run(slurm, tmp_path, "train", tiny_yaml, *options, *nodes)
    assert status == 0, output
    same_weights(tmp_path / "run", tmp_path / "downed", 0)


def processes(slurm: dict[str, str], node: str = "", words: str = "") -> list[int]:
    """The processes of jobs of this cluster, on a node, with words in their command; not SLURM's own."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            variables = (path / "environ").read_bytes().decode(errors="replace").split("\0")
            command = (path / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            here = f"SLURM_CONF={slurm['SLURM_CONF']}" in variables and words in command
            if here and any(one.startswith(f"SLURMD_NODENAME={node}") for one in variables):
                found.append(int(path.name))
    return found


def test_shards_that_were_killed_and_requeued_or_repeated_merge_to_the_result_of_one_run(
    slurm, shared_videos, tmp_path
):
    """The second is requeued by `scontrol requeue`, the third runs again when the command is repeated."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for number, video in enumerate(sorted(shared_videos.glob("*.mp4"))):
        (videos / f"real{number}.mp4").symlink_to(video)
    for number in range(20):
        write_video(videos / f"drawn{number}.mp4", frames=20 + number)
    pose = ["extract", "pose", "--in", videos, "--workers", 1]
    jobs = ["--cluster", "slurm", "--shards", 4, "--cluster-config", cluster_yaml(tmp_path)]
    shards = tmp_path / "shards"
    process = signclip(slurm, tmp_path, *pose, "--out", shards, *jobs)
    kill_a_job(slurm, shards / ".shards" / "2-of-4", "--shard 2/4")
    (log,) = (tmp_path / "runs/cluster/extract").glob("*_1_0_log.err")
    requeue = ["scontrol", "requeue", log.name.removesuffix("_0_log.err")]
    while subprocess.run(requeue, env=slurm, capture_output=True).returncode:  # it has not ended
        time.sleep(0.2)
    kill_a_job(slurm, shards / ".shards" / "3-of-4", "--shard 3/4")
    output, _ = process.communicate(timeout=3000)
    assert process.returncode == 137 and "not merged" in output, output
    assert "shard 3/4 failed" in output and "shard 2/4" not in output, output
    assert read_json(shards / ".shards" / "2-of-4" / "shard.json")["finished"]
    status, output = run(slurm, tmp_path, *pose, "--out", shards, *jobs)
    assert status == 0, output
    status, output = run(slurm, tmp_path, *pose, "--out", tmp_path / "one")
    assert status == 0, output
    assert files_of(shards) == files_of(tmp_path / "one")


def kill_a_job(slurm: dict[str, str], shard: Path, words: str) -> None:
    """SIGKILL the command of a job in the middle of its files."""
    deadline = time.monotonic() + 300
    while not (shard / "progress").exists() or (shard / "progress").read_text().startswith("0 "):
        assert time.monotonic() < deadline, f"{words} has extracted nothing"
        time.sleep(0.1)
    found = processes(slurm, words=words)
    assert found
    for pid in found:
        os.kill(pid, signal.SIGKILL)


def files_of(folder: Path) -> dict[str, bytes]:
    """The results of an extraction, with its manifest."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != ".lock"}

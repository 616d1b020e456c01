"""Jobs through submitit's local executor, and on a pretended SLURM."""

import logging
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from mmpt.cluster.job import Job, Step
from mmpt.cluster.submission import Cluster
from mmpt.cluster.waiting import run_jobs
from mmpt.config import ClusterConfig
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.progress import Progress
from tests.conftest import ROOT
from tests.waiting import wait_until

pytest.importorskip("submitit")


def shell(script: str) -> Step:
    return Step(("/bin/sh", "-c", script))


@pytest.fixture(autouse=True)
def asks_often(monkeypatch):
    monkeypatch.setattr("mmpt.cluster.waiting._POLL", 0.02)


@pytest.fixture
def local(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIGNCLIP_RUNS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return lambda **keys: Cluster("local", ClusterConfig(**keys), "try")


NOISE = "[W1129 22:08 TCPStore.cpp:138] lost\\nframe #7: <unknown>\\nW1129 22:08 rendezvous.py:1346] x\\n"
"""What torch writes after a connection is lost."""


def test_every_step_runs_and_a_failed_job_is_one_line_with_the_end_of_its_log(
    local, tmp_path, caplog, monkeypatch
):
    """The jobs see the GPUs of this machine, and their files are in a folder of the command."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    cluster = local(array_parallelism=3, folder=str(tmp_path / "jobs"))
    scripts = {
        "a": ["echo $CUDA_VISIBLE_DEVICES >> a", "echo 2 >> a"],
        "b": [f"echo early >&2; echo why >&2; printf '{NOISE}' >&2; exit 3", "touch not"],
    }
    scripts["c"] = ["kill -9 $$"]
    jobs = [cluster.job(name, [shell(step) for step in steps]) for name, steps in scripts.items()]
    assert run_jobs(cluster, jobs, shown=False) == [0, 3, 137]
    assert (tmp_path / "a").read_text() == "1,3\n2\n" and not (tmp_path / "not").exists()
    assert list((tmp_path / "jobs").iterdir()) == [tmp_path / "jobs" / "try"]
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert errors[0].startswith("b failed (exit status 3): why (log: ") and errors[0].endswith(".err)")
    assert errors[1].startswith("c failed (exit status 137): error: the command was killed by SIGKILL.")


AT_ITS_LIMIT = "kill -USR2 $PPID"
"""What SLURM and submitit's local executor do a while before the time limit."""


def test_a_job_at_its_time_limit_is_stopped_and_runs_again(local, tmp_path, monkeypatch):
    shown = set()
    monkeypatch.setattr(Progress, "show", lambda bar, done, note="": shown.add(note))
    script = f"""
        echo start >> log
        test $(grep -c start log) = 2 && exit 0
        trap 'echo saved >> log; exit 143' TERM
        {AT_ITS_LIMIT}
        while true; do sleep 0.05; done
    """
    cluster = local(time="5")
    jobs = [cluster.job("long", [shell(script)])]
    assert run_jobs(cluster, jobs, shown=False) == [0]
    assert (tmp_path / "log").read_text().split() == ["start", "saved", "start"]
    assert shown == {"", "requeued at the time limit: 1"}
    (tmp_path / "log").write_text("start\n")  # which ends at once
    assert run_jobs(cluster, jobs, shown=False) == [0] and jobs[0].requeues == 0


def test_a_job_that_may_not_be_requeued_fails(local, caplog):
    cluster = local(time="5", max_requeues=0)
    script = f"{AT_ITS_LIMIT}; exec sleep 60"
    assert run_jobs(cluster, [cluster.job("long", [shell(script)])], shown=False) == [2]
    assert "timed-out too many times" in caplog.text


def test_ctrl_c_stops_local_jobs(local, tmp_path, caplog):
    cluster = local()
    script = "trap 'touch stopped; exit' INT TERM; touch started; while true; do sleep 0.05; done"

    def interrupt() -> None:
        wait_until((tmp_path / "started").exists, "the job is started")
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_jobs(cluster, [cluster.job("endless", [shell(script)])], shown=False)
    assert "jobs cancelled: 1" in caplog.text
    wait_until((tmp_path / "stopped").exists, "the job is stopped")


def job_here(local, tmp_path, monkeypatch, *scripts):
    """A job that is called in this process, as submitit calls it in its own."""
    job = local(folder=str(tmp_path)).job("here", [*map(shell, scripts)])
    job.files.parent.mkdir()
    here = SimpleNamespace(cluster="local", node=0, num_nodes=1)
    monkeypatch.setattr("submitit.JobEnvironment", lambda: here)
    monkeypatch.setattr("atexit.register", lambda *_: None)
    return job


def test_the_time_limit_while_a_command_starts_waits_until_the_command_is_known(local, tmp_path, monkeypatch):
    """Any thread can get the signal, which is blocked for the command in one."""
    job, known = job_here(local, tmp_path, monkeypatch, "true"), []
    start = subprocess.Popen
    before = signal.signal(signal.SIGUSR2, lambda number, frame: known.append(job._child is not None))
    try:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(int).result()  # it exists

            def start_at_the_limit(*arguments, **options):
                child = start(*arguments, **options)
                thread.submit(signal.raise_signal, signal.SIGUSR2).result()
                return child

            monkeypatch.setattr(subprocess, "Popen", start_at_the_limit)
            assert job() == 0 and known == [True]
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_signal_between_two_commands_stops_a_local_job(local, tmp_path, monkeypatch):
    job = job_here(local, tmp_path, monkeypatch, "true", "exec sleep 30")
    start = Job._run

    def run_and_signal(*arguments):
        status = start(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)
        return status

    monkeypatch.setattr(Job, "_run", run_and_signal)
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)  # submitit does nothing then
    try:
        assert job() == 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Programs that pretend to be SLURM: sbatch says what is in `refused`, squeue what is in `queue`."""
    programs = tmp_path / "bin"
    programs.mkdir()
    scripts = {
        "sbatch": f"cp \"$1\" '{tmp_path}/submitted'; cd '{tmp_path}';"
        " test -e refused && cat refused >&2 && exit 1;"
        " echo Submitted batch job 7",
        "squeue": f"cat '{tmp_path}/queue' 2>/dev/null; true",
        "sinfo": "echo main; echo gpu",
        "scancel": f"echo $@ > '{tmp_path}/cancelled'",
        "srun": "exit 1",
    }
    for name, script in scripts.items():
        path = programs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mmpt.cluster.submission._QUEUE_EVERY", 0.0)
    return lambda **keys: Cluster("slurm", ClusterConfig(**{"time": "90", **keys}), "train")


def test_keys_of_the_config_become_options_of_sbatch(slurm, tmp_path):
    keys = {"partition": "gpu", "account": "me", "nodes": 2, "gpus_per_node": 4, "cpus_per_task": 8}
    keys |= {"mem": "32G", "setup": ["module load x"], "array_parallelism": 3, "stop_seconds": 60}
    cluster = slurm(**keys, time="1-02:00:30", sbatch={"qos": "high", "constraint": "a100"})
    cluster.submit([cluster.job(name, [shell(name)]) for name in "ab"])
    text = (tmp_path / "submitted").read_text()
    expected = ["partition=gpu", "account=me", "nodes=2", "gpus-per-node=4", "cpus-per-task=8", "mem=32G"]
    expected += ["time=1561", "signal=USR2@60", "array=0-1%2", "qos=high", "constraint=a100", "requeue"]
    for option in expected:
        assert f"#SBATCH --{option}\n" in text, (option, text)
    assert "\nset -e\nmodule load x\nset +e\n" in text and "--kill-on-bad-exit=1" in text


def test_jobs_keep_running_after_ctrl_c_and_are_not_submitted_twice(slurm, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("mmpt.utils.progress.LINE_EVERY", 0.0)
    (tmp_path / "queue").write_text("7 PENDING ReqNodeNotAvail, Reserved\n")
    cluster = slurm()
    job = cluster.job("a", [shell("true")])

    def interrupt() -> None:
        wait_until(lambda: "1 waiting" in caplog.text, "the state of the job is shown")
        os.kill(os.getpid(), signal.SIGINT)

    def wait(cancel: bool) -> None:
        caplog.clear()
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            run_jobs(cluster, [job], cancel)

    wait(False)
    assert "0 of 1 jobs, 0.00 jobs/s, 1 waiting (ReqNodeNotAvail, Reserved)" in caplog.text
    assert "jobs still running: 1; cancel them with `scancel 7`" in caplog.text
    (tmp_path / "submitted").unlink()
    wait(True)
    assert "jobs still queued: 1; waiting for them" in caplog.text
    assert not (tmp_path / "submitted").exists() and (tmp_path / "cancelled").read_text() == "7\n"


def test_a_job_that_leaves_the_queue_without_a_status_has_failed(slurm, monkeypatch, caplog):
    monkeypatch.setattr("mmpt.cluster.submission.RESULT_DELAY", 0.3)
    cluster = slurm()
    assert run_jobs(cluster, [cluster.job("a", [shell("true")])], shown=False) == [137]
    why = "it was killed or cancelled, or a command of cluster.setup failed"
    assert f"a failed (exit status 137): {why} (log: " in caplog.text


def test_a_job_that_the_cluster_requeues_has_not_ended(slurm):
    """Preempted, on a failed node, or by `scontrol requeue`: it has a status, and is in the queue again."""
    cluster = slurm()
    (one,) = cluster.submit([cluster.job("a", [shell("true")])])
    one.job.status_file(0).write_text("143")
    assert one.poll({"7": "PENDING"}) is None and one.poll(None) is None
    assert one.poll({}) == 143 and one.poll(None) == 143 and one.poll({"7": "PENDING BeginTime"}) is None
    one.job.status_file(0).write_text("0")
    assert one.poll({"7": "COMPLETING"}) == 0
    (other,) = cluster.submit([cluster.job("b", [shell("true")])])
    other.job.status_file(0).write_text("143")
    assert other.poll({}) == 143


def test_a_wrong_partition_is_one_line_with_those_that_exist(slurm, tmp_path, capsys):
    said = "sbatch: error: invalid partition specified: big\nsbatch: error: Batch job submission failed\n"
    (tmp_path / "refused").write_text(said)
    cluster = slurm(partition="big")
    with pytest.raises(
        UserError, match=r"there is no partition 'big' \(invalid .*\)\. Known: main, gpu\."
    ) as e:
        cluster.submit([cluster.job("a", [shell("true")])])
    assert "\n" not in str(e.value) and capsys.readouterr().err == ""
    with pytest.raises(UserError, match="sbatch refused the job: invalid partition"):
        slurm().submit([cluster.job("a", [shell("true")])])


def test_only_trainings_have_several_nodes(slurm, caplog):
    assert slurm(nodes=2).config.nodes == 2
    assert Cluster("slurm", ClusterConfig(time="5", nodes=2), "extract").config.nodes == 1
    assert "cluster.nodes: 2 is for `signclip train`: these jobs have one node" in caplog.text


def test_what_is_missing_is_said(slurm, monkeypatch):
    with pytest.raises(UserError, match=r"cluster\.time is not set"):
        slurm(time=None)
    with pytest.raises(UserError, match=r"time is 120 s and cluster\.stop_seconds 60: SLURM sends"):
        slurm(time="1:30", stop_seconds=60)
    assert slurm(time="2", stop_seconds=59).config.time == "2"
    with pytest.raises(UserError, match=r"cluster\.nodes is 2, and this is one machine"):
        Cluster("local", ClusterConfig(nodes=2), "train")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="there is no sbatch on the PATH"):
        slurm()
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(
        MissingDataError, match=r'needs submitit, which is not installed: `pip install "mmpt\[cl'
    ):
        Cluster("local", ClusterConfig(), "try")


def test_jobs_of_several_nodes_meet_at_the_first(monkeypatch):
    from types import SimpleNamespace

    from mmpt.cluster.job import rendezvous_environment

    monkeypatch.setenv("SLURM_LAUNCH_NODE_IPADDR", "10.0.0.7")
    job = SimpleNamespace(
        raw_job_id="12345678", job_id="12345678", num_nodes=2, node=1, hostnames=["n1", "n2"]
    )
    found = rendezvous_environment(job)
    assert found["PET_RDZV_ENDPOINT"] == "10.0.0.7:25678" and found["PET_RDZV_CONF"] == "is_host=0"
    assert found["PET_NNODES"] == "2" and found["PET_RDZV_BACKEND"] == "c10d"


def test_no_job_needs_no_folder(local, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    cluster = local(folder=str(tmp_path / "jobs"))
    assert run_jobs(cluster, []) == [] and not caplog.records and not (tmp_path / "jobs").exists()

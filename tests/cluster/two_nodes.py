"""A SLURM cluster of two nodes on this machine, for tests; needs root, slurm-wlm and munge.

    python -m tests.cluster.two_nodes up FOLDER      # prints: export SLURM_CONF=FOLDER/slurm.conf
    python -m tests.cluster.two_nodes down FOLDER

All files (key, sockets, state, logs) are in FOLDER, which should be new. Several can run side by side:
numbers of jobs, from which trainings choose a port, begin with another number in each.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
NODES = ("n1", "n2")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_CONF = """\
ClusterName=try
SlurmctldHost={host}
SlurmctldPort={ports[0]}
FirstJobId={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
SlurmdTimeout=10
KillWait=5
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """Why no cluster can be started here; None if one can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
    if missing:
        return f"SLURM is not installed (no {missing[0]}): apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "starting SLURM's daemons needs root"


def up(folder: Path) -> dict[str, str]:
    """Start the daemons; returns the environment variables that SLURM's commands need."""
    folder = folder.resolve()
    for name in (".", "state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # munged refuses a folder that others may write to
    ports, host = _free_ports(1 + len(NODES)), socket.gethostname().partition(".")[0]
    nodes = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=4000"
        for node, port in zip(NODES, ports[1:])
    ]
    conf = folder / "slurm.conf"
    conf.write_text(_CONF.format(host=host, folder=folder, ports=ports, nodes="\n".join(nodes)))
    key = folder / "munge.key"
    key.touch(mode=0o400)
    key.write_bytes(secrets.token_bytes(128))
    files = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    options = [f"--{option}={folder}/munge.{suffix}" for option, suffix in files.items()]
    _run("munged", "--force", f"--key-file={key}", *options)
    environment = {"SLURM_CONF": str(conf)}
    _run("slurmctld", "-f", str(conf), **environment)
    for node in NODES:
        start_node(folder, node)
    _wait_for_idle_nodes(environment)
    return environment


def start_node(folder: Path, node: str) -> None:
    """Start the daemon of a node."""
    conf = str(folder / "slurm.conf")
    _run("slurmd", "-f", conf, "-N", node, SLURM_CONF=conf)


def down(folder: Path) -> None:
    """Cancel all jobs and stop the daemons."""
    conf = {"SLURM_CONF": str(folder / "slurm.conf")}
    with contextlib.suppress(subprocess.CalledProcessError, subprocess.TimeoutExpired):
        _run("scancel", "--user=root", **conf)
        deadline = time.monotonic() + 15
        while _run("squeue", "--noheader", **conf) and time.monotonic() < deadline:
            time.sleep(0.2)
    for name in ("slurmctld", *(f"slurmd-{node}" for node in NODES), "munge"):
        stop(folder / f"{name}.pid")


def stop(pid_file: Path, number: signal.Signals = signal.SIGTERM) -> None:
    """Stop the daemon of a pid file, and wait until it has ended."""
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        for _ in range(100):
            os.kill(pid, 0)
            time.sleep(0.1)


@contextlib.contextmanager
def two_nodes(folder: Path) -> Iterator[dict[str, str]]:
    """A cluster while the block runs: the environment variables of its commands."""
    try:
        yield up(folder)
    finally:
        down(folder)


def _run(*command: str, **environment: str) -> str:
    return subprocess.run(
        command,
        env={**os.environ, "PATH": _PATH, **environment},
        check=True,
        timeout=60,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait_for_idle_nodes(environment: dict[str, str]) -> None:
    for _ in range(100):
        states = _run("sinfo", "--noheader", "--Node", "--format=%T", **environment).split()
        if states == ["idle"] * len(NODES):
            return
        time.sleep(0.2)
    raise RuntimeError(f"the nodes are {', '.join(states)} after 20 s: see the logs beside slurm.conf")


def main(words: list[str]) -> None:
    """Start or stop a cluster."""
    if len(words) != 2 or words[0] not in ("up", "down"):
        sys.exit(__doc__)
    if reason := why_not():
        sys.exit(f"error: {reason}")
    if words[0] == "down":
        down(Path(words[1]))
        return
    for name, value in up(Path(words[1])).items():
        print(f"export {name}={value}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""The program of a job: runs commands one after the other, stops and requeues them at the time limit."""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmpt.utils.processes import Forward, signals_forwarded
from mmpt.utils.signals import signals_held

STOPPED = 128 + signal.SIGTERM
_POLL = 0.05
_FIRST_PORT, _PORTS = 20_000, 10_000
"""Of the meeting place of the processes of a training on several nodes."""


@dataclass(frozen=True)
class Step:
    """A command of a job. everywhere: on all nodes of the job, otherwise on the first."""

    command: tuple[str, ...]
    everywhere: bool = False


@dataclass
class Job:
    """The function that submitit calls: runs `steps` until one fails, and writes the exit status to a file.

    name: of the job, for messages. files: start of the names of its files of status. stop_seconds: time that
    a command has to stop. environment: variables of the commands; None unsets one.
    """

    name: str
    steps: tuple[Step, ...]
    files: Path
    stop_seconds: float
    environment: dict[str, str | None] = field(default_factory=dict)
    _child: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    def status_file(self, node: int) -> Path:
        """The exit status of a node, once its process has ended."""
        return self.files.with_name(f"{self.files.name}.status{node}")

    @property
    def pid_file(self) -> Path:
        """The process that SIGTERM stops, of a local job that runs."""
        return self.files.with_name(f"{self.files.name}.pid")

    @property
    def requeues_file(self) -> Path:
        """One byte for each time that the job reached its time limit."""
        return self.files.with_name(f"{self.files.name}.requeues")

    @property
    def requeues(self) -> int:
        """How often the job reached its time limit and was requeued."""
        try:
            return self.requeues_file.stat().st_size
        except OSError:
            return 0

    def __call__(self) -> int:
        """Run the steps of this node."""
        from submitit import JobEnvironment

        job = JobEnvironment()
        self.status_file(job.node).unlink(missing_ok=True)  # of before it was requeued
        environment = dict(os.environ)
        if job.num_nodes > 1:
            environment |= rendezvous_environment(job)
        for name, value in self.environment.items():
            environment.pop(name, None)
            environment |= {} if value is None else {name: value}
        status, local = 0, job.cluster == "local"  # SLURM itself signals all processes of a job
        with signals_forwarded() if local else nullcontext[Forward](lambda child: None) as forward_to:
            if local:
                self.pid_file.write_text(str(os.getpid()), encoding="ascii")
            for step in self.steps:
                if not status and (job.node == 0 or step.everywhere):
                    status = self._run(step, environment, forward_to)
        if status == STOPPED and job.node > 0:
            time.sleep(self.stop_seconds)  # until the first node has requeued the job
        self.status_file(job.node).write_text(str(status), encoding="ascii")
        self.pid_file.unlink(missing_ok=True)
        if status:  # when submitit has ended, too: SLURM then calls the job failed
            atexit.register(_exit_with, status)
        return status

    def checkpoint(self) -> Any:
        """At the time limit: stop the command, which saves, and return what to run when requeued."""
        from submitit.helpers import DelayedSubmission

        if self._child is not None:
            _stop(self._child, self.stop_seconds)
        self._child = None
        with contextlib.suppress(OSError), open(self.requeues_file, "ab") as file:
            file.write(b".")
        return DelayedSubmission(self)

    def _run(self, step: Step, environment: dict[str, str], forward_to: Forward) -> int:
        with signals_held(signal.SIGUSR2):  # of the time limit: checkpoint() stops the child
            # SLURM sends it to all processes of a job: only this one handles it
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
            try:
                child = self._child = subprocess.Popen(step.command, env=environment)
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
        forward_to(child)
        while child.poll() is None:  # not wait(): the handler of a signal could not wait beside it
            time.sleep(_POLL)
        self._child = None
        if child.returncode >= 0:
            return child.returncode
        name = signal.Signals(-child.returncode).name
        sys.stderr.write(f"error: the command was killed by {name}.\n")
        return 128 - child.returncode

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_child": None}


def _stop(child: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Send SIGTERM, and wait most of the time that is left; the cluster kills what has not ended then."""
    deadline = time.monotonic() + 0.8 * seconds
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(child.pid, signal.SIGTERM)
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while os.waitid(os.P_PID, child.pid, options) is None and time.monotonic() < deadline:
            time.sleep(_POLL)


def _exit_with(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def rendezvous_environment(job: Any) -> dict[str, str]:
    """torchrun's options for a job on several nodes, as environment variables (`PET_` and the option's name).

    job: submitit's JobEnvironment. The first node's address is the one that SLURM's own connections use, as
    names of nodes need not be names of hosts. The port follows from the job's number, so that all nodes know
    it and jobs that share a node differ.
    """
    number = int("".join(filter(str.isdigit, job.raw_job_id)))
    address = os.environ.get("SLURM_LAUNCH_NODE_IPADDR") or job.hostnames[0]
    return {
        "PET_NNODES": str(job.num_nodes),
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ID": job.job_id,
        "PET_RDZV_ENDPOINT": f"{address}:{_FIRST_PORT + number % _PORTS}",
        "PET_RDZV_CONF": f"is_host={int(job.node == 0)}",
    }

"""Submit jobs to SLURM or to this machine, and ask which of them are still there.

A job that was submitted before and still runs is not submitted again: its id is kept beside its log, under a
digest of its commands.
"""

import contextlib
import getpass
import hashlib
import io
import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmpt.cluster.job import Job, Step
from mmpt.cluster.submitted import RESULT_DELAY, Submitted
from mmpt.config import ClusterConfig
from mmpt.config.cluster_options import minutes
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import read_json, write_json
from mmpt.utils.parallel import cores

log = logging.getLogger(__name__)

KINDS = ("slurm", "local")
_YEAR = 366 * 24 * 60.0
_EARLY = 60
"""Seconds by which SLURM may send the signal of the time limit too early."""
_QUEUE_EVERY = 5.0
"""Seconds between two calls of squeue: it is one program for all users of a cluster."""


class Cluster:
    """Where jobs run. kind: one of KINDS. name: of the command, for names of jobs and files."""

    def __init__(self, kind: str, config: ClusterConfig, name: str):
        """Raises UserError if jobs cannot be submitted from here."""
        if config.nodes > 1 and name != "train":
            log.warning("cluster.nodes: %d is for `signclip train`: these jobs have one node", config.nodes)
            config = replace(config, nodes=1)
        self.kind, self.config, self.name = kind, config, name.replace(" ", "-")
        self.slurm = kind == "slurm"
        runs = os.environ.get("SIGNCLIP_RUNS", "runs")
        self.folder = Path(config.folder or Path(runs, "cluster")).absolute() / self.name
        self._local: dict[str, Any] = {}
        self._queue: tuple[float, dict[str, str] | None] = (-math.inf, None)
        self._check()

    def _check(self) -> None:
        try:
            import submitit  # noqa: F401
        except ModuleNotFoundError as error:
            raise MissingDataError(
                f"--cluster {self.kind} needs {error.name}, which is not installed: "
                '`pip install "mmpt[cluster]"` (in a checkout: `pip install -r requirements-cluster.txt`).'
            ) from None
        if self.slurm and (missing := next((n for n in ("sbatch", "srun") if not shutil.which(n)), None)):
            raise UserError(
                f"--cluster slurm: there is no {missing} on the PATH: run the command on a login node of the "
                "cluster, or on this machine with --cluster local."
            )
        if self.slurm and self.config.time is None:
            raise UserError(
                "--cluster slurm: cluster.time is not set: set the time limit of a job, such as '04:00:00'; "
                "a job that reaches it is requeued and resumes."
            )
        if self.slurm and (seconds := 60 * self._limit) <= self.config.stop_seconds + _EARLY:
            raise UserError(
                f"--cluster slurm: cluster.time is {seconds} s and cluster.stop_seconds "
                f"{self.config.stop_seconds}: SLURM sends the signal to stop up to {_EARLY} s early, perhaps "
                "when the job starts: set the limit higher."
            )
        if not self.slurm and self.config.nodes > 1:
            raise UserError(
                f"--cluster local: cluster.nodes is {self.config.nodes}, and this is one machine: use "
                "--cluster slurm, or set it to 1."
            )

    @property
    def _limit(self) -> int:
        """The time limit in minutes, in which SLURM counts."""
        return math.ceil(minutes(self.config.time or "") or 0)

    @property
    def at_once(self) -> int | None:
        """How many jobs are submitted at a time; None: all."""
        return None if self.slurm else self.config.array_parallelism or cores()

    def job(self, name: str, steps: Sequence[Step]) -> Job:
        """A job that runs these commands in the working directory."""
        words = [str(Path.cwd()), *(word for step in steps for word in step.command)]
        digest = hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]
        environment: dict[str, str | None] = {}
        if not self.slurm and self.config.gpus_per_node is None:  # submitit would hide all GPUs
            environment["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES")
        return Job(name, tuple(steps), self.folder / digest, self.config.stop_seconds, environment)

    def submit(self, jobs: Sequence[Job]) -> list[Submitted]:
        """Submit the jobs that are not yet running, several of them as one array. Raises UserError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        running = self._running(jobs)
        todo = [job for job in jobs if job.files not in running]
        for job in todo:
            for file in (job.pid_file, job.requeues_file, *map(job.status_file, range(self.config.nodes))):
                file.unlink(missing_ok=True)
        handles = iter(self._submit(todo) if todo else [])
        submitted = []
        for job in jobs:
            handle = running.get(job.files) or next(handles)
            one = Submitted(job, handle, RESULT_DELAY if self.slurm else 0.0)
            if self.slurm:
                write_json(job.files.with_suffix(".json"), {"job": one.id, "name": job.name})
            else:
                self._local[one.id] = handle
            submitted.append(one)
        if running:
            log.info("jobs still queued: %d; waiting for them, not submitting them again", len(running))
        if todo:
            new = [one.id for one in submitted if one.job.files not in running]
            ids = ", ".join(dict.fromkeys(number.partition("_")[0] for number in new))
            log.log(
                logging.INFO if self.slurm else logging.DEBUG,
                *("jobs submitted: %d (%s); logs are in %s", len(todo), ids, self.folder),
            )
        return submitted

    def _running(self, jobs: Iterable[Job]) -> dict[Path, Any]:
        """submitit's handles of the jobs that an earlier command submitted and that have not ended."""
        if not self.slurm:
            return {}
        from submitit import SlurmJob

        found: dict[Path, Any] = {}
        queue = None
        for job in jobs:
            record = job.files.with_suffix(".json")
            if record.is_file():
                queue = self.queue() if queue is None else queue
                number = str(read_json(record)["job"])
                if queue is not None and number in queue:
                    nodes = range(self.config.nodes)
                    found[job.files] = SlurmJob(self.folder, number, tasks=list(nodes))
        return found

    def _submit(self, jobs: Sequence[Job]) -> list[Any]:
        from submitit import LocalExecutor, SlurmExecutor
        from submitit.core.utils import FailedJobError

        kind = SlurmExecutor if self.slurm else LocalExecutor
        executor = kind(self.folder, max_num_timeout=self.config.max_requeues)
        executor.update_parameters(**(self._of_slurm() if self.slurm else self._of_local()))
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # what sbatch says is in the error, too
                return list(executor.submit_array(list(jobs)))
        except FailedJobError as error:
            raise UserError(f"--cluster slurm: {self._refusal(str(error))}") from None

    def _of_slurm(self) -> dict[str, Any]:
        """The parameters of submitit's SlurmExecutor."""
        config = self.config
        optional = {
            name: value
            for name in ("partition", "account", "gpus_per_node", "cpus_per_task")
            if (value := getattr(config, name)) is not None
        }
        more = {"requeue": True, **({} if config.mem is None else {"mem": config.mem}), **config.sbatch}
        return {
            "job_name": f"signclip-{self.name}",
            "time": self._limit,
            "nodes": config.nodes,
            "ntasks_per_node": 1,
            "setup": ["set -e", *config.setup, "set +e"] if config.setup else [],  # as submitit does locally
            "signal_delay_s": config.stop_seconds,
            "array_parallelism": config.array_parallelism or 256,
            "additional_parameters": more,
            "srun_args": ["--kill-on-bad-exit=1"],
            **optional,
        }

    def _of_local(self) -> dict[str, Any]:
        """The parameters of submitit's LocalExecutor, whose default time limit is two minutes."""
        config = self.config
        return {
            "timeout_min": _YEAR if config.time is None else minutes(config.time),
            "signal_delay_s": config.stop_seconds,
            "gpus_per_node": config.gpus_per_node or 0,
            "setup": list(config.setup),
        }

    def _refusal(self, message: str) -> str:
        """What sbatch said, in one line; for a wrong partition with those that exist."""
        lines = [line.removeprefix("sbatch: error: ") for line in message.splitlines() if "sbatch" in line]
        said = "; ".join(lines) or " ".join(message.split())
        if self.config.partition is not None and "partition" in said.lower():
            known = _output("sinfo", "--noheader", "--format=%R")
            names = ", ".join(dict.fromkeys((known or "").split()))
            return f"there is no partition {self.config.partition!r} ({said}). Known: {names}."
        return f"sbatch refused the job: {said}"

    def queue(self) -> dict[str, str] | None:
        """Job id -> state and its reason of the jobs that wait or run; None if SLURM does not answer."""
        if not self.slurm:
            return {number: "RUNNING" for number, job in self._local.items() if job.state == "RUNNING"}
        asked, answer = self._queue
        if time.monotonic() - asked > _QUEUE_EVERY:
            user = f"--user={getpass.getuser()}"
            lines = _output("squeue", "--noheader", "--array", "--format=%i %T %r", user)
            answer = None if lines is None else dict(line.split(None, 1) for line in lines.splitlines())
            self._queue = time.monotonic(), answer
        return answer

    def cancel(self, submitted: Iterable[Submitted]) -> None:
        """Cancel the jobs that have not ended."""
        left = [one for one in submitted if one.status is None]
        if self.slurm and left:
            subprocess.run(["scancel", *(one.id for one in left)], check=False)
        for one in [] if self.slurm else left:
            try:  # submitit would send SIGINT, and SIGKILL a second later
                os.kill(int(one.job.pid_file.read_text(encoding="ascii")), signal.SIGTERM)
            except (OSError, ValueError):  # it has not begun, or has ended
                one.handle.cancel()

    def how_to_cancel(self, submitted: Iterable[Submitted]) -> str:
        """The command that cancels the jobs that have not ended."""
        return "scancel " + " ".join(dict.fromkeys(one.id.partition("_")[0] for one in submitted))


def _output(*command: str) -> str | None:
    """What a command of SLURM prints; None if it fails."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout


def signclip(*words: str) -> tuple[str, ...]:
    """The command line that runs `signclip WORDS`."""
    return (sys.executable, "-m", "mmpt", *words)

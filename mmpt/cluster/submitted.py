"""A submitted job: whether it has ended, its exit status, the end of its log."""

import signal
import time
from pathlib import Path
from typing import Any

from mmpt.cluster.job import Job
from mmpt.utils.logging import last_line

RESULT_DELAY = 15.0
"""Seconds in which the files of a job that has left the queue become visible on a shared file system."""


class Submitted:
    """A job of a cluster. handle: submitit's. status: its exit status, once it has ended."""

    def __init__(self, job: Job, handle: Any, delay: float = RESULT_DELAY):
        self.job, self.handle = job, handle
        self.status: int | None = None
        self._delay = delay
        self._gone: float | None = None

    @property
    def id(self) -> str:
        """The cluster's id of the job."""
        return str(self.handle.job_id)

    def poll(self, queue: dict[str, str] | None) -> int | None:
        """Its exit status; None while it waits or runs. queue: states by job id; None if they are unknown.

        A job that has failed may run again: SLURM or its user requeue it.
        """
        saved = 0 if self.status == 0 else self._saved_status()
        if saved == 0:
            self.status = 0
        elif queue is None:
            self._gone = None
        elif self.id in queue:
            self.status = self._gone = None
        elif saved is not None:
            self.status = saved
        elif self._gone is None:
            self._gone = time.monotonic()
        elif time.monotonic() - self._gone >= self._delay:  # killed with what runs the command, or cancelled
            self.status = 128 + signal.SIGKILL
        return self.status

    def _saved_status(self) -> int | None:
        first = self._status_of(0)
        if first is None:  # an error of submitit's own, such as an import that fails on the node
            return 2 if self.handle.task(0).paths.result_pickle.exists() else None
        others = map(self._status_of, range(1, self.handle.num_tasks))
        return max([first, *(status for status in others if status is not None)])

    def _status_of(self, node: int) -> int | None:
        try:
            return int(self.job.status_file(node).read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    @property
    def log_file(self) -> Path:
        """The log of the node that failed first, or else of the first node."""
        failed = [node for node in range(self.handle.num_tasks) if self._status_of(node)]
        files = [self.job.status_file(node) for node in failed]
        first = min(zip(files, failed), key=lambda found: found[0].stat().st_mtime)[1] if failed else 0
        return Path(self.handle.task(first).paths.stderr)

    def last_line(self) -> str:
        """The last line of the log that the command wrote; "" if there is none."""
        return last_line(self.log_file)

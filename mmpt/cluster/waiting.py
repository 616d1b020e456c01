"""Wait for jobs, with their common progress; interrupted, say how they are cancelled."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence

from mmpt.cluster.job import Job
from mmpt.cluster.submission import Cluster
from mmpt.cluster.submitted import Submitted
from mmpt.utils.progress import Progress

log = logging.getLogger(__name__)

_POLL = 0.2


def run_jobs(
    cluster: Cluster,
    jobs: Sequence[Job],
    cancel_on_interrupt: bool = False,
    shown: bool = True,
    progress: Callable[[], Iterable[tuple[int, int]]] = tuple,
) -> list[int]:
    """Run the jobs and wait for them; their exit statuses. Logs why each failed one did.

    progress: clips done and all clips of each job, for the bar. After Ctrl-C or SIGTERM jobs of SLURM keep
    running, unless cancel_on_interrupt; local ones are stopped.
    """
    waiting, submitted = list(jobs), list[Submitted]()
    try:
        with Progress(0, shown) as bar:
            while waiting or any(one.status is None for one in submitted):
                running = sum(one.status is None for one in submitted)
                count = len(waiting) if cluster.at_once is None else max(0, cluster.at_once - running)
                if waiting[:count]:
                    submitted += cluster.submit(waiting[:count])
                    del waiting[:count]
                queue = cluster.queue()
                ended = sum(one.poll(queue) is not None for one in submitted)
                counts = list(progress())
                bar.move_to(sum(done for done, _ in counts), sum(total for _, total in counts))
                bar.show(0, f"{ended} of {len(jobs)} jobs ended")
                time.sleep(_POLL)
    except KeyboardInterrupt:
        interrupted(cluster, submitted, cancel_on_interrupt)
        raise
    for one in submitted:
        if one.status:
            log.error("%s", failure(one))
    if not any(one.status for one in submitted):
        log.info("%d jobs have ended; logs are in %s", len(submitted), cluster.folder)
    return [one.status or 0 for one in submitted]


def failure(one: Submitted) -> str:
    """Why a job failed, in one line."""
    why = one.last_line() or "it was killed or cancelled"
    return f"{one.job.name} failed (exit status {one.status}): {why} (log: {one.log_file})"


def interrupted(cluster: Cluster, submitted: Sequence[Submitted], cancel: bool) -> None:
    """Cancel the jobs that have not ended, if they are local or that was asked for; else say how."""
    left = [one for one in submitted if one.status is None]
    if not left:
        return
    if cancel or not cluster.slurm:
        cluster.cancel(left)
        log.warning("%d jobs cancelled", len(left))
    else:
        log.warning(
            "%d jobs keep running: cancel them with `%s`, or repeat the command to wait for them",
            *(len(left), cluster.how_to_cancel(left)),
        )

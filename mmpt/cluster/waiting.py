"""Wait for jobs, with their common progress; interrupted, say how they are cancelled."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

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
    progress: Callable[[], Iterable[tuple[int, int]]] | None = None,
) -> list[int]:
    """Run the jobs and wait for them; their exit statuses. Logs why each failed one did.

    progress: clips done and all clips of each job, for the bar (None: it counts jobs). After Ctrl-C or
    SIGTERM jobs of SLURM keep running, unless cancel_on_interrupt; local ones are stopped.
    """
    if not jobs:
        return []
    waiting, submitted = list(jobs), list[Submitted]()
    try:
        with Progress(0, shown, unit="clip" if progress else "job") as bar:
            while waiting or any(one.status is None for one in submitted):
                running = sum(one.status is None for one in submitted)
                count = len(waiting) if cluster.at_once is None else max(0, cluster.at_once - running)
                if waiting[:count]:
                    submitted += cluster.submit(waiting[:count])
                    del waiting[:count]
                queue = cluster.queue()
                ended = sum(one.poll(queue) is not None for one in submitted)
                counts = list(progress()) if progress else [(ended, len(jobs))]
                bar.move_to(sum(done for done, _ in counts), sum(total for _, total in counts))
                notes = [f"{ended} of {len(jobs)} jobs ended"] if progress else []
                if requeues := sum(one.job.requeues for one in submitted):
                    notes.append(f"requeued at the time limit: {requeues}")
                bar.show(0, ", ".join([*notes, *_why_waiting(submitted, queue or {})]))
                time.sleep(_POLL)
    except KeyboardInterrupt:
        interrupted(cluster, submitted, cancel_on_interrupt)
        raise
    for one in submitted:
        if one.status:
            log.error("%s", failure(one))
    if not any(one.status for one in submitted):
        log.info("jobs ended: %d; logs are in %s", len(submitted), cluster.folder)
    return [one.status or 0 for one in submitted]


def _why_waiting(submitted: Iterable[Submitted], queue: Mapping[str, str]) -> list[str]:
    """How many jobs wait in the queue, by reason: a job that asks for too much may wait for ever."""
    states = [queue.get(one.id, "") for one in submitted]
    reasons = Counter(state.partition(" ")[2] for state in states if state.startswith("PENDING"))
    return [f"{count} waiting ({reason})" for reason, count in reasons.most_common()]


def failure(one: Submitted) -> str:
    """Why a job failed, in one line."""
    why = one.last_line() or "it was killed or cancelled, or a command of cluster.setup failed"
    return f"{one.job.name} failed (exit status {one.status}): {why} (log: {one.log_file})"


def interrupted(cluster: Cluster, submitted: Sequence[Submitted], cancel: bool) -> None:
    """Cancel the jobs that have not ended, if they are local or that was asked for; else say how."""
    left = [one for one in submitted if one.status is None]
    if not left:
        return
    if cancel or not cluster.slurm:
        cluster.cancel(left)
        log.warning("jobs cancelled: %d", len(left))
    else:
        log.warning(
            "jobs still running: %d; cancel them with `%s`, or repeat the command to wait for them",
            *(len(left), cluster.how_to_cancel(left)),
        )

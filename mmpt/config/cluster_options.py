"""The `cluster:` section of a config: how `--cluster slurm` and `--cluster local` submit jobs."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mmpt.config.fields import opt

MAX_SHARDS = 10_000


@dataclass
class ClusterConfig:
    """Resources of a job, and what happens at its time limit. What is not set is up to the cluster."""

    partition: str | None = opt(None, "partition of SLURM")
    account: str | None = opt(None, "account that the time is charged to")
    time: str | None = opt(
        None,
        "time limit of a job, as sbatch reads it: '90' (minutes), '04:00:00', '2-00:00:00'; a job that "
        "reaches it is requeued and resumes",
    )
    nodes: int = opt(1, "train: nodes of a training", minimum=1, maximum=10_000)
    gpus_per_node: int | None = opt(
        None, "GPUs of a node; train: also its processes, one per GPU", minimum=0, maximum=1000
    )
    cpus_per_task: int | None = opt(None, "CPU cores of a job on each node", minimum=1, maximum=100_000)
    mem: str | None = opt(None, "memory of a node, as sbatch reads it: 32G")
    setup: list[str] = opt([], "shell commands before the job's own, such as 'module load ffmpeg'")
    shards: int | None = opt(
        None,
        "extract, embed, check, evaluate: number of shards, a job each (--shards)",
        minimum=1,
        maximum=MAX_SHARDS,
    )
    array_parallelism: int | None = opt(
        None,
        "jobs that run at the same time at most; null: 256 on SLURM, one per CPU core with --cluster local",
        minimum=1,
    )
    stop_seconds: int = opt(
        90, "seconds before the time limit at which a job is asked to stop and save", minimum=1, maximum=86400
    )
    max_requeues: int = opt(100, "how often a job that reached its time limit is requeued", minimum=0)
    folder: str | None = opt(
        None, "folder of logs and job files, on a file system that all nodes share; null: runs/cluster"
    )
    sbatch: dict[str, Any] = opt({}, "other options of sbatch by name, such as qos or constraint")


OF_THE_JOBS = {"array", "error", "open_mode", "output", "parsable", "signal", "test_only", "wait", "wrap"}
OF_THE_JOBS |= {"no_requeue", "ntasks", "ntasks_per_node"}
"""Options of sbatch on which the jobs depend."""

_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


def minutes(time: str) -> float | None:
    """The minutes of a time limit as sbatch reads it; None if it is none.

    Formats: minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes,
    days-hours:minutes:seconds.
    """
    found = _TIME.fullmatch(time.strip())
    if not found:
        return None
    days, *rest = found.groups()
    numbers = [int(number) for number in rest if number is not None]
    if days is None:
        hours, mins, seconds = {1: (0, *numbers, 0), 2: (0, *numbers), 3: tuple(numbers)}[len(numbers)]
    else:
        hours, mins, seconds = (*numbers, 0, 0)[:3]
    return (int(days or 0) * 24 + hours) * 60 + mins + seconds / 60


_OF_SLURM_CONFIG: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "partition": ("partition", str),
    "account": ("account", str),
    "time": ("time", str),
    "timeout_min": ("time", str),
    "nodes": ("nodes", int),
    "num_nodes": ("nodes", int),
    "gpus_per_node": ("gpus_per_node", int),
    "cpus_per_task": ("cpus_per_task", int),
    "mem": ("mem", str),
    "mem_gb": ("mem", "{}G".format),
    "setup": ("setup", list),
    "array_parallelism": ("array_parallelism", int),
    "signal_delay_s": ("stop_seconds", int),
}
"""Key of a published `slurm_config`, in the names of sbatch or submitit -> key of `cluster`, conversion."""


def of_slurm_config(published: str | dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The keys of `cluster` that a published `slurm_config` sets, and a message about its ignored keys.

    A name, such as MMPT's `big`, stands for settings of one institute's cluster, which were not published.
    """
    if isinstance(published, str):
        return {}, f"{published!r} names settings of MMPT's own cluster: ignored, set cluster: instead"
    found: dict[str, Any] = {}
    ignored = []
    for key, value in published.items():
        try:
            name, convert = _OF_SLURM_CONFIG[str(key).removeprefix("slurm_").replace("-", "_")]
            found[name] = convert(value)
        except (KeyError, TypeError, ValueError):
            ignored.append(str(key))
    return found, f"ignored {', '.join(ignored)}" if ignored else ""

"""The trainings of an experiment as jobs of a cluster (see mmpt.experiments.runs.Launcher)."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmpt.cluster.job import Step
from mmpt.cluster.submission import Cluster
from mmpt.cluster.submitted import Submitted
from mmpt.cluster.waiting import failure, interrupted
from mmpt.config import load_cluster_config, load_config
from mmpt.utils.files import write_text


class ClusterTrainings:
    """A job for each training, which submits those of one experiment one after the other."""

    def __init__(self, args: argparse.Namespace, config: Path, overrides: Sequence[str]):
        """args: with the options of mmpt.cli.command. config: whose section cluster: is used."""
        given = args.cluster_config
        section = load_cluster_config(given) if given else load_config(config, list(overrides)).cluster
        self._cluster = Cluster(args.cluster, section, args.command_line.split()[2])
        self._cancel = args.cancel_on_interrupt
        self.at_once = self._cluster.at_once

    def start(self, run: Any, command: Sequence[str]) -> Submitted:
        """Submit the training of a run, if an earlier command has not."""
        return self._cluster.submit([self._cluster.job(run.name, [Step(tuple(command))])])[0]

    def status(self, started: Submitted) -> int | None:
        """Its exit status; None while it waits or runs."""
        return started.poll(self._cluster.queue())

    def failure(self, run: Any, started: Submitted, status: int) -> str:
        """Why it failed, in one line. Written to the run's log, as the job's log is in another folder."""
        why = failure(started)
        write_text(run.folder / "log.txt", f"{why}\n")
        return why

    def stop(self, started: Sequence[Submitted]) -> None:
        """Cancel the jobs, if asked to; else say how."""
        interrupted(self._cluster, started, self._cancel)

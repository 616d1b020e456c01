"""Run many trainings with their evaluations (seeds, folds, ablations), each once.

A run is a config with overrides and a folder. A finished run with the same settings is not repeated, and an
interrupted one is resumed. Checkpoints are deleted once the results are complete.
"""

import fcntl
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mmpt.config import load_config
from mmpt.config.compare import without_defaults
from mmpt.config.run_folder import CHECKPOINT
from mmpt.evaluators.provenance import changed_files, data_files, digest
from mmpt.evaluators.reports.results import read_results
from mmpt.processors.table_file import SPLITS
from mmpt.utils.errors import UserError, sigterm_as_interrupt
from mmpt.utils.files import read_json, write_json
from mmpt.utils.logging import last_line
from mmpt.utils.parallel import check_workers, cores
from mmpt.utils.progress import Bar

log = logging.getLogger(__name__)

LAUNCH = ("-m", "mmpt", "train")
_RECORD = "run.json"
_POLL = 0.2


@dataclass(frozen=True)
class Run:
    """One training and its evaluation. Raises UserError if the config is wrong.

    select: "best" evaluates the checkpoint that is best on the validation split; "last" trains without
    validation for a fixed number of epochs and evaluates the last checkpoint.
    """

    name: str
    config: Path
    overrides: tuple[str, ...]
    folder: Path
    select: str = "best"

    def __post_init__(self) -> None:
        load_config(self.config, self.arguments)

    @property
    def arguments(self) -> tuple[str, ...]:
        """All overrides, including those for the folders and the evaluation."""
        chosen = [
            f"fairseq.checkpoint.save_dir={_override_value(self.folder)}",
            f"eval.save_path={_override_value(self.folder / 'eval')}",
            "eval.after_training=true",
        ]
        if self.select == "last":
            chosen.append("fairseq.dataset.disable_validation=true")
        return (*self.overrides, *chosen)

    @property
    def command(self) -> list[str]:
        """The command that trains and evaluates."""
        return [sys.executable, *LAUNCH, str(self.config), *self.arguments]

    def results(self) -> dict[str, Any] | None:
        """The saved results, or None. Raises UserError if they are of other settings or data."""
        record = self._record()
        if record is None:
            return None
        remedy = "move it away, or give another folder with --out."
        if record.get("settings") != self.digest():
            raise UserError(f"{self.folder} holds a run of {self.name} with other settings: {remedy}")
        if changed := changed_files(record.get("files", {}), self.files()):
            raise UserError(
                f"{self.folder} holds a run of {self.name} on other data: the files of {', '.join(changed)} "
                f"have changed: {remedy}"
            )
        return read_results(self.folder / "eval")

    def data_not_recorded(self) -> bool:
        """Whether it is a finished run of an older mmpt, which did not record the hashes of data files."""
        record = self._record()
        return record is not None and "files" not in record and bool(self.files())

    def correct(self) -> np.ndarray:
        """bool [N]: which clips of the test split are nearest to their own prompt."""
        ids = read_json(self.folder / "eval" / "ids.json")
        return np.equal(ids["prompt_of_video"], ids["nearest_prompt"])

    def digest(self) -> str:
        """A digest of the settings that affect results, without paths and default values.

        Default values are left out so that new keys of mmpt do not change the digest of an old run.
        """
        config = load_config(self.config, self.overrides)
        config.fairseq.get("checkpoint", {}).pop("save_dir", None)
        settings = without_defaults(config)
        settings.pop("cluster")
        return digest([settings, self.select])

    def mark_done(self, files: dict[str, str]) -> None:
        """Record the results as complete, with the data `files` at the start; delete the checkpoints."""
        facts = {"settings": self.digest(), "files": files, "arguments": list(self.arguments)}
        write_json(self.folder / _RECORD, facts)
        for path in self.folder.iterdir():
            if CHECKPOINT.fullmatch(path.name):
                path.unlink()

    def _record(self) -> dict[str, Any] | None:
        record = self.folder / _RECORD
        return read_json(record) if record.is_file() else None

    def files(self) -> dict[str, str]:
        """Current hashes of the data files (see data_files); empty if the config is wrong."""
        try:
            return data_files(load_config(self.config, self.overrides), SPLITS)
        except UserError:
            return {}


def _override_value(path: Path) -> str:
    """A path as the value of an override, quoted if YAML requires it."""
    plain = re.fullmatch(r"[\w./+-]*[A-Za-z/][\w./+-]*", str(path))
    return str(path) if plain else json.dumps(str(path), ensure_ascii=False)


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the values of an option from the overrides (key=value) that argparse added to them."""
    return [word for word in words if "=" not in word], [word for word in words if "=" in word]


def seeds_of(words: Sequence[str]) -> list[int]:
    """Parse seeds. Raises UserError for a word that is not a number and for a repeated seed."""
    try:
        seeds = [int(word) for word in words]
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds {' '.join(words)}: expected whole numbers, each once.")
    return seeds


def run_all(
    runs: Sequence[Run], jobs: int | None = None, force: bool = False, launcher: "Launcher | None" = None
) -> list[Run]:
    """Run the unfinished runs, each in its own process with its own log file.

    jobs: how many at a time; None: one per core. force: replace evaluations of an older version or of other
    settings in their folders. launcher: starts them, instead of this machine.

    Returns the failed runs. A failure does not stop the other runs; an interruption stops all.
    """
    launcher = launcher or Processes(check_workers(jobs, cores(), "--jobs", least=1))
    waiting = [run for run in runs if run.results() is None]
    if len(waiting) < len(runs):
        log.info("%d of %d runs are already done", len(runs) - len(waiting), len(runs))
    if old := sum(run.data_not_recorded() for run in runs):
        log.warning("%d finished runs have no hashes of their data files, which are not compared", old)
    running: dict[Run, Any] = {}
    files: dict[Run, dict[str, str]] = {}
    failed: list[Run] = []
    with Bar(total=len(waiting), unit="run", disable=not waiting) as bar, sigterm_as_interrupt():
        try:
            while waiting or running:
                while waiting and (launcher.at_once is None or len(running) < launcher.at_once):
                    run = waiting.pop(0)
                    files[run] = run.files()
                    run.folder.mkdir(parents=True, exist_ok=True)
                    try:
                        running[run] = launcher.start(run, [*run.command, *(["--force"] if force else [])])
                    except RunInUseError as error:
                        failed.append(run)
                        bar.update()
                        log.error("%s", error)
                time.sleep(_POLL)
                for run, started in list(running.items()):
                    status = launcher.status(started)
                    if status is None:
                        continue
                    del running[run]
                    bar.update()
                    if status:
                        failed.append(run)
                        log.error("%s", launcher.failure(run, started, status))
                    else:
                        run.mark_done(files[run])
        finally:
            if running:
                launcher.stop(list(running.values()))
    return failed


class RunInUseError(UserError):
    """Another process is in the folder of a run."""


class Launcher(Protocol):
    """How the trainings of run_all are started. at_once: how many run at the same time; None: all."""

    at_once: int | None

    def start(self, run: Run, command: Sequence[str]) -> Any:
        """Start the command of a run."""

    def status(self, started: Any) -> int | None:
        """The exit status of a run; None while it runs."""

    def failure(self, run: Run, started: Any, status: int) -> str:
        """Why it failed, in one line."""

    def stop(self, started: Sequence[Any]) -> None:
        """Stop what runs when run_all is interrupted."""


class Processes:
    """Trainings as processes of this machine."""

    def __init__(self, jobs: int):
        self.at_once: int | None = jobs
        threads = str(max(1, cores() // jobs))
        self._environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)}

    def start(self, run: Run, command: Sequence[str]) -> "subprocess.Popen[bytes]":
        """See Launcher."""
        with open(_log(run), "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until the run ends: it inherits the file
            except BlockingIOError:
                raise RunInUseError(
                    f"{run.folder} is in use by another experiment: wait for it, or give another folder with "
                    "--out."
                ) from None
            except OSError as error:
                log.warning("%s: this file system has no locks (%s)", run.folder, error.strerror)
            # its own process group: Ctrl-C reaches it once, through us
            return subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=self._environment, process_group=0
            )

    def status(self, started: "subprocess.Popen[bytes]") -> int | None:
        """See Launcher."""
        return started.poll()

    def failure(self, run: Run, started: "subprocess.Popen[bytes]", status: int) -> str:
        """See Launcher."""
        why = last_line(_log(run)) or "it was killed"
        return f"{run.name} failed (exit status {status}): {why} (log: {_log(run)})"

    def stop(self, started: "Sequence[subprocess.Popen[bytes]]") -> None:
        """See Launcher."""
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def _log(run: Run) -> Path:
    return run.folder / "log.txt"

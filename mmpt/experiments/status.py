"""The status of an experiment: whether it is trained and evaluated, and how it differs from its config.

An experiment is named by its evaluation config, test_X.yaml. X.yaml in the same folder, if any, trains it.
"""

import shlex
from functools import cached_property
from pathlib import Path
from typing import Any

from mmpt.config import Config, evaluates, load_config
from mmpt.config.compare import differences, dotted
from mmpt.config.fairseq_options import option
from mmpt.config.run_folder import LAST, SAVED_CONFIG
from mmpt.evaluators.provenance import changed_files, data_files, digest, evaluation_facts
from mmpt.evaluators.reports.results import read_results
from mmpt.extractors.manifest import trial_weights
from mmpt.tasks import Task
from mmpt.training.resume import read_data, training_data
from mmpt.utils.errors import UserError
from mmpt.utils.files import read_record, write_json
from mmpt.utils.stand_in import stand_in_note

_FINISHED = "training_finished.json"
_TEST_FILE = "dataset.test_path"  # training does not read it
_SECTIONS = ("dataset", "model", "loss", "fairseq")
# paths and performance options, which do not affect results; data files are compared by content
_IRRELEVANT = (
    *("_path", "_dir", ".path", ".split", "finetune_from_model", "restore_file"),
    *(
        "num_workers",
        "allow_trial_features",
        "log_interval",
        "fp16",
        "no_save_optimizer_state",
        "no_last_checkpoints",
    ),
)
# options that may be increased later: training resumes
_MAY_INCREASE = (
    "fairseq.optimization.max_epoch",
    "fairseq.optimization.max_update",
    "fairseq.checkpoint.patience",
)


class Experiment:
    """A config with its overrides, and the files it writes. Raises UserError if the config is wrong."""

    def __init__(self, path: Path, overrides: list[str]):
        self.path, self.overrides = path, list(overrides)
        self.name = path.stem
        self.config = load_config(path, overrides)
        if not evaluates(path, self.config):
            raise UserError(
                f"{path} is a training config: give its evaluation config, such as "
                f"{path.with_name(f'test_{path.name}')}."
            )
        task = Task(self.config)
        self.checkpoint, self.results_folder = task.checkpoint_path(), task.results_path()
        twin = path.with_name(path.name.removeprefix("test_"))
        given = option(self.config.fairseq, "path") is not None
        self.trained_by = twin if twin != path and twin.is_file() and not given else None

    @cached_property
    def training_config(self) -> Config | None:
        """The training config, or None if nothing is trained."""
        return None if self.trained_by is None else load_config(self.trained_by, self.overrides)

    # ---- training
    def needs_training(self) -> bool:
        """Whether the model has to be trained or an interrupted training resumed.

        A checkpoint_best.pt without checkpoint_last.pt was copied in and is used as it is. Raises UserError
        if the checkpoints are of a training with other settings or data.
        """
        if self.training_config is None:
            return False
        if not self.checkpoint.is_file():
            return True
        if not self.checkpoint.with_name(LAST).is_file() and not self._finished_file.is_file():
            return False
        changed = [key for key in self._changed_since_training() if key not in _MAY_INCREASE]
        if changed:
            raise UserError(
                f"{self.checkpoint.parent} holds a training of {self.name} with other settings or data "
                f"({', '.join(changed)}): move it away, or set SIGNCLIP_RUNS to another folder."
            )
        return read_record(self._finished_file).get("settings") != self._digest()

    def mark_trained(self, files: dict[str, str]) -> None:
        """Record the training as complete, with the `files` (see training_files) at its start."""
        facts = {"settings": self._digest(), "files": files, "overrides": self.overrides}
        write_json(self._finished_file, facts)

    def training_files(self) -> dict[str, str]:
        """Hashes of the data that the training reads (see data_files)."""
        assert self.training_config is not None
        found = training_data(self.training_config)
        return {key: sha for key, sha in found.items() if key != _TEST_FILE}

    @property
    def _finished_file(self) -> Path:
        return self.checkpoint.with_name(_FINISHED)

    def _digest(self) -> str:
        assert self.training_config is not None
        return digest(_settings(self.training_config))

    def _changed_since_training(self) -> list[str]:
        """Changed settings and data files.

        Hashes of the data are recorded when a training ends, and by training itself when it starts. Without a
        record, the files that its config names are compared with those that are named now.
        """
        saved = self.checkpoint.with_name(SAVED_CONFIG)
        if self.training_config is None or not saved.is_file():
            return []
        trained = load_config(saved)
        files = (
            read_record(self._finished_file).get("files") or read_data(saved.parent) or data_files(trained)
        )
        return [
            *sorted(differences(_settings(trained), _settings(self.training_config))),
            *changed_files(files, self.training_files()),
        ]

    # ---- evaluation
    def needs_evaluation(self) -> bool:
        """Whether results are missing, or of another checkpoint, other settings or other data.

        Results without a record of settings and data count as missing.
        """
        results = self.results()
        if results is None or results.get("checkpoint") != str(self.checkpoint):
            return True
        made = (self.results_folder / "results.json").stat().st_mtime
        if self.checkpoint.is_file() and self.checkpoint.stat().st_mtime > made:
            return True
        kept, now = results.get("evaluated", {}), evaluation_facts(self.config)
        return kept.get("settings") != now["settings"] or bool(changed_files(kept["files"], now["files"]))

    def results(self) -> dict[str, Any] | None:
        """The saved results, or None."""
        if not (self.results_folder / "results.json").is_file():
            return None
        return read_results(self.results_folder)

    # ---- notes
    def stand_ins(self) -> list[str]:
        """Notes on stand-in data that the experiment uses: clips, features, initial weights."""
        dataset = self.config.dataset
        folders = [Path(p).parent for p in (dataset.test_path,) if p] + [
            Path(p) for p in (dataset.vfeat_dir,) if p
        ]
        start = option(self.training_config.fairseq, "finetune_from_model") if self.training_config else None
        folders += [Path(start or self.checkpoint).parent]
        notes = [note for folder in dict.fromkeys(folders) if (note := stand_in_note(folder))]
        weights = trial_weights(dataset.vfeat_dir) if dataset.vfeat_dir else None
        return notes + ([f"features of a network with random weights ({weights})"] if weights else [])

    def changed_settings(self) -> list[str]:
        """Settings of the run that differ from the config files, such as `max_epoch=1`."""
        results = self.results()
        overrides = self.overrides if results is None else _overrides_in(results.get("command"))
        found: dict[str, Any] = {}
        if relevant := _relevant(overrides):
            found = _changed_settings(load_config(self.path), load_config(self.path, relevant))
        saved = self.checkpoint.with_name(SAVED_CONFIG)
        if self.trained_by is not None and saved.is_file():
            try:
                trained = load_config(saved)
            except UserError as error:  # saved by another version
                return [f"its training config cannot be read ({error})"]
            found |= _changed_settings(load_config(self.trained_by), trained)
        return [f"{key.rpartition('.')[2]}={value}" for key, value in sorted(found.items())]


def _changed_settings(config: Config, other: Config) -> dict[str, Any]:
    """Key -> its value in `other`, for settings that differ and data files whose content differs."""
    found = {key: now for key, (_, now) in differences(_settings(config), _settings(other)).items()}
    for key in changed_files(data_files(config), data_files(other)):
        found[key] = getattr(other.dataset, key.removeprefix("dataset."))
    return found


def _overrides_in(command: str | None) -> list[str]:
    """The overrides in a command line of results.json."""
    words = shlex.split(command or "")
    return [word for word in words if "=" in word and not word.startswith("-") and not word.endswith(".yaml")]


def _relevant(overrides: list[str]) -> list[str]:
    """The overrides that an evaluation depends on: not those of `fairseq`, which only affect training."""
    return sorted(override for override in overrides if not override.startswith("fairseq."))


def _settings(config: Config) -> dict[str, Any]:
    """The settings that affect results, by dotted key."""
    content = {name: getattr(config, name) for name in _SECTIONS}
    return {key: value for key, value in dotted(content).items() if not key.endswith(_IRRELEVANT)}

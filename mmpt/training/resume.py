"""What a training run starts from, and whether it may.

`find_start` decides from the files in `fairseq.checkpoint.save_dir` and from the config. The first row that
applies wins:

| found                                                     | start     | what is loaded                     |
|-----------------------------------------------------------|-----------|------------------------------------|
| checkpoint_last.pt in save_dir                            | OWN_LAST  | everything; `reset_*` is ignored   |
| checkpoint_best.pt and config.yaml in save_dir, no last   | OWN_BEST  | everything; `reset_*` is ignored   |
| checkpoint_best.pt without config.yaml: it was copied in  | refused   | it is never overwritten            |
| finetune_from_model, or restore_file with reset_optimizer | FINETUNE  | the weights                        |
| restore_file without reset_optimizer                      | OTHER_RUN | everything that no `reset_*` names |
| none of these                                             | SCRATCH   | the pretrained text model          |

`check_resume` refuses to resume with settings that the checkpoint does not fit, and, in a run's own folder,
with settings or data of another experiment.
"""

import contextlib
import dataclasses
import enum
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpt.config import Config, is_saved_config
from mmpt.config.compare import differences, trained_with
from mmpt.config.fairseq_options import option
from mmpt.config.run_folder import BEST, DATA, LAST, METRICS, SAVED_CONFIG, TOKENIZER, VERSION, save_dir
from mmpt.evaluators.provenance import CLIPS, changed_files, data_files
from mmpt.models.loading import weights_file
from mmpt.utils.checkpoint import load_torch_file
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import atomic_write, read_record, read_text
from mmpt.utils.missing_data_hints import where_checkpoint_comes_from

log = logging.getLogger(__name__)

# These change speed or memory only, and no checkpoint depends on them.
_COMPUTE_OPTIONS = (
    *("autocast", "compile", "matmul_precision", "nested_attention", "activation_checkpointing"),
    "init_ignore",
)
_SAME_EXPERIMENT = (
    *_COMPUTE_OPTIONS,
    *("cached_chunk", "max_nonfinite", "store_dtype", "pad_to_max", "split", "allow_trial_features"),
    *("store_shards", "check_sources"),
)
_MAY_CHANGE = (  # prefixes of options that a resumed run may set to other values without a warning
    *("fairseq.optimization.max_epoch", "fairseq.optimization.max_update", "fairseq.optimization.stop_"),
    *("fairseq.checkpoint.", "fairseq.common.", "fairseq.common_eval.", "fairseq.dataset.num_workers"),
)
_OPTIMIZER_OPTIONS = (
    ("optimization", "optimizer", None),
    ("optimization", "lr_scheduler", "fixed"),
    ("common", "fp16", False),
    ("common", "memory_efficient_fp16", False),
    ("common", "amp", False),
    ("ema", "store_ema", False),
)
_TRAINING_STATE = ("model", "optimizer_history", "last_optimizer_state", "extra_state")


class StartKind(enum.Enum):
    """The rows of the table above."""

    OWN_LAST = "own last checkpoint"
    OWN_BEST = "own best checkpoint"
    FINETUNE = "weights of another model"
    OTHER_RUN = "checkpoint of another run"
    SCRATCH = "no checkpoint"


@dataclass(frozen=True)
class Start:
    """What a run starts from.

    checkpoint: the file, or for FINETUNE the file or model folder that the config names; None for SCRATCH.
    """

    kind: StartKind
    checkpoint: Path | None = None

    @property
    def own(self) -> bool:
        """Whether the run resumes in its own folder."""
        return self.kind in (StartKind.OWN_LAST, StartKind.OWN_BEST)

    @property
    def resumes(self) -> bool:
        """Whether optimizer and epoch come from the checkpoint, and not only the weights."""
        return self.own or self.kind is StartKind.OTHER_RUN

    @property
    def weights(self) -> Path | None:
        """The file whose weights fine-tuning starts from; None for the other kinds of start."""
        if self.kind is not StartKind.FINETUNE:
            return None
        assert self.checkpoint is not None
        return weights_file(self.checkpoint)

    def check_exists(self) -> None:
        """Raises MissingDataError if the checkpoint is not there."""
        if self.kind is StartKind.OTHER_RUN and not self.checkpoint.is_file():  # type: ignore[union-attr]
            raise MissingDataError(
                f"fairseq.checkpoint.restore_file: there is no checkpoint {self.checkpoint} to resume from."
            )
        if self.weights is not None and not self.weights.is_file():
            raise MissingDataError(
                f"fairseq.checkpoint: there is no checkpoint or model folder {self.checkpoint} to start "
                f"from. {where_checkpoint_comes_from(self.weights) or 'Put one there.'} "
                "Or name another: fairseq.checkpoint.finetune_from_model=FILE_OR_FOLDER."
            )

    def alternative(self) -> str:
        """What to do if a run cannot resume from the checkpoint, as the end of a sentence."""
        if self.own:
            return "or name another fairseq.checkpoint.save_dir"
        return f"or start from its weights alone (fairseq.checkpoint.finetune_from_model={self.checkpoint})"

    def does_not_fit(self, error: Exception) -> UserError:
        """The error for a checkpoint that failed to load into the model, the loss or the optimizer."""
        return UserError(
            f"{self.checkpoint} was made with another model, loss or optimizer, and does not fit "
            f"({type(error).__name__}: {error}). Resume with the settings that it was made with, "
            f"{self.alternative()}."
        )


def find_start(groups: dict[str, Any]) -> Start:
    """What a run starts from (see the table above). groups: the `fairseq` section of a config.

    Writes nothing. Raises UserError for a best checkpoint that was copied into save_dir.
    """
    folder = save_dir(groups)
    best, last = folder / BEST, folder / LAST
    if last.exists():
        return Start(StartKind.OWN_LAST, last)
    if best.is_file():
        if not (folder / SAVED_CONFIG).is_file():
            raise UserError(
                f"{best} was copied in: there is no {SAVED_CONFIG} beside it, and training would overwrite "
                "it. Move it away, or name another fairseq.checkpoint.save_dir."
            )
        return Start(StartKind.OWN_BEST, best)
    restore = option(groups, "restore_file", LAST)
    finetune = option(groups, "finetune_from_model")
    if finetune is None and restore != LAST and option(groups, "reset_optimizer"):
        finetune = restore  # how published YAMLs ask for fine-tuning
    if finetune is not None:
        return Start(StartKind.FINETUNE, Path(finetune))
    if restore != LAST:
        return Start(StartKind.OTHER_RUN, Path(restore))
    return Start(StartKind.SCRATCH)


def check_foreign(folder: Path) -> None:
    """Raises UserError if a run that begins in `folder` would overwrite a file that no run wrote."""
    for name, ours in ((SAVED_CONFIG, is_saved_config), (DATA, _is_record), (METRICS, _is_log)):
        path = folder / name
        if os.path.lexists(path) and not ours(path):
            raise UserError(
                f"{path} was not written by a training run, and would be overwritten: move it away, or name "
                "another fairseq.checkpoint.save_dir."
            )


def _is_record(path: Path) -> bool:
    return VERSION in read_record(path)


def _is_log(path: Path) -> bool:
    start = '{"epoch": '
    try:
        return start.startswith(read_text(path)[: len(start)])  # the first line may be half-written
    except (OSError, UserError):
        return False


def adopt_best(start: Start) -> None:
    """Make the best checkpoint the last one as well, if the run resumes from it.

    The last checkpoint is missing if somebody deleted it, or if a kill came between the renames of the two.
    """
    if start.kind is StartKind.OWN_BEST:
        assert start.checkpoint is not None
        last = start.checkpoint.with_name(LAST)
        log.warning("%s is missing: resuming from %s", last, BEST)
        link_or_copy(start.checkpoint, last)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a checkpoint a second name in one step, without a moment in which `target` is half-written.

    A hard link if the file system has them: writing a checkpoint replaces the file, so the other name keeps
    its content.
    """
    with atomic_write(target) as temporary:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
            os.link(source, temporary)
            return
        shutil.copyfile(source, temporary)


def check_resume(config: Config, start: Start, data: dict[str, str]) -> None:
    """Raises UserError if a run may not resume from its checkpoint.

    That is if the settings do not fit it, if it belongs to another experiment, in its own folder if it began
    with other `data` (see training_data), or if the file holds no training state.
    """
    if not start.resumes:
        return
    assert start.checkpoint is not None
    _check_settings(config, start)
    if start.own:
        _check_data(config, start, data)
    content = load_torch_file(start.checkpoint)
    if not isinstance(content, Mapping) or not all(part in content for part in _TRAINING_STATE):
        raise UserError(
            f"{start.checkpoint} holds no training state to resume from: take another checkpoint, "
            f"{start.alternative()}."
        )
    settings = content.get("cfg") or {}
    then = settings.get("distributed_training", {}).get("distributed_world_size")
    now = int(os.environ.get("WORLD_SIZE", 1))
    if then not in (None, now):
        log.warning("resuming with world size %d, was %d: an update is made of as many batches", now, then)


def training_data(config: Config) -> dict[str, str]:
    """Hashes of the data that a training reads (see data_files). Where the data lies does not matter."""
    return data_files(config, ("train", "valid"))


def read_data(folder: Path) -> dict[str, str]:
    """The hashes that a training in `folder` began with; {} if there is no record that can be read."""
    content = read_record(folder / DATA)
    return {key: value for key, value in content.items() if key not in (TOKENIZER, VERSION)}


def _check_data(config: Config, start: Start, data: dict[str, str]) -> None:
    assert start.checkpoint is not None
    folder = start.checkpoint.parent
    before = read_data(folder)
    changed = [key for key in changed_files(before, data) if key.startswith(CLIPS)]
    if changed:
        raise UserError(
            f"the {' and the '.join(changed)}{_in_table(config)} differ from those that the run in {folder} "
            f"began with{_in_table(trained_with(start.checkpoint))} (ids, prompts, spans or content): this "
            f"would be another experiment. Resume with the data that it began with, {start.alternative()}."
        )
    if not any(key.startswith(CLIPS) for key in before):
        log.warning("%s has no record of its data (%s): not compared with the data now", folder, DATA)


def _in_table(config: Config | None) -> str:
    return f" in {config.dataset.table_path}" if config is not None and config.dataset.table_path else ""


def _check_settings(config: Config, start: Start) -> None:
    """Compare with the config beside the checkpoint; without one, loading shows whether it fits."""
    assert start.checkpoint is not None
    before = trained_with(start.checkpoint)
    if before is None:
        return
    now, then = _checkpoint_settings(config), _checkpoint_settings(before)
    if not start.own and option(config.fairseq, "reset_lr_scheduler"):
        now["fairseq.optimization.lr_scheduler"] = then["fairseq.optimization.lr_scheduler"]
    changed = {key: (then[key], now[key]) for key in now if now[key] != then[key]}
    kind = "its checkpoints are of another model, loss or optimizer"
    if start.own and not changed:
        others = differences(before, config)
        changed = {key: values for key, values in others.items() if _is_another_experiment(key)}
        kind = "this would be another experiment"
        for key, (old, new) in others.items():
            if key not in changed and key.startswith("fairseq.") and not key.startswith(_MAY_CHANGE):
                log.warning("resuming with another %s: %s, was %s", key, new, old)
    if changed:
        here = " and ".join(f"{key} is {new}" for key, (_, new) in changed.items())
        there = " and ".join(f"{key} {old}" for key, (old, _) in changed.items())
        raise UserError(
            f"{here}, but the run in {start.checkpoint.parent} began with {there}: {kind}. Resume with what "
            f"it began with, {start.alternative()}."
        )


def _is_another_experiment(key: str) -> bool:
    """Whether another value of a setting makes another experiment: a path, speed or length does not."""
    section, _, name = key.partition(".")
    if section not in ("dataset", "model", "loss"):
        return key == "fairseq.common.seed"
    return name not in _SAME_EXPERIMENT and not name.endswith(("_path", "_dir"))


def _checkpoint_settings(config: Config) -> dict[str, Any]:
    """By dotted key, the settings that decide which weights and which state a checkpoint holds."""
    names = {field.name for field in dataclasses.fields(config.model)} - {"dropout", *_COMPUTE_OPTIONS}
    found = {f"model.{name}": getattr(config.model, name) for name in sorted(names)}
    for name in ("loss_cls", "learnable_temperature"):
        found[f"loss.{name}"] = getattr(config.loss, name)
    for group, name, default in _OPTIMIZER_OPTIONS:
        found[f"fairseq.{group}.{name}"] = option(config.fairseq, name, default)
    return found

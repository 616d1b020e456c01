"""Check the `fairseq:` section, whose groups and options are those of fairseq.

An option may be in any group, because published YAMLs put some into another group than fairseq does
(`optimization.ddp_backend`). mmpt/fairseq_plugin/options.py writes the table of options, so this check does
not import fairseq.
"""

import ast
import functools
import json
import math
from pathlib import Path
from typing import Any

from mmpt.config.build import Source
from mmpt.utils.errors import UserError

GROUPS = (
    "common",
    "common_eval",
    "distributed_training",
    "dataset",
    "optimization",
    "checkpoint",
    "optimizer",
    "lr_scheduler",
    "bmuf",
    "ema",
)
EVALUATION_ONLY = {"path"}  # common_eval.path: the checkpoint to evaluate, not an option of fairseq-train
NAMES = {
    *("aim_repo", "aim_run_hash", "best_checkpoint_metric", "checkpoint_suffix", "continue_once"),
    *("distributed_backend", "distributed_init_method", "ema_seed_model", "finetune_from_model"),
    *("gen_subset", "log_file", "plasma_path", "quantization_config_path", "restore_file", "save_dir"),
    *("slowmo_base_algorithm", "tensorboard_logdir", "train_subset", "valid_subset", "wandb_project"),
}
"""Options whose value is text. fairseq evaluates other text, such as `adam_betas: (0.9, 0.98)`, as Python, so
it must be plain numbers, or an untrusted YAML could run code."""
SET_BY_US = {"task", "arch", "criterion", "user_dir"}
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "flag": ((bool,), "true or false"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "str": ((str, int, float, list), "text, a number or a list"),
}
"""Type in the table -> types of its value, and their name in errors. Only a flag takes a bool."""


@functools.cache
def table() -> dict[str, dict[str, Any]]:
    """Option name -> {"option": the command-line option, "type": flag|int|float|str, "choices"}."""
    return json.loads(Path(__file__).with_name("fairseq_options.json").read_text(encoding="utf-8"))


def check_fairseq(groups: dict[str, Any], source: Source) -> None:
    """Raises UserError for unknown groups or options, wrong types, and two values of one option."""
    first_group: dict[str, str] = {}
    for group, options in groups.items():
        where = source.of(f"fairseq.{group}")
        if group not in GROUPS:
            hint = source.hint(group, GROUPS, "fairseq.") or f" Known: {', '.join(GROUPS)}."
            raise UserError(f"{where}: unknown key fairseq.{group}.{hint}")
        if options is None:
            continue
        if not isinstance(options, dict):
            raise UserError(f"{where}: fairseq.{group}: expected a section of options, got {options!r}.")
        for name, value in options.items():
            key = f"fairseq.{group}.{name}"
            _check_option(key, name, value, source)
            if value is None:
                continue
            other = first_group.setdefault(name, group)
            if other != group and groups[other][name] != value:
                first = f"fairseq.{other}.{name}"
                raise UserError(
                    f"{first} is {groups[other][name]!r} ({source.of(first)}) and {key} is {value!r} "
                    f"({source.of(key)}): the same option in two groups. Set {first} only."
                )


def _check_option(key: str, name: str, value: Any, source: Source) -> None:
    where = f"{source.of(key)}: {key}"
    if name in EVALUATION_ONLY:
        if value is not None and not isinstance(value, str):
            raise UserError(f"{where}: expected the path of a checkpoint, got {value!r}.")
        return
    if name in SET_BY_US:
        raise UserError(f"{where}: the launcher sets it: leave it out.")
    if name not in table():
        prefix = key.rpartition(".")[0]
        raise UserError(f"{where}: unknown option of fairseq.{source.hint(name, table(), f'{prefix}.')}")
    row = table()[name]
    if value is None:
        return
    kind = row["type"]
    types, expected = _TYPES[kind]
    if not isinstance(value, types) or isinstance(value, bool) != (kind == "flag"):
        raise UserError(f"{where}: expected {expected}, got {value!r} ({type(value).__name__}).")
    if row["choices"] is not None and str(value) not in row["choices"]:
        raise UserError(f"{where}: expected one of {', '.join(row['choices'])}, got {value!r}.")
    if kind == "str" and row["choices"] is None and name not in NAMES and not _is_literal(value):
        raise UserError(f"{where}: expected numbers, or a list of them, got {value!r}.")
    _check_range(where, name, value)


#: minimum values, where fairseq accepts smaller ones or fails in its own code
_MINIMUM = {
    "batch_size": 1,
    "batch_size_valid": 1,
    "max_valid_steps": 1,
    "update_freq": 1,
    "save_interval": 1,
    "validate_interval": 1,
    "log_interval": 1,
    "max_epoch": 0,
    "max_update": 0,
    "warmup_updates": 0,
    "total_num_update": 0,
    "num_workers": 0,
    "clip_norm": 0,
    "seed": 0,
    "lr": 0,
    "ema_decay": 0,
    "ema_start_update": 0,
    "ema_update_freq": 1,
    "distributed_world_size": 1,
    "weight_decay": 0,
    "adam_eps": 0,
}
_BELOW_1 = {"ema_decay"}


def _check_range(where: str, name: str, value: Any) -> None:
    """Refuse values that fairseq accepts although they are meaningless."""
    numbers = _numbers(value)
    if table()[name]["type"] in ("int", "float") and not all(map(math.isfinite, numbers)):
        raise UserError(f"{where}: expected a finite number, got {value!r}.")
    if name in _MINIMUM and not (numbers and all(_MINIMUM[name] <= number < math.inf for number in numbers)):
        raise UserError(f"{where}: expected a number of at least {_MINIMUM[name]}, got {value!r}.")
    if name in _BELOW_1 and not all(number < 1 for number in numbers):
        raise UserError(f"{where}: expected a number from 0 to below 1, got {value!r}.")
    if name in NAMES and value == "":
        raise UserError(f"{where}: it is empty: give a name, or leave it out.")
    if name == "update_freq" and not all(number.is_integer() for number in numbers):
        raise UserError(f"{where}: expected a whole number, or several, got {value!r}.")
    if name == "required_batch_size_multiple" and value != 1:
        raise UserError(f"{where}: got {value!r}, but mmpt never rounds batch sizes: leave it out.")
    if name == "seed" and value >= 2**32:
        raise UserError(f"{where}: expected a number from 0 to {2**32 - 1}, got {value!r}.")
    if name == "adam_betas" and not (len(numbers) == 2 and all(0 <= beta < 1 for beta in numbers)):
        raise UserError(f"{where}: expected two numbers from 0 to below 1, as (0.9, 0.98), got {value!r}.")


def _is_literal(value: Any) -> bool:
    try:
        ast.literal_eval(str(value))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return False
    return True


def _numbers(value: Any) -> list[float]:
    """The numbers of an option that takes one or several: 0.5, [1, 2], "(0.9, 0.98)"; [] if it has others.

    Numbers may be text: YAML reads 5e-5 as text.
    """
    items = value.strip("()[] ").split(",") if isinstance(value, str) else value
    items = items if isinstance(items, list) else [items]
    try:
        return [] if any(isinstance(item, bool) for item in items) else [float(item) for item in items]
    except (TypeError, ValueError):
        return []


def option(groups: dict[str, Any], name: str, default: Any = None) -> Any:
    """The value of a fairseq option, in any group."""
    for options in groups.values():
        if isinstance(options, dict) and options.get(name) is not None:
            return options[name]
    return default


def keys_of(groups: dict[str, Any], arguments: list[str]) -> list[str]:
    """Dotted keys of the options that appear in arguments of `fairseq-train`."""
    return [
        f"fairseq.{group}.{name}"
        for group, options in groups.items()
        for name in options or {}
        if name in table() and table()[name]["option"] in arguments
    ]


def to_argv(groups: dict[str, Any]) -> list[str]:
    """The options as arguments of `fairseq-train`, without false flags and nulls."""
    argv: list[str] = []
    for options in groups.values():
        for name, value in (options or {}).items():
            if name in EVALUATION_ONLY or value is None or value is False:
                continue
            argv.append(table()[name]["option"])
            if value is not True:
                argv.append(str(value))
    return argv

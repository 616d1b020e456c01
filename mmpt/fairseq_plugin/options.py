"""fairseq's options: its settings of a training plan, and the table of all options that it has.

Configs are checked against the table, on machines without fairseq as well, so it is kept in a file
(mmpt/config/fairseq_options.json). A test compares it with the installed fairseq;
`python -m mmpt.fairseq_plugin.options` rewrites it.
"""

import argparse
import re
from pathlib import Path
from typing import Any, NoReturn

import torch
from fairseq import optim
from fairseq import options as fairseq_options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf, gen_parser_from_dataclass
from fairseq.optim import OPTIMIZER_REGISTRY, lr_scheduler
from fairseq.optim.lr_scheduler import LR_SCHEDULER_REGISTRY
from hydra.errors import ConfigCompositionException

from mmpt.config import Config
from mmpt.config.fairseq_options import keys_of, option
from mmpt.utils.errors import UserError
from mmpt.utils.files import write_json

TABLE = Path(__file__).parent.parent / "config" / "fairseq_options.json"
_OPEN = {"task", "arch", "criterion"}  # our own names are added to these


def parse_fairseq_config(argv: list[str], config: Config) -> Any:
    """fairseq's settings for the arguments of a plan (TrainingPlan.argv).

    Raises UserError, in one line, for options of another optimizer or scheduler than the chosen ones (an
    included config may set them), and for an optimizer or scheduler that cannot be made.
    """
    parser = fairseq_options.get_training_parser()
    parser.error = _refuse  # instead of a page of usage
    found, unknown = fairseq_options.parse_args_and_arch(parser, input_args=argv, parse_known=True)
    if keys := keys_of(config.fairseq, unknown):
        raise UserError(
            f"{', '.join(keys)}: fairseq has no such option with {_chosen(config)}. Leave it out; "
            "where an included config sets it, set it to null."
        )
    try:
        settings = convert_namespace_to_omegaconf(found)
    except ConfigCompositionException as error:  # "... override lr_scheduler.total_num_update=null"
        _refuse(str(error))
    _try_optimizer(settings, config)
    return settings


def _refuse(message: str) -> NoReturn:
    missing = re.match(r"argument --([\w-]+).*'\?\?\?'|Error merging override \w+\.(\w+)=null", message)
    if missing:  # omegaconf's mark for a required value, or a null for which fairseq has no default
        key = (missing[1] or missing[2]).replace("-", "_")
        raise UserError(
            f"fairseq.optimization.{key}: has to be set for the chosen optimizer and lr_scheduler."
        )
    raise UserError(f"fairseq refuses these settings: {message}.")


def _try_optimizer(settings: Any, config: Config) -> None:
    """Make the optimizer and the scheduler of one parameter, so that they fail before anything is written."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    try:
        lr_scheduler.build_lr_scheduler(
            settings.lr_scheduler, optim.build_optimizer(settings.optimizer, [parameter])
        )
    except Exception as error:  # fairseq, and packages that it looks for, raise anything
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise UserError(f"fairseq.optimization: {_chosen(config)} cannot be made: {reason}.") from error


def _chosen(config: Config) -> str:
    names = {name: option(config.fairseq, name) for name in ("optimizer", "lr_scheduler")}
    return " and ".join(f"{name}: {value}" for name, value in names.items() if value is not None)


def table() -> dict[str, dict[str, Any]]:
    """Option name -> {"option": spelling, "type": flag|int|float|str, "choices": [...] or None}."""
    parser = fairseq_options.get_training_parser()
    for registry in (OPTIMIZER_REGISTRY, LR_SCHEDULER_REGISTRY):
        for cls in registry.values():
            _add_options_of(cls, parser)
    rows: dict[str, dict[str, Any]] = {}
    for action in parser._actions:
        if not action.option_strings or action.dest == "help":
            continue
        choices = None
        if action.choices and action.dest not in _OPEN:
            choices = sorted(str(choice) for choice in action.choices)
        kind = "flag" if action.nargs == 0 else _kind(action.type)
        rows[action.dest] = {"option": _spelling(action), "type": kind, "choices": choices}
    return dict(sorted(rows.items()))


def _add_options_of(cls: Any, parser: argparse.ArgumentParser) -> None:
    dataclass = getattr(cls, "__dataclass", None)
    scratch = argparse.ArgumentParser(argument_default=None, conflict_handler="resolve", add_help=False)
    if dataclass is not None:
        gen_parser_from_dataclass(scratch, dataclass())
    elif hasattr(cls, "add_args"):
        cls.add_args(scratch)
    for action in scratch._actions:
        if not any(option in parser._option_string_actions for option in action.option_strings):
            parser._add_action(action)


def _spelling(action: argparse.Action) -> str:
    plain = "--" + action.dest.replace("_", "-")
    return plain if plain in action.option_strings else max(action.option_strings, key=len)


def _kind(converter: Any) -> str:
    return converter.__name__ if converter in (int, float) else "str"


if __name__ == "__main__":
    write_json(TABLE, table())
    print(f"wrote {TABLE}")

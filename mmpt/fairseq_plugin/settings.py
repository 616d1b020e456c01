"""fairseq's settings of a config: parsed by fairseq itself, with its refusals as one line each."""

import re
from typing import Any, NoReturn

import torch
from fairseq import optim, options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.optim import lr_scheduler
from hydra.errors import ConfigCompositionException

from mmpt.config import Config
from mmpt.config.fairseq_options import keys_of, option
from mmpt.utils.errors import UserError


def settings_of(arguments: list[str], config: Config) -> Any:
    """fairseq's settings of the arguments that `train_argv` made of a config.

    Raises UserError for options of another optimizer or scheduler than the chosen ones (an included config
    may set them), and for an optimizer or scheduler that cannot be made.
    """
    parser = options.get_training_parser()
    parser.error = _refuse  # its own way is a page of usage
    found, unknown = options.parse_args_and_arch(parser, input_args=arguments, parse_known=True)
    strangers = keys_of(config.fairseq, unknown)
    if strangers:
        raise UserError(
            f"{', '.join(strangers)}: fairseq has no such option with {_chosen(config)}. Leave it out; "
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
    if missing:  # omegaconf's mark of what has to be given, or a null where fairseq has no value of its own
        key = (missing[1] or missing[2]).replace("-", "_")
        raise UserError(
            f"fairseq.optimization.{key}: has to be set for the chosen optimizer and lr_scheduler."
        )
    raise UserError(f"fairseq refuses these settings: {message}.")


def _try_optimizer(settings: Any, config: Config) -> None:
    """Make the optimizer and the scheduler once, of one number, so that they fail before anything is
    written."""
    number = torch.nn.Parameter(torch.zeros(1))
    try:
        lr_scheduler.build_lr_scheduler(
            settings.lr_scheduler, optim.build_optimizer(settings.optimizer, [number])
        )
    except Exception as error:  # whatever fairseq, or a package that it looks for, has to say
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise UserError(f"fairseq.optimization: {_chosen(config)} cannot be made: {reason}.") from error


def _chosen(config: Config) -> str:
    names = {name: option(config.fairseq, name) for name in ("optimizer", "lr_scheduler")}
    return " and ".join(f"{name}: {value}" for name, value in names.items() if value is not None)

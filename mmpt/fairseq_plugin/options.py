"""What `fairseq-train` can be told: the table behind the check of the `fairseq:` section of a task config.

The table is kept as a file (mmpt/config/fairseq_options.json) so that configs are checked on machines without
fairseq as well. A test compares it with the installed fairseq; `python -m mmpt.fairseq_plugin.options`
rewrites it.
"""

import argparse
from pathlib import Path
from typing import Any

from fairseq import options as fairseq_options
from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.optim import OPTIMIZER_REGISTRY
from fairseq.optim.lr_scheduler import LR_SCHEDULER_REGISTRY

from mmpt.utils.files import write_json

TABLE = Path(__file__).parent.parent / "config" / "fairseq_options.json"


def table() -> dict[str, dict[str, Any]]:
    """Option name -> {"type": flag|int|float|str, "list": bool, "choices": [...] or None}."""
    parser = fairseq_options.get_training_parser()
    for registry in (OPTIMIZER_REGISTRY, LR_SCHEDULER_REGISTRY):
        for cls in registry.values():
            _add(parser, cls)
    rows: dict[str, dict[str, Any]] = {}
    for action in parser._actions:
        if not action.option_strings or action.dest == "help":
            continue
        kind = "flag" if action.nargs == 0 else _kind(action.type)
        choices = (
            sorted(str(c) for c in action.choices) if action.choices and action.dest not in _OPEN else None
        )
        rows[action.dest] = {
            "option": _spelling(action),
            "type": kind,
            "choices": choices,
        }
    return dict(sorted(rows.items()))


_OPEN = {"task", "arch", "criterion"}  # our own names are added to these


def _add(parser: argparse.ArgumentParser, cls: Any) -> None:
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

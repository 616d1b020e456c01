"""How log messages are shown: one handler on the root logger, set by the commands and nowhere else."""

import logging
import sys
from collections.abc import Sequence
from typing import TextIO

from mmpt.utils.errors import UserError

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def setup_logging(level: int | str = "INFO", stream: TextIO | None = None) -> None:
    """Show messages from `level` up on `stream` (default: stderr), one line each.

    Calling it again, or after a library has put up a handler for a terminal of its own, replaces that
    handler, so no message is shown twice; handlers of other kinds (files, a test's capture) stay. Raises
    UserError on a level that does not exist.
    """
    number = logging.getLevelNamesMapping().get(level.upper()) if isinstance(level, str) else level
    if number is None:
        known = ", ".join(name for name, value in logging.getLevelNamesMapping().items() if value)
        raise UserError(f"there is no log level {level!r}. Known: {known}.")
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(logging.Formatter(FORMAT, datefmt="%H:%M:%S"))
    root = logging.getLogger()
    for old in list(root.handlers):
        if type(old) is logging.StreamHandler:
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(number)


def some_of(names: Sequence[str], most: int = 8) -> str:
    """Names in a message: the first few, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

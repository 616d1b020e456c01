"""Logging: one handler on the root logger, set by the commands only; the end of a log."""

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from mmpt.utils.errors import UserError, terminal_handlers

_LOG_TAIL = 64 << 10
_NOT_OURS = re.compile(
    r"submitit |srun: |frame #\d|\[?[WEI]\d{4} |Exception raised from |<omitting python frames>|\s*$"
)
"""Lines of a log that say nothing to a user: of submitit and srun, and torch on lost connections."""

FORMAT = "%(asctime)s %(levelname)s %(name)s: {rank}%(message)s"


def setup_logging(level: int | str = "INFO", stream: TextIO | None = None) -> None:
    """Show messages from `level` up on `stream` (default: stderr), one line each.

    Replaces earlier terminal handlers, so no message is shown twice; other handlers (files, a test's capture)
    stay. Of several processes of a training, whose lines share a log, those of other ranks than 0 name it.
    Raises UserError for an unknown level.
    """
    number = logging.getLevelNamesMapping().get(level.upper()) if isinstance(level, str) else level
    if number is None:
        known = ", ".join(name for name, value in logging.getLevelNamesMapping().items() if value)
        raise UserError(f"there is no log level {level!r}. Known: {known}.")
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    rank = os.environ.get("RANK", "0")
    shown = "" if rank == "0" else f"rank {rank}: "
    handler.setFormatter(logging.Formatter(FORMAT.format(rank=shown), datefmt="%H:%M:%S"))
    root = logging.getLogger()
    for old in terminal_handlers():
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(number)


@contextlib.contextmanager
def log_level(level: int, *names: str) -> Iterator[None]:
    """While it is entered, show messages of these loggers from `level` up; then as before."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, was in zip(loggers, before):
            logger.setLevel(was)


def last_line(log_file: Path) -> str:
    """The last line that a command wrote into its log; "" if there is none."""
    try:
        with open(log_file, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - _LOG_TAIL))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if not _NOT_OURS.match(line)), "")


def some_of(names: Sequence[str], most: int = 8) -> str:
    """The first few names, and how many more there are, for a message of one line."""
    shown = [name if name.isprintable() else repr(name) for name in names[:most]]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")

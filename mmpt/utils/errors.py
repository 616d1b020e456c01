"""Errors that users can fix, and how commands print them."""

import errno
import logging
import os
import re
import signal
import sys
from collections.abc import Callable
from types import TracebackType

log = logging.getLogger(__name__)


class UserError(ValueError):
    """A mistake in the user's input: one line that says what was got, what was expected, and what to do.

    Line breaks in the message are escaped. The traceback of a DataLoader worker is removed.
    """

    def __init__(self, message: object):
        lines = str(message).splitlines()
        if len(lines) > 1 and lines[0].startswith("Caught ") and " in DataLoader worker process" in lines[0]:
            lines = [lines[-1].partition("Error: ")[2]]
        super().__init__("\\n".join(lines))


class MissingDataError(UserError):
    """Data or weights are missing on this machine; the message says how to get them."""


def run_cli(main: Callable[..., int | None], *args: object) -> int:
    """Run a command's main function and return its exit status.

    The status is main's (None: 0); 2 after a UserError, a full disk or a file that cannot be accessed (one
    line on stderr, no traceback); 130 after Ctrl-C; 141 after a broken pipe. Any other error is a bug and
    keeps its traceback.
    """
    try:
        status = main(*args) or 0
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # such as `| head`; flushing at exit must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (OSError, RuntimeError) as error:
        message = _system_error(error)
        if message is None:
            raise
        print(f"error: {UserError(message)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def show_user_errors_in_one_line() -> None:
    """Print uncaught UserErrors without a traceback, when another program runs the main function."""
    _show_in_one_line(UserError, "error: {}")


def show_interruptions_in_one_line() -> None:
    """Print Ctrl-C without a traceback while a command is still importing, before run_cli."""
    _show_in_one_line(KeyboardInterrupt, "interrupted")


def _show_in_one_line(which: type[BaseException], line: str) -> None:
    before = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, which):
            print(line.format(error), file=sys.stderr)
        else:
            before(kind, error, trace)

    sys.excepthook = show


def _system_error(error: OSError | RuntimeError) -> str | None:
    """A message for a full disk or an inaccessible file, or None for other errors."""
    file = error.filename if isinstance(error, OSError) else None
    if disk_is_full(error):
        where = f" {file}" if file else ""
        return (
            f"the disk is full, or a quota is reached: could not write{where} ({error}). No partial file is "
            "left; free some space and run the same command again."
        )
    if not file:
        return None
    assert isinstance(error, OSError)
    return f"{file}: {error.strerror or error}. Check the path and its permissions."


def disk_is_full(error: BaseException) -> bool:
    """Whether an error or one of its causes means a full disk, including errors of torch and NumPy."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        if isinstance(seen, OSError) and re.fullmatch(r"\d+ requested and \d+ written", str(seen)):
            return True
        if isinstance(seen, RuntimeError) and "PytorchStreamWriter failed writing" in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False

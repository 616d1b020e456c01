"""Errors that are the user's to mend, and how commands show them."""

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
    """A mistake in what the user gave: one line that says what was got, what was expected, what to do.

    Whatever the input held, it stays one line: line breaks are shown as \\n. Raised in a process that reads
    for torch, it arrives there wrapped in that process's traceback, which is left out.
    """

    def __init__(self, message: object):
        lines = str(message).splitlines()
        if len(lines) > 1 and lines[0].startswith("Caught ") and " in DataLoader worker process" in lines[0]:
            lines = [lines[-1].partition("Error: ")[2]]
        super().__init__("\\n".join(lines))


class MissingDataError(UserError):
    """Data or weights that are not on this machine: the message says how to get them and where to put
    them."""


def run_cli(main: Callable[..., int | None], *args: object) -> int:
    """Run a command's main function and turn its end into an exit status.

    Returns main's own status (None counts as 0), 2 after a UserError, a full disk or a file that the system
    refuses (printed to stderr as one line, without a traceback), 130 after Ctrl-C, 141 where nobody reads
    what is printed any more. Anything else is a fault of ours and keeps its traceback.
    """
    try:
        status = main(*args) or 0
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # such as `| head`; what is still to be printed must not fail at exit again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (OSError, RuntimeError) as error:
        told = _about_the_system(error)
        if told is None:
            raise
        print(f"error: {UserError(told)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def show_user_errors_in_one_line() -> None:
    """Where another program's main function runs us: no traceback for a UserError that nobody catches."""
    _show_in_one_line(UserError, "error: {}")


def show_interruptions_in_one_line() -> None:
    """While a command loads, before run_cli has it: no traceback for Ctrl-C."""
    _show_in_one_line(KeyboardInterrupt, "interrupted")


def _show_in_one_line(which: type[BaseException], line: str) -> None:
    before = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, which):
            print(line.format(error), file=sys.stderr)
        else:
            before(kind, error, trace)

    sys.excepthook = show


def _about_the_system(error: OSError | RuntimeError) -> str | None:
    """What the system refuses and what to do, where an error says so; None where it does not."""
    file = error.filename if isinstance(error, OSError) else None
    if disk_is_full(error):
        where = f" {file}" if file else ""
        return (
            f"the disk is full, or a limit on files is reached: could not write{where} ({error}). "
            "Nothing half-written is left; make room and start the same command again."
        )
    if not file:
        return None
    assert isinstance(error, OSError)
    return f"{file}: {error.strerror or error}. Check that path, what is there and who may use it."


def disk_is_full(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says so; torch's and NumPy's writers only say that they
    failed."""
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

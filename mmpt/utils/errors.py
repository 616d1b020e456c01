"""Errors that are the user's to mend, and how commands show them."""

import errno
import logging
import sys
from collections.abc import Callable

log = logging.getLogger(__name__)

_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


class UserError(ValueError):
    """A mistake in what the user gave: one line that says what was got, what was expected, what to do.

    Whatever the input held, it stays one line: line breaks are shown as \\n.
    """

    def __init__(self, message: object):
        super().__init__("\\n".join(str(message).splitlines()))


class MissingDataError(UserError):
    """Data or weights that are not on this machine: the message says how to get them and where to put
    them."""


def run_cli(main: Callable[..., int | None], *args: object) -> int:
    """Run a command's main function and turn its end into an exit status.

    Returns main's own status (None counts as 0), 2 after a UserError, a full disk or a file that may not be
    touched (printed to stderr as one line, without a traceback), 130 after Ctrl-C. Anything else is a fault
    of ours and keeps its traceback.
    """
    try:
        return main(*args) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno in _NOT_ALLOWED and error.filename:
            print(f"error: {error.filename}: {error.strerror}: name another, or allow it.", file=sys.stderr)
            return 2
        if not _disk_is_full(error):
            raise
        where = f" {error.filename}" if isinstance(error, OSError) and error.filename else ""
        print(
            f"error: the disk is full, or a limit on files is reached: could not write{where} ({error}). "
            "Nothing half-written is left; make room and start the same command again.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _disk_is_full(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says so; torch's writer only says that it failed."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        if isinstance(seen, RuntimeError) and "PytorchStreamWriter failed writing" in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False

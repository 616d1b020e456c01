"""Errors that are the user's to mend, and how commands show them."""

import logging
import sys
from collections.abc import Callable

log = logging.getLogger(__name__)


class UserError(ValueError):
    """A mistake in what the user gave: one line that says what was got, what was expected, what to do."""


class MissingDataError(UserError):
    """Data or weights that are not on this machine: the message says how to get them and where to put
    them."""


def run_cli(main: Callable[..., int | None], *args: object) -> int:
    """Run a command's main function and turn its end into an exit status.

    Returns main's own status (None counts as 0), 2 after a UserError (printed to stderr as one line, without
    a traceback), 130 after Ctrl-C. Anything else is a fault of ours and keeps its traceback.
    """
    try:
        return main(*args) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130

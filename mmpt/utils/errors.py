"""Errors that users can fix, and how commands print them."""

import contextlib
import errno
import io
import itertools
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType, TracebackType


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


class TooLargeError(UserError):
    """The input is larger than a limit that was set for it."""


class Terminated(KeyboardInterrupt):
    """SIGTERM was received (see sigterm_as_interrupt)."""


def run_cli(main: Callable[..., int | None], *args: object, words: Sequence[str] | None = None) -> int:
    """Run a command's main function and return its exit status.

    words: those of the command, if they are not those of this process. The status is main's (None: 0); 2
    after a UserError, a full disk, a file that cannot be accessed, text that is not valid Unicode or a user
    without a home directory (one line on stderr, no traceback); 130 after Ctrl-C; 143 after SIGTERM, when
    temporary files have been removed; 141 after a broken pipe. Any other error is a bug and keeps its
    traceback. What is printed to a stream that the caller has closed (`>&-`) is discarded. What setup_logging
    changes at the root logger is afterwards as before.
    """
    _open_closed_streams()
    try:
        with _root_logger_restored(), sigterm_as_interrupt():
            try:
                _refuse_empty_arguments(sys.argv[1:] if words is None else words)
                status = main(*args) or 0
            except SystemExit:  # after --help
                sys.stdout.flush()
                raise
            sys.stdout.flush()
            return status
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # such as `| head`; flushing at exit must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        message = _system_error(error)
        if message is None:
            raise
        print(f"error: {UserError(message)}", file=sys.stderr)
        return 2
    except Terminated:
        print("terminated", file=sys.stderr)
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


def _refuse_empty_arguments(words: Sequence[str]) -> None:
    """Raises UserError: an empty path is the current folder, where `--out "$UNSET"` would write."""
    for before, argument in itertools.pairwise([*sys.argv[:1], *words]):
        if argument == "" or re.fullmatch("--[a-z0-9-]+=", argument):
            which = argument or f"the argument after {before!r}"
            raise UserError(
                f"{which} is empty (a shell variable that is not set?): give a value, or leave it out."
            )


def _open_closed_streams() -> None:
    """Python has None for a standard stream that was closed when it started; a caller may close it later."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None or getattr(stream, "closed", False):
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def terminal_handlers() -> list[logging.Handler]:
    """The handlers of the root logger that write to a terminal; others are files, or a test's capture."""
    return [handler for handler in logging.getLogger().handlers if type(handler) is logging.StreamHandler]


class _RootLogger:
    """Its level and terminal handlers before the first of the commands that run now, maybe in threads."""

    lock = threading.Lock()
    commands = 0
    level = logging.WARNING
    handlers: Sequence[logging.Handler] = ()


@contextlib.contextmanager
def _root_logger_restored() -> Iterator[None]:
    """When the last of the commands that run now ends, level and terminal handlers are as at first."""
    root, before = logging.getLogger(), _RootLogger
    with before.lock:
        if not before.commands:
            before.level, before.handlers = root.level, terminal_handlers()
        before.commands += 1
    try:
        yield
    finally:
        with before.lock:
            before.commands -= 1
            if not before.commands:
                root.setLevel(before.level)
                for handler in terminal_handlers():
                    root.removeHandler(handler)
                for handler in before.handlers:
                    root.addHandler(handler)


@contextlib.contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """While the block runs, SIGTERM raises Terminated, so that `finally` blocks clean up.

    Only the main thread can do that; in others this has no effect.
    """
    from mmpt.utils.signals import signals_to  # not before Ctrl-C during imports is shown in one line

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Terminated

    with signals_to(interrupt, signal.SIGTERM):
        yield


def escape_unprintable() -> None:
    """Print characters that the terminal's encoding does not have as backslash escapes.

    In the locale C, Python's handler is surrogateescape, which cannot print them either.
    """
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and (out.errors == "strict" or "utf" not in out.encoding.lower()):
        out.reconfigure(errors="backslashreplace")


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


def _system_error(error: Exception) -> str | None:
    """A message for a full disk, an inaccessible file, bytes that are no text or no home; else None."""
    if isinstance(error, RuntimeError) and str(error) == "Could not determine home directory.":  # pathlib
        return "this user has no home directory: set HOME to a folder that can be written."
    if isinstance(error, UnicodeEncodeError) and "\ud800" <= error.object[error.start] <= "\udfff":
        text = error.object[max(0, error.start - 40) : error.end + 40].strip()
        return f"{text!r} is not valid Unicode text: give it as UTF-8."
    file = error.filename if isinstance(error, OSError) else None
    if disk_is_full(error):
        written = getattr(error, "filename2", None) or file  # of a copy, the target
        where, why = f" {written}" if written else "", getattr(error, "strerror", None) or error
        return (
            f"the disk is full, or a quota is reached: could not write{where} ({why}). No partial file is "
            "left; free some space and run the same command again."
        )
    if not file:
        return None
    assert isinstance(error, OSError)
    return f"{file}: {error.strerror or error}. Check the path and its permissions."


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_IN_WORDS = re.compile(
    "|".join(
        [
            r"^\d+ requested and \d+ written$",  # NumPy
            "PytorchStreamWriter failed writing",
            *(re.escape(os.strerror(number)) for number in _FULL),  # safetensors, tokenizers, faiss
        ]
    )
)


def disk_is_full(error: BaseException) -> bool:
    """Whether an error or one of its causes means a full disk, also as other libraries report it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _FULL:
            return True
        if not isinstance(seen, UserError) and _FULL_IN_WORDS.search(str(seen)):
            return True
        seen = seen.__cause__ or seen.__context__
    return False

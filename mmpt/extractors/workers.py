"""The reading half of an extraction: what a worker process does, and the thread that looks after one.

Nothing here needs torch: a worker process starts in the time its reader's own imports take.
"""

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import tempfile
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from mmpt.extractors.base import FileReader, Outcome, StreamReader
from mmpt.extractors.manifest import source_stamp
from mmpt.utils.errors import UserError
from mmpt.utils.files import sha256

log = logging.getLogger(__name__)

TEMPORARY = r"\..*\.[a-z0-9_]{8}\.tmp(\.[^.]+)?"
"""Names of unfinished files (those of mmpt.utils.files.atomic_write too), as a regular expression."""


@dataclass
class Finished:
    """A source was read to its end. `temporary` holds the result and waits to be renamed, if the reader wrote
    it.
    """

    outcome: Outcome
    source: dict[str, Any]
    temporary: Path | None = None
    result: dict[str, Any] | None = None


@dataclass
class Failed:
    """A source could not be read; the others can. `fault` is a traceback when the mistake is in our code."""

    message: str
    fault: str | None = None


Message = np.ndarray | Finished | Failed


def work(reader: FileReader | StreamReader, source: Path, target: Path) -> Generator[Message, None, None]:
    """Read one source: windows, if the reader gives any, and then one Finished or Failed."""
    temporary: Path | None = None
    try:
        before = source.stat()
        result = None
        if isinstance(reader, FileReader):
            temporary = _temporary(target)
            outcome = reader.convert(source, temporary)
            if outcome.status == "done":
                result = _seal(temporary)
            else:
                temporary.unlink()
                temporary = None
        else:
            outcome = yield from reader.windows(source)
        stamp = source_stamp(source)
        if (before.st_size, before.st_mtime_ns) != (stamp["size"], stamp["mtime_ns"]):
            raise UserError(f"{source} was changed while it was read; run again when it is complete.")
        yield Finished(outcome, stamp, temporary, result)
        temporary = None  # from here on it belongs to whoever took the message
    except UserError as error:
        yield Failed(str(error))
    except OSError as error:
        yield Failed(f"{source}: {error.strerror or error}.")
    except Exception as error:  # one clip must not end a run of thousands
        import traceback

        yield Failed(f"{source}: {type(error).__name__}: {error}", traceback.format_exc())
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _temporary(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    suffix = f".tmp{target.suffix}"
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=suffix, dir=target.parent)
    os.close(handle)
    return Path(name)


def _seal(path: Path) -> dict[str, Any]:
    """Bring a result safely to disk, readable as other files are; its size and hash."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)
    return {"size": path.stat().st_size, "sha256": sha256(path)}


def worker_main(connection: Any, reader: FileReader | StreamReader, stderr: str) -> None:
    """A worker process: sources come in, messages go out, until the other end closes.

    What it (and C++ code in it, which is talkative) prints goes to the file `stderr`, whose name is removed:
    it is shown if the process dies.
    """
    handle = os.open(stderr, os.O_WRONLY | os.O_APPEND)
    os.dup2(handle, 2)
    os.close(handle)
    Path(stderr).unlink()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which then ends this one
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            task = connection.recv()
            if task is None:
                return
            for message in work(reader, *task):
                connection.send(message)


def _end_with(sentinel: int) -> None:
    """End this process at once when its parent is gone, so that it writes nothing more."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


class ReaderProcess:
    """A worker process as seen from the thread that feeds it; started when it is first needed, and again if
    it dies.
    """

    def __init__(self, reader: FileReader | StreamReader):
        self._reader = reader
        self._process: Any = None
        self._connection: Any = None
        self._stderr: IO[str] | None = None

    def read(self, source: Path, target: Path) -> Iterator[Message]:
        """See `work`. A process that dies is a Failed."""
        if self._process is None:
            self._start()
        try:
            self._connection.send((source, target))
            while True:
                message = self._connection.recv()
                yield message
                if isinstance(message, Finished | Failed):
                    return
        except (EOFError, OSError):
            self._process.join(5)
            code = self._process.exitcode
            how = f"signal {-code}" if code is not None and code < 0 else f"status {code}"
            said = self._last_words()
            self._drop()
            told = f"its last words were: {said}" if said else "it said nothing; was the memory used up?"
            yield Failed(f"{source}: the process that read it ended by itself ({how}); {told}")

    def close(self) -> None:
        """Let the process end when it is idle. Called by the thread that reads."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._connection.send(None)
            self._process.join(5)
            self._drop()

    def kill(self) -> None:
        """End the process now, from any thread; a `read` that is under way ends with a Failed."""
        process = self._process
        if process is not None:
            process.kill()

    def _drop(self) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()
        if self._stderr is not None:
            self._stderr.close()
        self._process = None

    def _last_words(self) -> str:
        """The end of what the process has printed."""
        assert self._stderr is not None
        self._stderr.seek(0)
        return " ".join(self._stderr.read().split())[-300:]

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        handle, name = tempfile.mkstemp(prefix="extract-", suffix=".stderr")
        self._stderr = open(handle, encoding="utf-8", errors="replace")  # noqa: SIM115 - closed with the process
        process = context.Process(target=worker_main, args=(theirs, self._reader, name), daemon=True)
        # the child inherits the mask: a Ctrl-C while it starts up would print a traceback
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self._process = process


class ReaderInThisProcess:
    """The same without a process, for a handful of files and for looking into with a debugger."""

    def __init__(self, reader: FileReader | StreamReader):
        self._reader = reader

    def read(self, source: Path, target: Path) -> Iterator[Message]:
        """See `work`."""
        yield from work(self._reader, source, target)

    def close(self) -> None:
        """Nothing to end."""

    def kill(self) -> None:
        """Nothing to end."""

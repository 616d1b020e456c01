"""Worker processes that read the sources of an extraction. Does not import torch, so they start fast."""

import contextlib
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from mmpt.extractors.base import FileReader, Outcome, StreamReader
from mmpt.extractors.manifest import source_stamp
from mmpt.utils.errors import UserError, disk_is_full
from mmpt.utils.files import file_stamp, sha256, usual_mode

log = logging.getLogger(__name__)


@dataclass
class Finished:
    """A source was read completely. `temporary` is the file to rename, if the reader wrote one."""

    outcome: Outcome
    source: dict[str, Any]
    temporary: Path | None = None
    result: dict[str, Any] | None = None


@dataclass
class Failed:
    """A source could not be read. `fault` is the traceback of an unexpected exception."""

    message: str
    fault: str | None = None


Message = np.ndarray | Finished | Failed | UserError
"""A UserError ends the run, because every other source would fail too."""


def cannot_be_written(target: Path, error: OSError) -> UserError:
    """The error for a result that cannot be written."""
    why = "the disk is full" if disk_is_full(error) else error.strerror or error
    return UserError(f"{target} cannot be written: {why}; the finished results are kept.")


def work(reader: FileReader | StreamReader, source: Path, target: Path) -> Generator[Message, None, None]:
    """Read one source: yield its windows, if any, then one Finished, Failed or UserError."""
    temporary: Path | None = None
    try:
        before = source.stat()
        result = None
        if isinstance(reader, FileReader):
            try:
                temporary = _temporary(target)
            except OSError as error:
                yield cannot_be_written(target, error)
                return
            outcome = reader.convert(source, temporary)
            if outcome.status == "done":
                result = _sync(temporary)
            else:
                temporary.unlink()
                temporary = None
        else:
            outcome = yield from reader.windows(source)
        stamp = source_stamp(source)
        if file_stamp(before) != file_stamp(source.stat()):
            raise UserError(f"{source} changed while it was being read; run again when it is complete.")
        yield Finished(outcome, stamp, temporary, result)
        temporary = None  # now owned by the receiver of the message
    except UserError as error:
        yield Failed(str(error))
    except OSError as error:
        if disk_is_full(error):
            if temporary is not None:  # before yielding: the receiver kills this process
                temporary.unlink(missing_ok=True)
            yield cannot_be_written(target, error)
        else:
            yield Failed(f"{source}: {error.strerror or error}.")
    except Exception as error:  # one source must not end the whole run
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


def _sync(path: Path) -> dict[str, Any]:
    """Fsync a result and set its permissions; returns its size and hash."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    path.chmod(usual_mode(0o666))
    return {"size": path.stat().st_size, "sha256": sha256(path)}


class ReaderProcess:
    """A worker process, controlled by one thread: started on first use, restarted if it dies.

    It is a new interpreter that imports only what its reader needs. It does not receive Ctrl-C and exits when
    the parent process ends.
    """

    def __init__(self, reader: FileReader | StreamReader):
        self._reader = reader
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Any = None
        self._output: IO[bytes] | None = None

    def read(self, source: Path, target: Path) -> Iterator[Message]:
        """See `work`. If the process dies, yields a Failed."""
        try:
            if self._process is None:
                self._start()
            self._connection.send((source, target))
            while True:
                message = self._connection.recv()
                yield message
                if isinstance(message, Finished | Failed | UserError):
                    return
        except (EOFError, ConnectionError):
            yield Failed(f"{source}: its worker process died ({self._collect()})")

    def close(self) -> None:
        """End the idle process. Called by the thread that reads."""
        if self._process is not None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self._connection.send(None)
                self._process.wait(5)
            self._drop()

    def kill(self) -> None:
        """Kill the process, from any thread; a running `read` ends with a Failed."""
        process = self._process
        if process is not None:
            process.kill()

    def _start(self) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        # its output is kept and shown only if it dies: C++ libraries print much
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mmpt.extractors.worker_entry", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
                },
            )
        self._connection.send(self._reader)

    def _collect(self) -> str:
        """Clean up after a dead process; returns its exit status and last output."""
        assert self._process is not None and self._output is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.returncode
        self._output.seek(0)
        output = " ".join(self._output.read().decode(errors="replace").split())[-300:]
        self._drop()
        how = f"signal {-code}" if code is not None and code < 0 else f"status {code}"
        return f"{how}; its last output: {output}" if output else f"{how}; possibly out of memory"

    def _drop(self) -> None:
        assert self._process is not None and self._output is not None
        self._process.kill()
        self._process.wait()
        self._connection.close()
        self._output.close()
        self._process = None


class ReaderInThisProcess:
    """The same interface in this process, for a few files or for debugging."""

    def __init__(self, reader: FileReader | StreamReader):
        self._reader = reader

    def read(self, source: Path, target: Path) -> Iterator[Message]:
        """See `work`."""
        yield from work(self._reader, source, target)

    def close(self) -> None:
        """Nothing to end."""

    def kill(self) -> None:
        """Nothing to end."""

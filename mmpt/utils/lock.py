"""Locks between processes, based on the package `filelock`. A lock ends with the process that holds it."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from mmpt.utils.errors import UserError

log = logging.getLogger(__name__)


@contextlib.contextmanager
def folder_lock(folder: str | os.PathLike[str], who: str) -> Iterator[None]:
    """Lock `folder` (created if missing) for one writer; a second process is refused at once.

    who: the other holder's name in the error, such as "another training run". Raises UserError, which names
    the holder's process id, if the folder is locked, and OSError if the folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    lock = _lock(path)
    try:
        lock.acquire(blocking=False)
    except (Timeout, OSError) as error:
        holder = path.read_text(encoding="utf-8").strip() or "unknown"
        raise UserError(
            f"{folder} is in use by {who} (process {holder}): wait for it, or write to another folder."
        ) from error
    try:
        path.write_text(f"{os.getpid()}\n", encoding="utf-8")
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def wait_for_lock(path: Path) -> Iterator[bool]:
    """Hold the lock file `path` while the block runs, and wait for another holder first.

    The file and its folder are created if missing; the file is removed at the end. Yields True, or False if
    the file system has no locks. Raises OSError if the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(path)
    try:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            log.info("another process works on %s: waiting for it", path.with_suffix(""))
            lock.acquire()
    except OSError as error:
        log.warning("%s: no file locks here (%s)", path.parent, error.strerror)
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)  # before the release: a process that waits sees it and opens a new file
        lock.release()


def _lock(path: Path) -> FileLock:
    """A lock on `path`, not yet acquired. Raises OSError if the file cannot be opened for writing."""
    path.open("ab").close()  # so that a later OSError comes from locking
    return FileLock(path, thread_local=False, fallback_to_soft=False)

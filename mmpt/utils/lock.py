"""Locks between processes, with `filelock`. A lock ends with its process."""

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from mmpt.utils.errors import UserError

log = logging.getLogger(__name__)


@contextlib.contextmanager
def folder_lock(folder: str | os.PathLike[str], who: str, seconds: float = 0.0) -> Iterator[None]:
    """Lock `folder` (created if missing) for one writer; a second process fails at once, or after `seconds`.

    who: the holder's name in the error, such as "another training run". Raises UserError with the holder's
    process id if the folder is locked, or if its .lock is not ours, OSError if it cannot be written. After a
    UserError in the block, a lock file and a folder that were created for it are removed.
    """
    folder = Path(folder)
    new_folder = not folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    new_file = not os.path.lexists(path)
    if not new_file:
        _check_ours(path)
    lock = _lock(path)
    try:
        lock.acquire(timeout=seconds)
    except (Timeout, OSError) as error:
        holder = path.read_text(encoding="utf-8").strip() or "unknown"
        raise UserError(
            f"{folder} is in use by {who} (process {holder}): wait for it, or write to another folder."
        ) from error
    try:
        path.write_text(f"{os.getpid()}\n", encoding="utf-8")
        yield
    except UserError:
        if new_file:
            path.unlink(missing_ok=True)  # before the release, so that a waiting process opens a new file
        if new_folder:
            with contextlib.suppress(OSError):  # it holds something
                folder.rmdir()
        raise
    finally:
        lock.release()


def _check_ours(path: Path) -> None:
    """Raises UserError if a lock file that exists was not written by folder_lock."""
    content = b"?"
    if path.is_file() and not path.is_symlink():
        with open(path, "rb") as file:
            content = file.read(40)
    if not re.fullmatch(rb"\d*\n?", content):
        raise UserError(f"{path} was not written by signclip: move it away, or give another folder.")


@contextlib.contextmanager
def wait_for_lock(path: Path) -> Iterator[bool]:
    """Hold the lock file `path` while the block runs, after waiting for another holder.

    Creates the file and its folder, and removes the file at the end. Yields False if the file system has no
    locks, else True. Raises OSError if the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(path)
    try:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            log.info("another process is using %s: waiting for it", path.with_suffix(""))
            lock.acquire()
    except OSError as error:
        log.warning("%s: this file system has no locks (%s)", path.parent, error.strerror)
        yield False
        return
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)  # before the release, so that a waiting process opens a new file
        lock.release()


def _lock(path: Path) -> FileLock:
    """An unacquired lock on `path`. Raises OSError if the file cannot be written."""
    path.open("ab").close()  # so that a later OSError comes from locking
    return FileLock(path, thread_local=False, fallback_to_soft=False)

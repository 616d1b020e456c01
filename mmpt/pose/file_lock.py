"""One process at a time, by a lock that ends with the process that holds it."""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the lock file `path` (made, and removed at the end) while the block runs; wait for it if need be.

    Gives True, or False where the file system has no locks. The system lets go of the lock when its holder
    dies.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        while True:
            file: BinaryIO = stack.enter_context(open(path, "wb"))
            try:
                _acquire(file, path)
            except OSError as error:
                log.warning("%s: no file locks here (%s)", path.parent, error.strerror)
                yield False
                return
            if _still_there(file, path):
                break  # else its last holder removed it while we waited: that lock no longer keeps others out
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)


def _acquire(file: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info("another process works on %s: waiting for it", path.with_suffix(""))
        fcntl.flock(file, fcntl.LOCK_EX)


def _still_there(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False

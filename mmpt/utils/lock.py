"""One writer to a folder at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from mmpt.utils.errors import UserError


@contextlib.contextmanager
def folder_lock(folder: str | os.PathLike[str], who: str) -> Iterator[None]:
    """Hold `folder` (made if missing) for this process; a second process that asks gets a UserError at once.

    who: what the other holder is called in the error, such as "another training run". The lock belongs to the
    process, not to a file's existence: it is gone when the process is, however it ended.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise UserError(
                f"{folder} is in use by {who} (process {holder}): wait for it, or write to another folder."
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield

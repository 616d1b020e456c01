"""The progress of a command in a file, for the process that waits for it on another machine."""

import contextlib
import os
import time
from pathlib import Path

PROGRESS_FILE = "SIGNCLIP_PROGRESS_FILE"
"""Environment variable that names the file."""
_EVERY = 1.0


class ProgressFile:
    """Writes "done total" to the file of PROGRESS_FILE, at most once a second; nothing if it is not set."""

    def __init__(self) -> None:
        self._path = os.environ.get(PROGRESS_FILE)
        self._written = 0.0

    def write(self, done: int, total: int) -> None:
        """Note the progress. A file that cannot be written does not stop the command."""
        now = time.monotonic()
        if not self._path or (done < total and now - self._written < _EVERY):
            return
        self._written = now
        with contextlib.suppress(OSError):
            Path(self._path).write_text(f"{done} {total}\n", encoding="ascii")


def read_progress(path: Path) -> tuple[int, int]:
    """Done and total in a progress file; (0, 0) if it is missing or being written."""
    try:
        done, total = path.read_text(encoding="ascii").split()
        return int(done), int(total)
    except (OSError, ValueError):
        return 0, 0

"""How commands log: one handler, set by the command, never by the library."""

import logging
import sys
from typing import TextIO


def setup_logging(level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send log records to `stream` (default: stderr) in one format, replacing any handlers that are there."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)

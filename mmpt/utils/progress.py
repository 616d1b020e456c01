"""Show the progress of a run: a bar on a terminal, else log lines."""

import contextlib
import logging
import sys
import time
from typing import Any, Self

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from mmpt.utils.progress_file import ProgressFile

log = logging.getLogger(__name__)

LINE_EVERY = 30.0
"""Seconds between two log lines."""


class Progress:
    """Clips done, clips per second, time left, and tokens per second if a network runs."""

    def __init__(self, total: int, shown: bool = True):
        terminal = shown and sys.stderr.isatty()
        self._bar: Any = tqdm(total=total, unit="clip", disable=not terminal, dynamic_ncols=True)
        self._lines = shown and not terminal
        self._redirect = logging_redirect_tqdm() if terminal else contextlib.nullcontext()
        self._total, self._done = total, 0
        self._file = ProgressFile()
        self._started = self._last = time.monotonic()

    def __enter__(self) -> Self:
        self._redirect.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.close()
        self._redirect.__exit__(*error)

    def advance(self) -> None:
        """Count one finished clip."""
        self._done += 1
        self._bar.update()
        self._file.write(self._done, self._total)

    def move_to(self, done: int, total: int) -> None:
        """Set how many clips are finished, of how many."""
        self._bar.total = self._total = total
        self._bar.update(done - self._done)
        self._done = done

    def show(self, tokens: int, note: str = "") -> None:
        """Update the display. note: shown behind the numbers."""
        now = time.monotonic()
        spent = now - self._started
        if tokens and not self._bar.disable:
            self._bar.set_postfix_str(f"{tokens / spent:.2f} tokens/s", refresh=False)
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        if self._lines and now - self._last >= LINE_EVERY:
            self._last = now
            rate = self._done / spent
            minutes = (self._total - self._done) / rate / 60 if rate else 0.0
            left = f"{minutes:.1f} min left" if rate else "none finished yet"
            network = f", {tokens / spent:.2f} tokens/s" if tokens else ""
            more = f", {note}" if note else network
            log.info("%d of %d clips, %.2f clips/s%s, %s", self._done, self._total, rate, more, left)

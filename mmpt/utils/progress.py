"""Show the progress of a run: a bar on a terminal, else log lines."""

import contextlib
import logging
import math
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Self

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

log = logging.getLogger(__name__)

LINE_EVERY = 30.0
"""Seconds between two log lines."""


class Bar(tqdm):  # type: ignore[misc]  # tqdm has no types
    """A progress bar with a lock of this process, and without tqdm's thread.

    All processes that are forked after tqdm's first bar share tqdm's lock: if one is killed while it holds
    the lock, all others wait for it forever. The thread refreshes bars that have become slow; instead, each
    update looks at the clock.
    """

    monitor_interval = 0
    _lock = threading.RLock()

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **{"miniters": 1, **options})


def logs_above_bars() -> AbstractContextManager[None]:
    """While it is entered, log lines are written above the bars, if stderr is a terminal."""
    return logging_redirect_tqdm(tqdm_class=Bar) if sys.stderr.isatty() else contextlib.nullcontext()


class Progress:
    """Clips done, clips per second, time left, and tokens per second if a network runs.

    record: called with the clips done and all clips, at most every second. before: clips done by earlier
    runs, which only `record` counts. unit: what is counted, instead of clips.
    """

    def __init__(
        self,
        total: int,
        shown: bool = True,
        record: Callable[[int, int], None] | None = None,
        before: int = 0,
        unit: str = "clip",
    ):
        self._unit = unit
        self._record, self._before, self._recorded = record, before, -math.inf
        terminal = shown and sys.stderr.isatty()
        self._bar: Any = Bar(total=total, unit=unit, disable=not terminal, dynamic_ncols=True)
        self._lines = shown and not terminal
        self._redirect = logs_above_bars() if shown else contextlib.nullcontext()
        self._total, self._done = total, 0
        self._started = self._last = time.monotonic()

    def __enter__(self) -> Self:
        self._tell(0.0)
        self._redirect.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._tell(0.0)
        self._bar.close()
        self._redirect.__exit__(*error)

    def advance(self) -> None:
        """Count one finished clip."""
        self._done += 1
        self._bar.update()

    def move_to(self, done: int, total: int) -> None:
        """Set how many clips are finished, of how many."""
        self._bar.total = self._total = total
        self._bar.update(done - self._done)
        self._done = done

    def show(self, tokens: int, note: str = "") -> None:
        """Update the display. note: shown behind the numbers."""
        self._tell(1.0)
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
            counted = f"{self._done} of {self._total} {self._unit}s, {rate:.2f} {self._unit}s/s"
            log.info("%s%s, %s", counted, more, left)

    def _tell(self, seconds: float) -> None:
        """Record the progress if that was done `seconds` ago or earlier."""
        if self._record is not None and time.monotonic() - self._recorded >= seconds:
            self._recorded = time.monotonic()
            self._record(self._before + self._done, self._before + self._total)

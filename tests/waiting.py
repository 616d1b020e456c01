"""Waiting for what another thread or process does."""

import time
from collections.abc import Callable

PATIENCE = 300.0
"""Seconds after which something hangs, however slow the machine is."""


def wait_until(happened: Callable[[], object], what: str) -> None:
    """Wait until `happened()` is true."""
    until = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < until, f"{what}: not within {PATIENCE:.0f} seconds"
        time.sleep(0.005)

"""Handle signals while a block runs."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


@contextlib.contextmanager
def signals_to(handler: Callable[[int, FrameType | None], Any], *numbers: int) -> Iterator[dict[int, Any]]:
    """While the block runs, `handler` gets these signals. Yields the handlers of before.

    Python handles signals in the main thread only: in others, the block runs without, and {} is yielded.
    """
    if threading.current_thread() is not threading.main_thread():
        yield {}
        return
    # None stands for a handler that is not Python's, which cannot be set again
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, handler)
        yield before
    finally:
        for number, was in before.items():
            signal.signal(number, was)


@contextlib.contextmanager
def signals_held(*numbers: int) -> Iterator[None]:
    """Hold back these signals while the block runs."""
    held: list[int] = []
    with signals_to(lambda number, frame: held.append(number), *numbers):
        yield
    for number in held:
        signal.raise_signal(number)

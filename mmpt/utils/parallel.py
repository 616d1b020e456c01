"""A function over many items in several processes, results in order."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from typing import Any, TypeVar

from mmpt.utils.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 4


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_workers(workers: int | None, default: int) -> int:
    """The number of processes asked for, or `default`. Raises UserError below 0."""
    if workers is not None and workers < 0:
        raise UserError(f"--workers {workers}: expected 0 or more.")
    return default if workers is None else workers


def ordered_map(
    function: Callable[[T], R], items: Iterable[T], workers: int = 0, chunk: int = 8, ahead: int = AHEAD
) -> Iterator[R]:
    """function(item) for each item, in order; in this process when `workers` is 0.

    function and items are sent to fresh processes ("spawn": forking a process in which torch runs threads can
    hang), so they must be picklable. What the function raises is raised here. ahead: chunks that each
    process may
    be ahead of the reader, so that memory stays flat.
    """
    if workers < 1:
        yield from map(function, items)
        return
    source = iter(items)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        pending: deque[Future[list[R]]] = deque()
        try:
            while True:
                while len(pending) < ahead * workers and (part := list(islice(source, chunk))):
                    pending.append(pool.submit(_all, function, part))
                if not pending:
                    return
                yield from pending.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _all(function: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    return [function(item) for item in items]

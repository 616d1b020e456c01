"""Map a function over items in several processes, with results in order."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

from mmpt.utils.errors import UserError
from mmpt.utils.signals import signals_held

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 4


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def most_processes() -> int:
    """The number of processes that may be asked for: 64, and above 8 cores, 8 per core."""
    return max(64, 8 * cores())


def check_workers(workers: int | None, default: int, option: str = "--workers", least: int = 0) -> int:
    """`workers`, or `default` if it is None; `option` sets their number, which may be one of threads.

    Raises UserError below `least`, and far above the number of cores.
    """
    most = most_processes()
    if workers is not None and not least <= workers <= most:
        raise UserError(
            f"{option} {workers}: expected {least} to {most} (this process may use {cores()} cores)."
        )
    return default if workers is None else workers


def ordered_map(
    function: Callable[[T], R], items: Iterable[T], workers: int = 0, chunk: int = 8, ahead: int = AHEAD
) -> Iterator[R]:
    """function(item) for each item, in order; in this process if `workers` is 0.

    Items are sent to the processes in chunks; no more processes start than there are chunks. function and
    items must be picklable, and function must not compute with torch (see _context). Exceptions of the
    function are raised here. ahead: chunks that each process may be ahead of the reader, which bounds the
    memory. Raises UserError if a process ends unexpectedly.
    """
    if workers < 1:
        yield from map(function, items)
        return
    end_in_a_script_without_main_guard()
    source = iter(items)
    parts = iter(lambda: list(islice(source, chunk)), [])
    first = list(islice(parts, workers))
    if not first:
        return
    parts, workers = chain(first, parts), len(first)
    with ProcessPoolExecutor(workers, mp_context=_context(), initializer=follow_parent) as pool:
        pending: deque[Future[list[R]]] = deque()
        try:
            while True:
                for part in islice(parts, ahead * workers - len(pending)):
                    # submitting starts processes: an exception of a handler would leave some that the pool
                    # does not know, and wait for them
                    with signals_held(signal.SIGINT, signal.SIGTERM):
                        pending.append(pool.submit(_all, function, part))
                if not pending:
                    return
                yield from pending.popleft().result()
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process ended unexpectedly. A script that uses mmpt needs a main guard (`if "
                '__name__ == "__main__":`) around what it runs, because workers import the script; if it has '
                "one, the memory may be too small for so many workers."
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _context() -> BaseContext:
    """Forked processes, which start at once, where that is safe; else spawned ones.

    A forked process has only the thread that forked: a lock that another one holds is never released. So
    processes are forked only if Python has no other thread here but that of a caller's tqdm bars, whose lock
    workers do not use (see utils.progress). torch's own threads hold no locks between calls, but do not exist
    in the new process either, so computing with torch may hang there.
    """
    others = [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
    alone = set(others) <= {"tqdm_monitor"}
    return multiprocessing.get_context("fork" if sys.platform == "linux" and alone else "spawn")


def follow_parent() -> None:
    """In a worker process: leave Ctrl-C to the parent, and end when it ends, even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def end_in_a_script_without_main_guard() -> None:
    """End a worker process that is still importing the main script: the script has no main guard.

    Otherwise it would start workers of its own, or wait for a lock that its parent holds.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(1)


def _all(function: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    return [function(item) for item in items]

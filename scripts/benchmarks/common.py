"""Shared by the benchmarks: alternating repeats, growth with size, memory of a process, the machine."""

import contextlib
import math
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from mmpt.utils.parallel import follow_parent


class Taken(NamedTuple):
    """Seconds of one call: wall time, and processor time, which other load affects less."""

    wall: float
    cpu: float


def clocked(work: Callable[[], object]) -> Taken:
    """Time one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Taken(time.perf_counter() - wall, time.process_time() - cpu)


def alternate(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[Taken]]:
    """Seconds of each variant, `repeats` times in turn, so that a slow phase of the machine affects all."""
    times: dict[str, list[Taken]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, work in ways.items():
            times[name].append(clocked(work))
    return times


def median_ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Median over the repeats of slow/fast within one repeat."""
    return statistics.median(a / b for a, b in zip(slow, fast))


def exponent(sizes: Sequence[float], times: Sequence[float]) -> float:
    """The b of times = a * sizes^b, by least squares on the logarithms."""
    return statistics.linear_regression([math.log(x) for x in sizes], [math.log(y) for y in times]).slope


@contextlib.contextmanager
def own_process(make: Callable[..., object], *args: Any) -> Iterator[Callable[..., Any]]:
    """An object `make(*args)` in a new process, which has its own memory and loaded libraries.

    Yields a function that calls a method of it: (name, *arguments) -> its result.
    """
    with _new_process() as process:
        process.submit(_make, make, args).result()
        yield lambda method, *given: process.submit(_call, method, given).result()


@contextlib.contextmanager
def _new_process() -> Iterator[ProcessPoolExecutor]:
    others = multiprocessing.active_children()
    process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=follow_parent)
    try:
        yield process
    except BaseException:  # an error, or Ctrl-C: the process need not finish
        for child in {*multiprocessing.active_children()} - {*others}:
            child.terminate()
        raise
    finally:
        process.shutdown()


_made: Any = None


def _make(make: Callable[..., object], args: tuple[Any, ...]) -> None:
    global _made
    _made = make(*args)


def _call(method: str, args: tuple[Any, ...]) -> Any:
    return getattr(_made, method)(*args)


def in_own_process(work: Callable[..., Any], *args: Any) -> tuple[Any, int]:
    """The result of `work(*args)` in a new process, and that process's peak resident memory in bytes."""
    with _new_process() as process:
        return process.submit(_measured, work, args).result()


def _measured(work: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, int]:
    result = work(*args)
    return result, peak_memory()


def peak_memory() -> int:
    """Peak resident memory of this process, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the parent had before this program was started in its place
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident_memory() -> int:
    """Resident memory of this process now, in bytes (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def machine() -> dict[str, Any]:
    """Processor, cores and versions."""
    import numpy

    info = Path("/proc/cpuinfo")
    names = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in names if line.startswith("model name")), "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {"python": platform.python_version(), "numpy": numpy.__version__}
    return {"processor": model or platform.processor(), "cores": cores} | versions

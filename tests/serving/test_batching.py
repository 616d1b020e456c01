"""The model thread, with a function in place of the model."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mmpt.serving.batching import Batcher
from mmpt.utils.errors import UserError
from tests.waiting import PATIENCE


class Model:
    """Doubles numbers; refuses negative ones, and breaks at 13. The first batch waits for `go`."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()

    def __call__(self, jobs: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(jobs))
        assert self.go.wait(PATIENCE)
        if 13 in jobs:
            raise RuntimeError("a bug")
        return [UserError("negative") if job < 0 else 2 * job for job in jobs]


def in_own_loop(work: Coroutine[Any, Any, Any]) -> Any:
    """asyncio.run in a thread: playwright leaves a running loop in that of the tests."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def run(model: Model, most: int, requests: Callable[[Batcher[int, int]], object]) -> None:
    async def main() -> None:
        with Batcher[int, int](model, most) as batcher:
            await requests(batcher)  # type: ignore[misc]

    in_own_loop(main())


async def behind_the_first(model: Model, batcher: Batcher[int, int], jobs: Sequence[int]) -> list[object]:
    """The answers of jobs that were submitted while the first was computed."""
    first = asyncio.ensure_future(batcher.submit(0))
    while not model.batches:
        await asyncio.sleep(0.001)
    rest = [asyncio.ensure_future(batcher.submit(job)) for job in jobs]
    await asyncio.sleep(0)
    model.go.set()
    return await asyncio.gather(first, *rest, return_exceptions=True)


def test_what_waits_is_computed_together_up_to_the_limit() -> None:
    model = Model()

    async def requests(batcher: Batcher[int, int]) -> None:
        found = await behind_the_first(model, batcher, range(1, 8))
        assert found == [2 * job for job in range(8)]

    run(model, 5, requests)
    assert model.batches == [[0], [1, 2, 3, 4, 5], [6, 7]]


def test_errors_belong_to_their_job() -> None:
    model = Model()

    async def requests(batcher: Batcher[int, int]) -> None:
        found = await behind_the_first(model, batcher, [1, -1, 2])
        assert [str(one) for one in found] == ["0", "2", "negative", "4"]

    run(model, 8, requests)


def test_a_bug_hits_its_job_alone_and_the_thread_goes_on() -> None:
    model = Model()

    async def requests(batcher: Batcher[int, int]) -> None:
        found = await behind_the_first(model, batcher, [1, 13, 2])
        assert [str(one) for one in found] == ["0", "2", "a bug", "4"]
        assert await batcher.submit(5) == 10

    run(model, 8, requests)


def test_cancelled_jobs_are_not_computed() -> None:
    model = Model()

    async def requests(batcher: Batcher[int, int]) -> None:
        first = asyncio.ensure_future(batcher.submit(0))
        while not model.batches:
            await asyncio.sleep(0.001)
        rest = [asyncio.ensure_future(batcher.submit(job)) for job in (1, 2, 3)]
        await asyncio.sleep(0)
        rest[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await rest[1]
        model.go.set()
        assert await asyncio.gather(first, rest[0], rest[2]) == [0, 2, 6]

    run(model, 8, requests)
    assert model.batches == [[0], [1, 3]]


def test_leaving_finishes_what_was_submitted() -> None:
    model = Model()
    model.go.set()

    async def main() -> list[int]:
        with Batcher[int, int](model, 2) as batcher:
            waiting = [asyncio.ensure_future(batcher.submit(job)) for job in range(5)]
            await asyncio.sleep(0)
        return await asyncio.gather(*waiting)

    assert in_own_loop(main()) == [0, 2, 4, 6, 8]

"""Requests that arrive together are computed together, in the one thread that uses the model."""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class Batcher(Generic[Job, Result]):
    """A thread that takes all waiting jobs, at most `most`, and computes them in one call.

    compute: jobs -> a result or an exception for each. A job whose request was cancelled is left out. Use it
    as a context manager: leaving it waits for the jobs that were submitted.
    """

    def __init__(self, compute: Callable[[Sequence[Job]], Sequence[Result | Exception]], most: int):
        self._compute = compute
        self._most = most
        self._waiting: queue.SimpleQueue[tuple[Job, Future[Result]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="model")

    def __enter__(self) -> "Batcher[Job, Result]":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._waiting.put(None)
        self._thread.join()

    async def submit(self, job: Job) -> Result:
        """The result of a job. Raises its exception. If the caller is cancelled first, so is the job."""
        future: Future[Result] = Future()
        self._waiting.put((job, future))
        return await asyncio.wrap_future(future)

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, ended = [first], False
            while len(batch) < self._most and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    ended = True
                    break
                batch.append(following)
            self._run([(job, future) for job, future in batch if future.set_running_or_notify_cancel()])
            if ended:
                return

    def _run(self, batch: Sequence[tuple[Job, "Future[Result]"]]) -> None:
        if not batch:
            return
        try:
            results = self._compute([job for job, _ in batch])
        except Exception as error:  # the thread must go on, and the other requests are not to blame
            if len(batch) > 1:
                for one in batch:
                    self._run([one])
                return
            results = [error]
        for (_, future), result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

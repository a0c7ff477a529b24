"""The threads that decode and predict, and the bounded queue before them."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from imgclf.serve.bodies import Refused

Result = TypeVar("Result")


class Pool:
    """`threads` threads with room for `limit` jobs that wait; each thread keeps an interpreter of its own (see `Bundle`).

    watch: called with the number that waits whenever it changes.
    """

    def __init__(self, threads: int, limit: int, watch: Callable[[int], None] = lambda length: None) -> None:
        self._threads = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="imgclf-serve")
        self._count, self._limit, self._watch = threads, limit, watch
        self._held = 0  # jobs taken in and not done
        self._lock = threading.Lock()

    @property
    def is_full(self) -> bool:
        return self._held >= self._limit + self._count

    async def run(self, jobs: Sequence[Callable[[], Result]], deadline: float) -> list[Result]:
        """The jobs' results in order; all are taken in, or none.

        deadline: on the loop's clock; what has not begun by then never will. Raises Refused (503) when there is no room or no
        time. A request of more jobs than there is room for is taken in when nothing else is.
        """
        with self._lock:
            if self._held and self._held + len(jobs) > self._limit + self._count:
                raise Refused(503, "too many pictures are waiting; try again in a second", wait=1)
            self._change(len(jobs))
        futures = []
        for job in jobs:
            future = self._threads.submit(job)
            future.add_done_callback(self._done)
            futures.append(future)
        waiting = asyncio.gather(*map(asyncio.wrap_future, futures))
        try:
            async with asyncio.timeout_at(deadline):
                return await waiting
        except TimeoutError:
            raise Refused(503, "not done within the time that one request may take; try again later", wait=5) from None

    def warm(self, job: Callable[[], object]) -> None:
        """Run a job once on every thread; raises what it raises."""
        barrier = threading.Barrier(self._count)

        def one() -> None:
            barrier.wait()  # so that no thread takes two
            job()

        for future in [self._threads.submit(one) for _thread in range(self._count)]:
            future.result()

    def close(self) -> None:
        """Let go of what waits; a job under way ends."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _done(self, _future: object) -> None:
        with self._lock:
            self._change(-1)

    def _change(self, by: int) -> None:
        self._held += by
        self._watch(max(0, self._held - self._count))

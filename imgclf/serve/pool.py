"""The threads that decode and predict images, and their bounded queue."""

import asyncio
import collections
import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from imgclf.serve.bodies import Refused
from imgclf.serve.clients import largest

Result = TypeVar("Result")
_HALF_LIFE = 10.0  # seconds
_FULL = "the queue is full; try again in a second"


@dataclasses.dataclass(frozen=True)
class Job(Generic[Result]):
    """A function to run on a thread. is_long: whether it may take tenths of a second; most jobs take a few milliseconds."""

    do: Callable[[], Result]
    is_long: bool = False


class _Request(Generic[Result]):
    """Jobs that are queued together, and their futures."""

    def __init__(self, client: str, jobs: Sequence[Job[Result]]) -> None:
        self.client = client
        self.jobs = collections.deque(jobs)  # not started
        self.futures: list[concurrent.futures.Future[Result]] = [concurrent.futures.Future() for _job in jobs]
        self.waiting = collections.deque(self.futures)


class _RecentSeconds:
    """Seconds of recent jobs by client: halved every _HALF_LIFE seconds."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._halved = time.monotonic()

    def add(self, client: str, new: float) -> None:
        while (now := time.monotonic()) - self._halved > _HALF_LIFE:
            self._halved = now if not self._seconds else self._halved + _HALF_LIFE
            self._seconds = {name: seconds / 2 for name, seconds in self._seconds.items() if seconds > 0.001}
        self._seconds[client] = self._seconds.get(client, 0.0) + new

    def __getitem__(self, client: str) -> float:
        return self._seconds.get(client, 0.0)


class Pool:
    """Threads with a bounded queue of jobs. Each thread has its own interpreter (see `Bundle`).

    The next job comes from the client with the least recent work, and if there are several threads, one runs no long jobs. So
    an image does not wait for the images of a busier client. When the queue is full, the newest request of the client with the
    most waiting jobs is refused.

    Args:
        threads: Number of threads.
        limit: Maximum number of waiting jobs.
        watch: Called with the number of waiting jobs whenever it changes.
    """

    def __init__(self, threads: int, limit: int, watch: Callable[[int], None] = lambda length: None) -> None:
        self._threads = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="imgclf-serve")
        self._count, self._limit, self._watch = threads, limit, watch
        self._running = self._long = 0  # running jobs, and the long jobs among them
        self._recent = _RecentSeconds()
        self._requests: dict[str, list[_Request[Any]]] = {}  # requests with waiting jobs, by client
        self._waiting: dict[str, int] = {}  # number of waiting jobs, by client
        self._lock = threading.Lock()

    def is_full(self, client: str = "") -> bool:
        """Return whether the pool would refuse one more job of a client."""
        with self._lock:
            return not self._has_room(1) and self._request_to_evict(client, 1) is None

    async def run(self, jobs: Sequence[Job[Result]], deadline: float, client: str = "") -> list[Result]:
        """Run all jobs and return their results in order. Either all jobs are queued or none.

        A request with more jobs than the limit is accepted only while the pool is idle.

        Args:
            jobs: The jobs of one request.
            deadline: On the loop's clock; jobs that have not started by then are cancelled.
            client: The client that sent the request.

        Raises:
            Refused: The queue is full or the deadline has passed (503).
        """
        request = _Request(client, jobs)
        with self._lock:
            while not self._has_room(len(jobs)):
                evicted = self._request_to_evict(client, len(jobs))
                if evicted is None:
                    raise Refused(503, _FULL, wait=1)
                self._withdraw(evicted, Refused(503, _FULL, wait=1))
            self._requests.setdefault(client, []).append(request)
            self._waiting[client] = self._waiting.get(client, 0) + len(jobs)
            self._start_jobs()
        waiting = asyncio.gather(*map(asyncio.wrap_future, request.futures))
        try:
            async with asyncio.timeout_at(deadline):
                return await waiting
        except TimeoutError:
            raise Refused(503, "the request was not finished within the time limit; try again later", wait=5) from None
        finally:
            with self._lock:
                self._withdraw(request, None)

    def warm(self, job: Callable[[], object]) -> None:
        """Run a job once on every thread, and raise its exception, if any."""
        barrier = threading.Barrier(self._count)

        def wait_and_run() -> None:
            barrier.wait()  # so that no thread runs it twice
            job()

        for future in [self._threads.submit(wait_and_run) for _thread in range(self._count)]:
            future.result()

    def close(self) -> None:
        """Cancel the waiting jobs; running jobs finish."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _has_room(self, more: int) -> bool:
        current = self._running + sum(self._waiting.values())
        return not current or current + more <= self._limit + self._count

    def _request_to_evict(self, client: str, more: int) -> "_Request[Any] | None":
        """Return the newest request of the client with the most waiting jobs, if it would still have more than this client."""
        if not self._waiting:
            return None
        most = largest(self._waiting)
        if most == client or self._waiting[most] <= self._waiting.get(client, 0) + more:
            return None
        return self._requests[most][-1]

    def _withdraw(self, request: _Request[Any], error: Exception | None) -> None:
        """Remove the waiting jobs of a request from the queue. Cancel their futures, or set their error."""
        waiting, request.waiting = request.waiting, collections.deque()
        request.jobs.clear()
        if waiting:
            self._change_waiting(request, -len(waiting))
        for future in waiting:
            if error is None:
                future.cancel()
            elif future.set_running_or_notify_cancel():
                future.set_exception(error)

    def _start_jobs(self) -> None:
        """Start the next jobs on the free threads."""
        while self._running < self._count and (request := self._next_request()):
            job, future = request.jobs.popleft(), request.waiting.popleft()
            self._change_waiting(request, -1)
            if future.set_running_or_notify_cancel():
                self._running += 1
                self._long += job.is_long
                self._threads.submit(self._do, request.client, job, future)
        self._watch(sum(self._waiting.values()))

    def _next_request(self) -> "_Request[Any] | None":
        """Return the request whose first job starts next."""
        allows_long = self._long < max(1, self._count - 1)
        firsts = [requests[0] for requests in self._requests.values() if allows_long or not requests[0].jobs[0].is_long]
        return min(firsts, key=lambda request: self._recent[request.client], default=None)

    def _change_waiting(self, request: _Request[Any], by: int) -> None:
        """Change the number of waiting jobs of a client; remove a request without waiting jobs."""
        client = request.client
        self._waiting[client] += by
        if not request.waiting:
            self._requests[client].remove(request)
        if not self._waiting[client]:
            del self._waiting[client], self._requests[client]
        self._watch(sum(self._waiting.values()))

    def _do(self, client: str, job: Job[Result], future: "concurrent.futures.Future[Result]") -> None:
        start = time.monotonic()
        try:
            result = job.do()
        except BaseException as error:
            self._finish(client, job, start)
            future.set_exception(error)
        else:
            self._finish(client, job, start)
            future.set_result(result)

    def _finish(self, client: str, job: Job[Any], start: float) -> None:
        with self._lock:
            self._running -= 1
            self._long -= job.is_long
            self._recent.add(client, time.monotonic() - start)
            self._start_jobs()

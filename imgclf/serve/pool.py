"""The threads that decode and predict, and the bounded queue before them."""

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
    """Something to do. is_long: whether it may take tenths of a second, where most take some milliseconds."""

    do: Callable[[], Result]
    is_long: bool = False


class _Request(Generic[Result]):
    """Jobs that are taken in together, and their futures."""

    def __init__(self, client: str, jobs: Sequence[Job[Result]]) -> None:
        self.client = client
        self.jobs = collections.deque(jobs)  # those that have not begun
        self.futures: list[concurrent.futures.Future[Result]] = [concurrent.futures.Future() for _job in jobs]
        self.waiting = collections.deque(self.futures)


class _Spent:
    """Seconds of work that each client took lately: halved every _HALF_LIFE seconds."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._halved = time.monotonic()

    def add(self, client: str, seconds: float) -> None:
        while (now := time.monotonic()) - self._halved > _HALF_LIFE:
            self._halved = now if not self._seconds else self._halved + _HALF_LIFE
            self._seconds = {one: spent / 2 for one, spent in self._seconds.items() if spent > 0.001}
        self._seconds[client] = self._seconds.get(client, 0.0) + seconds

    def __getitem__(self, client: str) -> float:
        return self._seconds.get(client, 0.0)


class Pool:
    """`threads` threads with room for `limit` jobs that wait; each thread keeps an interpreter of its own (see `Bundle`).

    The next job is one of the client that took the least time lately, and one thread of several is kept free of long jobs: so
    an image does not wait for others of a client that sends much. Where there is no room, the client with the most waiting
    jobs gives way with its newest request. watch: called with the number that waits whenever it changes.
    """

    def __init__(self, threads: int, limit: int, watch: Callable[[int], None] = lambda length: None) -> None:
        self._threads = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="imgclf-serve")
        self._count, self._limit, self._watch = threads, limit, watch
        self._running = self._long = 0  # jobs on threads, and the long ones of them
        self._spent = _Spent()
        self._requests: dict[str, list[_Request[Any]]] = {}  # with waiting jobs, by client
        self._waiting: dict[str, int] = {}  # jobs of each of these clients
        self._lock = threading.Lock()

    def is_full(self, client: str = "") -> bool:
        """Whether one more job of a client would be refused."""
        with self._lock:
            return not self._has_room(1) and self._who_gives_way(client, 1) is None

    async def run(self, jobs: Sequence[Job[Result]], deadline: float, client: str = "") -> list[Result]:
        """The jobs' results in order; all are taken in, or none.

        deadline: on the loop's clock; what has not begun by then never will. Raises Refused (503) when there is no room or no
        time. A request of more jobs than there is room for is taken in when nothing else is.
        """
        request = _Request(client, jobs)
        with self._lock:
            while not self._has_room(len(jobs)):
                largest_one = self._who_gives_way(client, len(jobs))
                if largest_one is None:
                    raise Refused(503, _FULL, wait=1)
                self._withdraw(largest_one, Refused(503, _FULL, wait=1))
            self._requests.setdefault(client, []).append(request)
            self._waiting[client] = self._waiting.get(client, 0) + len(jobs)
            self._begin()
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

    def _has_room(self, more: int) -> bool:
        held = self._running + sum(self._waiting.values())
        return not held or held + more <= self._limit + self._count

    def _who_gives_way(self, client: str, more: int) -> "_Request[Any] | None":
        """The newest request of the client with the most waiting jobs, if that is another and stays the largest."""
        if not self._waiting:
            return None
        most = largest(self._waiting)
        if most == client or self._waiting[most] <= self._waiting.get(client, 0) + more:
            return None
        return self._requests[most][-1]

    def _withdraw(self, request: _Request[Any], error: Exception | None) -> None:
        """Take what has not begun out of the queue, and let who waits for it know."""
        waiting, request.waiting = request.waiting, collections.deque()
        request.jobs.clear()
        if waiting:
            self._waited(request, -len(waiting))
        for future in waiting:
            if error is None:
                future.cancel()
            elif future.set_running_or_notify_cancel():
                future.set_exception(error)

    def _begin(self) -> None:
        """Give free threads the next jobs."""
        while self._running < self._count and (request := self._next()):
            job, future = request.jobs.popleft(), request.waiting.popleft()
            self._waited(request, -1)
            if future.set_running_or_notify_cancel():
                self._running += 1
                self._long += job.is_long
                self._threads.submit(self._do, request.client, job, future)
        self._watch(sum(self._waiting.values()))

    def _next(self) -> "_Request[Any] | None":
        """The request whose first job is to begin."""
        takes_long = self._long < max(1, self._count - 1)
        firsts = [requests[0] for requests in self._requests.values() if takes_long or not requests[0].jobs[0].is_long]
        return min(firsts, key=lambda request: self._spent[request.client], default=None)

    def _waited(self, request: _Request[Any], by: int) -> None:
        """Change how many jobs of a request wait; forget it when none do."""
        client = request.client
        self._waiting[client] += by
        if not request.waiting:
            self._requests[client].remove(request)
        if not self._waiting[client]:
            del self._waiting[client], self._requests[client]
        self._watch(sum(self._waiting.values()))

    def _do(self, client: str, job: Job[Result], future: "concurrent.futures.Future[Result]") -> None:
        began = time.monotonic()
        try:
            result = job.do()
        except BaseException as error:
            self._ended(client, job, began)
            future.set_exception(error)
        else:
            self._ended(client, job, began)
            future.set_result(result)

    def _ended(self, client: str, job: Job[Any], began: float) -> None:
        with self._lock:
            self._running -= 1
            self._long -= job.is_long
            self._spent.add(client, time.monotonic() - began)
            self._begin()

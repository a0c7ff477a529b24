"""The threads that decode and predict, and the bounded queue before them."""

import asyncio
import collections
import concurrent.futures
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from imgclf.serve.bodies import Refused
from imgclf.serve.clients import largest

Result = TypeVar("Result")
_FULL = "too many pictures are waiting; try again in a second"


class _Request(Generic[Result]):
    """Jobs that are taken in together, and their futures."""

    def __init__(self, client: str, jobs: Sequence[Callable[[], Result]]) -> None:
        self.client = client
        self.jobs = collections.deque(jobs)  # those that have not begun
        self.futures: list[concurrent.futures.Future[Result]] = [concurrent.futures.Future() for _job in jobs]
        self.waiting = collections.deque(self.futures)


class Pool:
    """`threads` threads with room for `limit` jobs that wait; each thread keeps an interpreter of its own (see `Bundle`).

    Clients take turns: a job waits for one job of each other client at most. Where there is no room, the client with the most
    waiting jobs gives way with its newest request. watch: called with the number that waits whenever it changes.
    """

    def __init__(self, threads: int, limit: int, watch: Callable[[int], None] = lambda length: None) -> None:
        self._threads = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="imgclf-serve")
        self._count, self._limit, self._watch = threads, limit, watch
        self._running = 0
        self._requests: dict[str, list[_Request[Any]]] = {}  # with waiting jobs, by client: the one whose turn it is first
        self._waiting: dict[str, int] = {}  # jobs of each of these clients
        self._lock = threading.Lock()

    def is_full(self, client: str = "") -> bool:
        """Whether one more job of a client would be refused."""
        with self._lock:
            return not self._has_room(1) and self._who_gives_way(client, 1) is None

    async def run(self, jobs: Sequence[Callable[[], Result]], deadline: float, client: str = "") -> list[Result]:
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
            raise Refused(503, "not done within the time that one request may take; try again later", wait=5) from None
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
        while self._running < self._count and self._requests:
            request = next(iter(self._requests.values()))[0]
            job, future = request.jobs.popleft(), request.waiting.popleft()
            self._waited(request, -1)
            if request.client in self._requests:  # the next turn is another client's
                self._requests[request.client] = self._requests.pop(request.client)
            if future.set_running_or_notify_cancel():
                self._running += 1
                self._threads.submit(self._do, job, future)
        self._watch(sum(self._waiting.values()))

    def _waited(self, request: _Request[Any], by: int) -> None:
        """Change how many jobs of a request wait; forget it when none do."""
        client = request.client
        self._waiting[client] += by
        if not request.waiting:
            self._requests[client].remove(request)
        if not self._waiting[client]:
            del self._waiting[client], self._requests[client]
        self._watch(sum(self._waiting.values()))

    def _do(self, job: Callable[[], Result], future: "concurrent.futures.Future[Result]") -> None:
        try:
            result = job()
        except BaseException as error:
            self._ended()
            future.set_exception(error)
        else:
            self._ended()
            future.set_result(result)

    def _ended(self) -> None:
        with self._lock:
            self._running -= 1
            self._begin()

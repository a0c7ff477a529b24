"""Run a function over many items on all cores, results in order, memory bounded."""

import concurrent.futures
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cpu_count() -> int:
    """Cores this process may use (a container or `taskset` may grant fewer than the machine has)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item], *, workers: int | None = None) -> Iterator[Result]:
    """`map` on threads: OpenCV and LiteRT release the GIL, so threads use every core without copying pixels.

    Results come in the order of `items`, each as soon as it and all before it are done. At most eight items a worker are
    under way or waiting, so that a million inputs take no more memory than a hundred.
    """
    workers = workers or cpu_count()
    pool = concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="imgclf")
    waiting: queue.SimpleQueue[concurrent.futures.Future[Result] | BaseException | None] = queue.SimpleQueue()
    room = threading.Semaphore(8 * workers)
    stopped = False

    def feed() -> None:
        """In a thread of its own, so that a source that waits (a pipe) does not hold back results that are ready."""
        try:
            for item in items:
                room.acquire()
                if stopped:
                    return
                waiting.put(pool.submit(function, item))
            waiting.put(None)
        except BaseException as error:  # handed to whoever iterates over the results
            waiting.put(error)

    threading.Thread(target=feed, name="imgclf-feed", daemon=True).start()
    try:
        while (next_one := waiting.get()) is not None:
            if isinstance(next_one, BaseException):
                raise next_one
            result = next_one.result()
            room.release()
            yield result
    finally:
        stopped = True
        room.release()
        pool.shutdown(wait=True, cancel_futures=True)

"""Run a function on many items on all cores, with results in order and bounded memory."""

import concurrent.futures
import contextlib
import importlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, TypeVar

from imgclf.core.errors import ImgclfError

Item = TypeVar("Item")
Result = TypeVar("Result")

WORTH_PROCESSES = 1000  # items from which starting processes saves time, at one millisecond per item
_CHUNK = 16  # items sent to a process at once


def cpu_count() -> int:
    """Return the number of cores that this process may use: a container or `taskset` can grant fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int | None = None
) -> Generator[Result, None, None]:
    """Run `map` on threads. OpenCV and LiteRT release the GIL, so threads use every core without copying pixels.

    Results have the order of `items`, and each is yielded as soon as it and all earlier ones are done. At most eight items per
    worker are running or waiting, so a million inputs need no more memory than a hundred. The threads end after the last
    result, or when the generator is closed: use `contextlib.closing` if you may stop early.

    Args:
        workers: Number of threads; None for one per core.
    """
    workers = workers or cpu_count()
    pool = concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="imgclf")
    waiting: queue.SimpleQueue[concurrent.futures.Future[Result] | BaseException | None] = queue.SimpleQueue()
    room = threading.Semaphore(8 * workers)
    stopped = False

    def feed() -> None:
        """Submit the items. This runs in its own thread, so that a slow source (a pipe) does not delay finished results."""
        try:
            for item in items:
                room.acquire()
                if stopped:
                    return
                waiting.put(pool.submit(function, item))
            waiting.put(None)
        except BaseException as error:  # raised again in the thread that iterates over the results
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


def process_map(function: Callable[[Any, Item], Result], shared: Any, items: Sequence[Item]) -> Generator[Result, None, None]:
    """Run `function(shared, item)` for every item on processes: for many small steps, in which threads block each other.

    Results have the order of `items`. Fewer than WORTH_PROCESSES items run on threads, because a process takes a third of a
    second to start.

    Args:
        function: A function at the top level of a module.
        shared: Sent once to each process, by pickle, as the items are.

    Raises:
        ImgclfError: A process died (out of memory, or a crash in a decoder). The message names its items.
    """
    workers = min(cpu_count(), len(items) // _CHUNK)
    if workers < 2 or len(items) < WORTH_PROCESSES:
        yield from ordered_map(lambda item: function(shared, item), items)
        return
    idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    with contextlib.ExitStack() as stack:
        for _number in range(workers):
            idle.put(stack.enter_context(_Worker(function, shared)))

        def run(chunk: tuple[Item, ...]) -> list[Result]:
            worker = idle.get()
            try:
                results: list[Result] = worker.run(chunk)
                return results
            finally:
                idle.put(worker)

        chunks = (tuple(items[top : top + _CHUNK]) for top in range(0, len(items), _CHUNK))
        for results in stack.enter_context(contextlib.closing(ordered_map(run, chunks, workers=workers))):
            yield from results


class _Worker:
    """A Python process that reads pickled chunks of items and writes pickled lists of results, until its input ends.

    `multiprocessing` is not used: its children import the user's own script again, and survive when this process is killed.
    """

    def __init__(self, function: Callable[..., Any], shared: Any) -> None:
        code = f"from imgclf.core.parallel import _serve; _serve({function.__module__!r}, {function.__qualname__!r})"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self.shared: Any = (shared,)  # sent before the first chunk

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *_details: object) -> None:
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        self.process.wait()

    def run(self, chunk: Sequence[Any]) -> Any:
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise ValueError("the worker has no pipes")
        try:
            if self.shared:
                pickle.dump(self.shared[0], stdin)
                self.shared = ()
            pickle.dump(chunk, stdin)
            stdin.flush()
            results = pickle.load(stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise ImgclfError(
                f"a worker process died (exit code {self.process.wait()}) between {str(chunk[0])!r} and {str(chunk[-1])!r}; "
                "if the machine is short of memory, close other programs; otherwise move these files away; then run again"
            ) from error
        if isinstance(results, BaseException):
            raise results
        return results


def _serve(module: str, name: str) -> None:
    """Run the loop of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output that a library prints must not mix with the results
    function = getattr(importlib.import_module(module), name)
    shared: Any = None
    with contextlib.suppress(EOFError):
        shared = pickle.load(source)
    while True:
        try:
            chunk = pickle.load(source)
        except EOFError:
            return
        results: Any
        try:
            results = [function(shared, item) for item in chunk]
        except BaseException as error:
            results = error
        pickle.dump(results, sink)
        sink.flush()

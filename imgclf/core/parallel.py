"""Run a function over many items on all cores, results in order, memory bounded."""

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

WORTH_PROCESSES = 1000  # items from which it pays to start processes, at a millisecond an item
_CHUNK = 16


def cpu_count() -> int:
    """Cores this process may use (a container or `taskset` may grant fewer than the machine has)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int | None = None
) -> Generator[Result, None, None]:
    """`map` on threads: OpenCV and LiteRT release the GIL, so threads use every core without copying pixels.

    Results come in the order of `items`, each as soon as it and all before it are done. At most eight items a worker are
    under way or waiting, so that a million inputs take no more memory than a hundred. The threads end after the last
    result, or when the generator is closed. Callers that may stop early use `contextlib.closing`.
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


def process_map(function: Callable[[Any, Item], Result], shared: Any, items: Sequence[Item]) -> Generator[Result, None, None]:
    """`function(shared, item)` for every item, on processes: for many small steps, where threads would wait for each other.

    function: of a module's top level; it, `shared` (once a process) and the items travel by pickle. Results come in order.
    A few items are done on threads, since a process takes a third of a second to start. A process that dies (the memory
    killer, a crash in a decoder) becomes an ImgclfError that names the items it was at.
    """
    workers = min(cpu_count(), len(items) // _CHUNK)
    if workers < 2 or len(items) < WORTH_PROCESSES:
        yield from ordered_map(lambda item: function(shared, item), items)
        return
    idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    with contextlib.ExitStack() as stack:
        for _number in range(workers):
            idle.put(stack.enter_context(_Worker(function, shared)))

        def ask(chunk: tuple[Item, ...]) -> list[Result]:
            worker = idle.get()
            try:
                answer: list[Result] = worker.ask(chunk)
                return answer
            finally:
                idle.put(worker)

        chunks = (tuple(items[top : top + _CHUNK]) for top in range(0, len(items), _CHUNK))
        for answers in stack.enter_context(contextlib.closing(ordered_map(ask, chunks, workers=workers))):
            yield from answers


class _Worker:
    """A Python process that answers pickled chunks of items with pickled lists of results, until its input ends.

    Not `multiprocessing`: its children import the user's own script anew, and live on when this process is killed.
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

    def ask(self, chunk: Sequence[Any]) -> Any:
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise ValueError("the worker has no pipes")
        try:
            if self.shared:
                pickle.dump(self.shared[0], stdin)
                self.shared = ()
            pickle.dump(chunk, stdin)
            stdin.flush()
            answer = pickle.load(stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise ImgclfError(
                f"a worker process died (exit code {self.process.wait()}) between {str(chunk[0])!r} and {str(chunk[-1])!r}; "
                "if the machine is short of memory, close other programs, else move those files away and run again"
            ) from error
        if isinstance(answer, BaseException):
            raise answer
        return answer


def _serve(module: str, name: str) -> None:
    """What a worker process runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    function = getattr(importlib.import_module(module), name)
    shared: Any = None
    with contextlib.suppress(EOFError):
        shared = pickle.load(source)
    while True:
        try:
            chunk = pickle.load(source)
        except EOFError:
            return
        answer: Any
        try:
            answer = [function(shared, item) for item in chunk]
        except BaseException as error:
            answer = error
        pickle.dump(answer, sink)
        sink.flush()

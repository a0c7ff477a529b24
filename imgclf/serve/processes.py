"""Several worker processes on one socket: start them, watch them, and restart those that exit."""

import contextlib
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from imgclf.core import signals
from imgclf.core.config import ServeConfig
from imgclf.core.errors import ImgclfError
from imgclf.core.remedies import why
from imgclf.serve.meters import SIZE, Meters

READY = "ready\n"  # a worker writes this when it is ready, or else the reason why it exits
FIRST_WAIT = 0.5  # seconds until a worker that exited is restarted; doubled each time
LONGEST_WAIT = 30.0
_STABLE = 30.0  # seconds; a worker that ran for this long is restarted after FIRST_WAIT again


class _Process:
    """The Python process of a worker. It serves on the shared socket, and exits on SIGTERM or when its parent has exited."""

    def __init__(self, task: dict[str, Any], descriptors: tuple[int, ...]) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-P", "-c", "from imgclf.serve.server import _run_worker; _run_worker()"]
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            pass_fds=descriptors,
            start_new_session=True,
        )
        if self.process.stdin is None or self.process.stdout is None:
            raise ValueError("the process has no pipes")
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        with contextlib.suppress(OSError):  # if it has exited already, `watch` notices it
            self.stdin.write(json.dumps(task).encode() + b"\n")
            self.stdin.flush()

    @property
    def reason(self) -> str:
        """Wait for the process to exit, and return the reason."""
        code = self.process.wait()
        output = self.stdout.read().decode("utf-8", "replace").removeprefix(READY).strip()
        return output or (f"exit code {code}" if code >= 0 else f"signal {-code}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.stdin, self.stdout):
            with contextlib.suppress(OSError):
                stream.close()


class _Worker:
    """A worker, whose process is restarted when it exits.

    start: starts a new process. meters: counters of the worker. warn: called with a message.
    """

    def __init__(self, start: Callable[[], _Process], meters: Meters, warn: Callable[[str], None]) -> None:
        self._start, self._meters, self._warn = start, meters, warn
        self.process: _Process | None = start()
        self._wait, self._next = FIRST_WAIT, 0.0

    def watch(self) -> None:
        """Check whether the process still runs. If not, start a new one after the wait."""
        now = time.monotonic()
        if self.process is None:
            if now >= self._next:
                try:
                    self.process = self._start()
                except OSError as error:  # no memory, or too many processes
                    self._schedule_restart(now, why(error, "close other programs"))
            return
        if self.process.process.poll() is None:
            return
        self._meters.set_ready(False)
        if now - self.process.began >= _STABLE:
            self._wait = FIRST_WAIT
        self._schedule_restart(now, self.process.reason)
        self.close()

    def _schedule_restart(self, now: float, reason: str) -> None:
        """Warn that the process does not run, and set the time of its restart."""
        self._warn(f"a worker process is not running ({reason}); it is restarted in {self._wait:g} s")
        self._next = now + self._wait
        self._wait = min(LONGEST_WAIT, 2 * self._wait)

    def close(self) -> None:
        if self.process is not None:
            self.process.close()
            self.process = None


def supervise(
    run: Path, config: ServeConfig, listening: socket.socket, ready: Callable[[], None], warn: Callable[[str], None]
) -> None:
    """Run `config.workers` processes on one socket until SIGTERM or Ctrl-C.

    A worker that exits is restarted, after a wait that doubles each time. The other workers keep running.

    Args:
        run: The run folder.
        config: The options of the server.
        listening: The bound socket.
        ready: Called when all workers are ready.
        warn: Called with a message when a worker exits.

    Raises:
        ImgclfError: A worker exits before it is ready.
        KeyboardInterrupt: After Ctrl-C.
    """
    if sys.platform == "win32":
        raise ImgclfError("--workers: not supported on Windows; remove it")
    signals_received: list[int] = []
    with tempfile.TemporaryFile() as file, contextlib.ExitStack() as stack:
        stack.enter_context(
            signals.handled(lambda number, _frame: signals_received.append(number), signal.SIGINT, signal.SIGTERM)
        )
        file.truncate(8 * SIZE * config.workers)
        table = shared_table(file.fileno(), config.workers)
        listening.listen(1024)
        descriptors = (listening.fileno(), file.fileno())

        def starter(place: int) -> Callable[[], _Process]:
            task = {
                "run": str(run),
                "config": asdict(config),
                "place": place,
                "socket": descriptors[0],
                "table": descriptors[1],
            }
            return lambda: _Process(task, descriptors)

        workers: list[_Worker] = []
        for number in range(config.workers):
            workers.append(_Worker(starter(number), Meters(table, number), warn))
            stack.callback(workers[-1].close)
        for worker in workers:
            if worker.process and (line := worker.process.stdout.readline().decode("utf-8", "replace")) != READY:
                raise ImgclfError(line.strip() or f"a worker process exited during its start ({worker.process.reason})")
        ready()
        while not signals_received:
            time.sleep(0.1)
            for worker in workers:
                if not signals_received:
                    worker.watch()
        listening.close()
        running = [worker.process.process for worker in workers if worker.process]
        for process in running:
            process.terminate()
        until = time.monotonic() + config.timeout + 5
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, until - time.monotonic()))
    if signal.SIGINT in signals_received:
        raise KeyboardInterrupt


def shared_table(descriptor: int, workers: int) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """Return the counters of all workers, (workers, SIZE) float64, in a file that they share."""
    return np.frombuffer(mmap.mmap(descriptor, 8 * SIZE * workers), np.float64).reshape(workers, SIZE)

"""Several processes that answer on one socket: started, watched, and started anew when one ends."""

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

READY = "ready\n"  # what a process writes once it answers; else why it ends
FIRST_WAIT = 0.5  # seconds until a process that ended is started anew; twice as long each time
LONGEST_WAIT = 30.0
_WELL = 30.0  # seconds of life after which the next wait is the first again


class _Process:
    """A Python process that answers on the shared socket; it ends by SIGTERM, and when this one is no more."""

    def __init__(self, task: dict[str, Any], descriptors: tuple[int, ...]) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-P", "-c", "from imgclf.serve.server import _work; _work()"]
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
        with contextlib.suppress(OSError):  # that it died is seen when it is waited for
            self.stdin.write(json.dumps(task).encode() + b"\n")
            self.stdin.flush()

    @property
    def reason(self) -> str:
        """Why it ended, once it has."""
        code = self.process.wait()
        said = self.stdout.read().decode("utf-8", "replace").removeprefix(READY).strip()
        return said or (f"exit code {code}" if code >= 0 else f"signal {-code}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.stdin, self.stdout):
            with contextlib.suppress(OSError):
                stream.close()


class _Place:
    """One of the server's processes and those that came after it. start: makes the next one."""

    def __init__(self, start: Callable[[], _Process], meters: Meters, told: Callable[[str], None]) -> None:
        self._start, self._meters, self._told = start, meters, told
        self.process: _Process | None = start()
        self._wait, self._next = FIRST_WAIT, 0.0

    def watch(self) -> None:
        """See whether the process still lives; if not, start another one when it is time."""
        now = time.monotonic()
        if self.process is None:
            if now >= self._next:
                try:
                    self.process = self._start()
                except OSError as error:  # no memory, or too many processes
                    self._put_off(now, why(error, "close other programs"))
            return
        if self.process.process.poll() is None:
            return
        self._meters.answers(False)
        if now - self.process.began >= _WELL:
            self._wait = FIRST_WAIT
        self._put_off(now, self.process.reason)
        self.close()

    def _put_off(self, now: float, reason: str) -> None:
        """Say why there is no process, and wait with the next one."""
        self._told(f"a worker process is not running ({reason}); it is restarted in {self._wait:g} s")
        self._next = now + self._wait
        self._wait = min(LONGEST_WAIT, 2 * self._wait)

    def close(self) -> None:
        if self.process is not None:
            self.process.close()
            self.process = None


def supervise(
    run: Path, config: ServeConfig, listening: socket.socket, ready: Callable[[], None], told: Callable[[str], None]
) -> None:
    """Keep `workers` processes answering on one socket until a signal.

    One that ends is started anew, after a wait that doubles while that fails; the others go on. told: called with a sentence
    each time. Raises ImgclfError when one ends at the very start, and KeyboardInterrupt after Ctrl-C.
    """
    if sys.platform == "win32":
        raise ImgclfError("--workers: not supported on Windows; leave it out")
    ended: list[int] = []
    with tempfile.TemporaryFile() as file, contextlib.ExitStack() as stack:
        stack.enter_context(signals.handled(lambda number, _frame: ended.append(number), signal.SIGINT, signal.SIGTERM))
        file.truncate(8 * SIZE * config.workers)
        table = shared_table(file.fileno(), config.workers)
        listening.listen(1024)
        descriptors = (listening.fileno(), file.fileno())

        def starting(place: int) -> Callable[[], _Process]:
            task = {
                "run": str(run),
                "config": asdict(config),
                "place": place,
                "socket": descriptors[0],
                "table": descriptors[1],
            }
            return lambda: _Process(task, descriptors)

        places: list[_Place] = []
        for number in range(config.workers):
            places.append(_Place(starting(number), Meters(table, number), told))
            stack.callback(places[-1].close)
        for place in places:
            if place.process and (said := place.process.stdout.readline().decode("utf-8", "replace")) != READY:
                raise ImgclfError(said.strip() or f"a worker process exited during its start ({place.process.reason})")
        ready()
        while not ended:
            time.sleep(0.1)
            for place in places:
                if not ended:
                    place.watch()
        listening.close()
        left = [place.process.process for place in places if place.process]
        for process in left:
            process.terminate()
        until = time.monotonic() + config.timeout + 5
        for process in left:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, until - time.monotonic()))
    if signal.SIGINT in ended:
        raise KeyboardInterrupt


def shared_table(descriptor: int, workers: int) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """The meters of all processes, (workers, SIZE), in a file that they share."""
    return np.frombuffer(mmap.mmap(descriptor, 8 * SIZE * workers), np.float64).reshape(workers, SIZE)

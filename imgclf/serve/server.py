"""From a run to a server that listens: sockets, signals, one process or several."""

import asyncio
import contextlib
import errno
import functools
import ipaddress
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from imgclf.base import installing, signals
from imgclf.base.config import ServeConfig
from imgclf.base.errors import ImgclfError, UsageError
from imgclf.base.parallel import cpu_count
from imgclf.bundle import Bundle
from imgclf.serve.meters import SIZE, Meters

_QUICK = 5.0  # seconds; a process that ends sooner will not do better the next time


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def warning(host: str, token: str | None) -> str:
    """What to think of before other machines are let in; nothing when they are not, or must know a token."""
    if is_loopback(host) or token:
        return ""
    return f"--host {host} without --token: every machine that reaches this one may use it"


def serve(bundle: Bundle, config: ServeConfig, ready: Callable[[str], None]) -> None:
    """Serve a run until SIGTERM or Ctrl-C; either lets requests under way end, and Ctrl-C raises KeyboardInterrupt then.

    ready: called with the URL once requests are answered. Raises ImgclfError when it cannot listen or a package is missing, and
    UsageError for a token that no request could bring.
    """
    token = config.token or ""
    if token != token.strip() or not (token.isascii() and token.isprintable()):
        raise UsageError("--token or IMGCLF_TOKEN: give ASCII letters, digits and signs, with no space or line end around them")
    try:
        import h11  # noqa: F401  (this and the next line ask whether the extra is there)
        import uvicorn  # noqa: F401
        from starlette import applications  # noqa: F401
    except ImportError as error:
        raise ImgclfError(
            f"serve needs packages that are not installed ({error}); run: {installing.command('serve')}"
        ) from None
    with contextlib.suppress(RuntimeError):  # raised by the next line if no loop is running
        asyncio.get_running_loop()
        raise ImgclfError("serve: this thread already runs an event loop, as in a notebook; use another thread or a terminal")
    listening = _listen(config.host, config.port)
    host = f"[{config.host}]" if ":" in config.host else config.host
    url = f"http://{host}:{listening.getsockname()[1]}/"
    with listening:
        if config.workers > 1:
            _supervise(bundle.path, config, listening, lambda: ready(url))
        else:
            _answer(bundle, config, listening, cpu_count(), None, lambda: ready(url))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _kind, _proto, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, UnicodeError) as error:  # the second of a name that no machine can have
        why = str(getattr(error, "strerror", None) or error).partition(" (while")[0]  # the rest repeats the address
        number = None if isinstance(error, socket.gaierror) else getattr(error, "errno", None)
        remedy = _REMEDIES.get(number or 0, "give --host a name or address of this machine")
        raise ImgclfError(f"cannot listen on {host} port {port}: {why}; {remedy}") from None


_REMEDIES = {
    errno.EADDRINUSE: "give another --port (0 for any free one)",
    errno.EACCES: "give a --port above 1023",
}


def _answer(
    bundle: Bundle,
    config: ServeConfig,
    listening: socket.socket,
    threads: int,
    meters: Meters | None,
    ready: Callable[[], None],
    stop: Callable[[Callable[[], None]], None] = lambda stopping: None,
) -> None:
    """Answer on a socket until a signal; stop: given a function that ends it, which another thread may call."""
    import uvicorn

    from imgclf.serve.app import Service
    from imgclf.serve.protocol import Protocol

    service = Service(bundle, config, threads, meters)
    service.warm()
    server_config = uvicorn.Config(
        service.app(),
        http=functools.partial(Protocol, clients=service.clients), ws="none",  # type: ignore[arg-type]
        loop="asyncio", lifespan="off", log_config=None, log_level="critical", access_log=False,
        server_header=False, proxy_headers=False, timeout_keep_alive=20, timeout_graceful_shutdown=int(config.timeout) + 1,
    )  # fmt: skip

    class Server(uvicorn.Server):
        """Says when it listens, and ends without raising the signal anew that ended it."""

        interrupted = False

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            with signals.handled(self.handle_exit, signal.SIGINT, signal.SIGTERM):
                yield

        def handle_exit(self, sig: int, frame: Any) -> None:
            service.stopping = True
            self.interrupted = self.interrupted or sig == signal.SIGINT
            super().handle_exit(sig, frame)

    server = Server(server_config)

    def end() -> None:
        service.stopping = server.should_exit = True

    stop(end)
    try:
        server.run(sockets=[listening])
    finally:
        service.close()
    if server.interrupted:
        raise KeyboardInterrupt


# -- several processes ------------------------------------------------------------------------------------------------------


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

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.stdin, self.stdout):
            with contextlib.suppress(OSError):
                stream.close()


def _close(processes: list[_Process]) -> None:
    for one in processes:
        one.close()


def _supervise(run: Path, config: ServeConfig, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Keep `workers` processes answering on one socket until a signal; one that dies is started anew."""
    if sys.platform == "win32":
        raise ImgclfError("--workers: sockets cannot be handed to other processes on Windows; leave it out")
    ended: list[int] = []
    with tempfile.TemporaryFile() as table, contextlib.ExitStack() as stack:
        stack.enter_context(signals.handled(lambda number, _frame: ended.append(number), signal.SIGINT, signal.SIGTERM))
        table.truncate(8 * SIZE * config.workers)
        listening.listen(1024)
        descriptors = (listening.fileno(), table.fileno())

        def start(place: int) -> _Process:
            task = {
                "run": str(run),
                "config": asdict(config),
                "place": place,
                "socket": descriptors[0],
                "table": descriptors[1],
            }
            return _Process(task, descriptors)

        processes: list[_Process] = []
        stack.callback(_close, processes)
        for place in range(config.workers):
            processes.append(start(place))
        for one in processes:
            if not one.stdout.readline():
                raise ImgclfError(f"a process of the server ended at its start, with exit code {one.process.wait()}")
        ready()
        while not ended:
            time.sleep(0.1)
            for place, one in enumerate(processes):
                code = one.process.poll()
                if code is not None and not ended:
                    if time.monotonic() - one.began < _QUICK:
                        raise ImgclfError(f"a process of the server ended soon after its start, with exit code {code}")
                    one.close()
                    processes[place] = start(place)
        listening.close()
        for one in processes:
            one.process.terminate()
        until = time.monotonic() + config.timeout + 5
        for one in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.process.wait(max(0.1, until - time.monotonic()))
    if signal.SIGINT in ended:
        raise KeyboardInterrupt


def _work() -> None:
    """What one of several processes runs."""
    task = json.loads(sys.stdin.buffer.readline())
    config = ServeConfig(**task["config"])
    memory = mmap.mmap(task["table"], 8 * SIZE * config.workers)
    table = np.frombuffer(memory, np.float64).reshape(config.workers, SIZE)

    def ready() -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    def stop(end: Callable[[], None]) -> None:
        def wait() -> None:
            sys.stdin.buffer.read()  # ends with the process that started this one
            end()

        threading.Thread(target=wait, name="imgclf-parent", daemon=True).start()

    threads = max(1, cpu_count() // config.workers)
    with socket.socket(fileno=task["socket"]) as listening:
        _answer(Bundle.load(Path(task["run"])), config, listening, threads, Meters(table, task["place"]), ready, stop)

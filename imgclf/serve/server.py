"""From a run to a server that listens: sockets, signals, one process or several."""

import asyncio
import contextlib
import errno
import functools
import json
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgclf.core import extras, signals
from imgclf.core.config import ServeConfig
from imgclf.core.errors import ImgclfError, UsageError
from imgclf.core.parallel import cpu_count
from imgclf.models.bundle import Bundle
from imgclf.serve import processes
from imgclf.serve.meters import Meters
from imgclf.serve.proxies import Hosts, Proxies, is_loopback

if TYPE_CHECKING:
    from imgclf.serve.app import Service


def warning(host: str, token: str | None) -> str:
    """What to think of before other machines are let in; nothing when they are not, or must know a token."""
    if is_loopback(host) or token:
        return ""
    return f"--host {host} without --token: every machine that reaches this one may use it"


def serve(
    bundle: Bundle, config: ServeConfig, ready: Callable[[str], None], told: Callable[[str], None] = lambda text: None
) -> None:
    """Serve a run until SIGTERM or Ctrl-C; either lets requests under way end, and Ctrl-C raises KeyboardInterrupt then.

    ready: called with the URL once requests are answered. told: called with a sentence when one of several processes ends.
    Raises ImgclfError when it cannot listen or a package is missing, and UsageError for a token that no request could bring, or
    another value that means nothing.
    """
    token = config.token or ""
    if token != token.strip() or not (token.isascii() and token.isprintable()):
        raise UsageError("--token or IMGCLF_TOKEN: give ASCII letters, digits and signs, with no space or line end around them")
    Proxies(config.proxy)
    Hosts(config.host, config.allowed_host)
    if config.root_path and not re.fullmatch(r"(/[\w.~-]+)+", config.root_path, re.ASCII):
        raise UsageError(
            f"--root-path: {config.root_path!r} is not a valid prefix; begin with a slash and end without one: /photos"
        )
    try:
        import h11  # noqa: F401  (this and the next line ask whether the extra is there)
        import uvicorn  # noqa: F401
        from starlette import applications  # noqa: F401
    except ImportError as error:
        raise ImgclfError(f"serve needs packages that are not installed ({error}); run: {extras.command('serve')}") from None
    with contextlib.suppress(RuntimeError):  # raised by the next line if no loop is running
        asyncio.get_running_loop()
        raise ImgclfError("serve: this thread already runs an event loop, as in a notebook; use another thread or a terminal")
    listening = _listen(config.host, config.port)
    host = f"[{config.host}]" if ":" in config.host else config.host
    url = f"http://{host}:{listening.getsockname()[1]}/"
    with listening:
        if config.workers > 1:
            processes.supervise(bundle.path, config, listening, lambda: ready(url), told)
        else:
            _answer(_service(bundle, config, cpu_count()), listening, lambda: ready(url))


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


def _service(bundle: Bundle, config: ServeConfig, threads: int, meters: Meters | None = None) -> "Service":
    """What answers for a run, with the network loaded on every thread."""
    from imgclf.serve.app import Service

    service = Service(bundle, config, threads, meters)
    service.warm()
    return service


def _answer(
    service: "Service",
    listening: socket.socket,
    ready: Callable[[], None],
    stop: Callable[[Callable[[], None]], None] = lambda stopping: None,
) -> None:
    """Answer on a socket until a signal; stop: given a function that ends it, which another thread may call."""
    import uvicorn

    from imgclf.serve.protocol import Protocol

    grace = int(service.config.timeout) + 1
    server_config = uvicorn.Config(
        service.app(),
        http=functools.partial(Protocol, clients=service.clients), ws="none",  # type: ignore[arg-type]
        loop="asyncio", lifespan="off", log_config=None, log_level="critical", access_log=False,
        server_header=False, proxy_headers=False, timeout_keep_alive=20, timeout_graceful_shutdown=grace,
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


def _work() -> None:
    """What one of several processes runs."""
    task = json.loads(sys.stdin.buffer.readline())
    config = ServeConfig.from_dict(task["config"])
    meters = Meters(processes.shared_table(task["table"], config.workers), task["place"])

    def ready() -> None:
        sys.stdout.write(processes.READY)
        sys.stdout.flush()

    def stop(end: Callable[[], None]) -> None:
        def wait() -> None:
            sys.stdin.buffer.read()  # ends with the process that started this one
            end()

        threading.Thread(target=wait, name="imgclf-parent", daemon=True).start()

    threads = max(1, cpu_count() // config.workers)
    with socket.socket(fileno=task["socket"]) as listening:
        try:
            service = _service(Bundle.load(Path(task["run"])), config, threads, meters)
            _answer(service, listening, ready, stop)
        except ImgclfError as error:
            sys.stdout.write(f"{error}\n")  # to who started this process, which says it
            sys.exit(1)

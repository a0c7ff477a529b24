"""Start the server of a run: socket, signals, one or several processes."""

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
    """Return a warning if other machines can reach the server without a token; else an empty string."""
    if is_loopback(host) or token:
        return ""
    return f"--host {host} without --token: any machine that can reach this one can use it; add --token"


def serve(
    bundle: Bundle, config: ServeConfig, ready: Callable[[str], None], warn: Callable[[str], None] = lambda text: None
) -> None:
    """Serve a run until SIGTERM or Ctrl-C, then finish the current requests.

    Args:
        bundle: The run.
        config: The options of the server.
        ready: Called with the URL when the server accepts requests.
        warn: Called with a message when one of several processes exits.

    Raises:
        ImgclfError: The server cannot listen, or a package is missing.
        UsageError: An option has an invalid value, such as a token that no request can contain.
        KeyboardInterrupt: After Ctrl-C.
    """
    token = config.token or ""
    if token != token.strip() or not (token.isascii() and token.isprintable()):
        raise UsageError(
            "--token or IMGCLF_TOKEN: give ASCII letters, digits and signs, without spaces or newlines around them"
        )
    Proxies(config.proxy)
    Hosts(config.host, config.allowed_host)
    if config.root_path and not re.fullmatch(r"(/[\w.~-]+)+", config.root_path, re.ASCII):
        raise UsageError(
            f"--root-path: {config.root_path!r} is not a valid prefix; begin with a slash and end without one: /images"
        )
    try:
        import h11  # noqa: F401  (these lines check whether the extra is installed)
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
            processes.supervise(bundle.path, config, listening, lambda: ready(url), warn)
        else:
            _run(_service(bundle, config, cpu_count()), listening, lambda: ready(url))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _kind, _proto, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that no machine can have
        why = str(getattr(error, "strerror", None) or error).partition(" (while")[0]  # the rest repeats the address
        number = None if isinstance(error, socket.gaierror) else getattr(error, "errno", None)
        remedy = _REMEDIES.get(number or 0, "give --host a name or address of this machine")
        raise ImgclfError(f"cannot listen on {host} port {port}: {why}; {remedy}") from None


_REMEDIES = {
    errno.EADDRINUSE: "give another --port (0 for any free one)",
    errno.EACCES: "give a --port above 1023",
}


def _service(bundle: Bundle, config: ServeConfig, threads: int, meters: Meters | None = None) -> "Service":
    """Return the service of a run, with the network loaded on every thread."""
    from imgclf.serve.app import Service

    service = Service(bundle, config, threads, meters)
    service.warm()
    return service


def _run(
    service: "Service",
    listening: socket.socket,
    ready: Callable[[], None],
    stop: Callable[[Callable[[], None]], None] = lambda stopping: None,
) -> None:
    """Serve on a socket until a signal.

    stop: called once with a function that stops the server, which another thread may call.
    """
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
        """Calls `ready` when it listens. Does not raise again the signal that stopped it, as uvicorn does."""

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

    def stop_server() -> None:
        service.stopping = server.should_exit = True

    stop(stop_server)
    try:
        server.run(sockets=[listening])
    finally:
        service.close()
    if server.interrupted:
        raise KeyboardInterrupt


def _run_worker() -> None:
    """Run one of several processes. The task comes on stdin, from `processes._Process`."""
    task = json.loads(sys.stdin.buffer.readline())
    config = ServeConfig.from_dict(task["config"])
    meters = Meters(processes.shared_table(task["table"], config.workers), task["place"])

    def ready() -> None:
        sys.stdout.write(processes.READY)
        sys.stdout.flush()

    def stop(stop_server: Callable[[], None]) -> None:
        def wait() -> None:
            sys.stdin.buffer.read()  # returns when the parent process has exited
            stop_server()

        threading.Thread(target=wait, name="imgclf-parent", daemon=True).start()

    threads = max(1, cpu_count() // config.workers)
    with socket.socket(fileno=task["socket"]) as listening:
        try:
            service = _service(Bundle.load(Path(task["run"])), config, threads, meters)
            _run(service, listening, ready, stop)
        except ImgclfError as error:
            sys.stdout.write(f"{error}\n")  # the parent process prints it
            sys.exit(1)

"""Run a real `imgclf serve` process on a free port, and send requests with plain sockets and http.client."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class Server:
    def __init__(self, process: "subprocess.Popen[str]", url: str) -> None:
        self.process, self.url = process, url
        self.port = urllib.parse.urlsplit(url).port or 0

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, timeout: float = 60
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request on a new connection; return (status, headers in lower case, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def predict(self, content: bytes, query: str = "", **headers: str) -> tuple[int, Any]:
        status, _headers, body = self.ask("POST", f"/predict{query}", content, headers)
        return status, json.loads(body)

    def form(self, files: list[tuple[str, bytes]], query: str = "") -> tuple[int, Any]:
        content, kind = form(files)
        status, _headers, body = self.ask("POST", f"/predict{query}", content, {"Content-Type": kind})
        return status, json.loads(body)

    def raw(self, content: bytes, timeout: float = 30) -> bytes:
        """Send bytes and return everything until the server closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as one:
            with contextlib.suppress(ConnectionError):
                one.sendall(content)
            return rest(one)

    def memory(self) -> float:
        """Return the resident megabytes of the server."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def end(self, how: int = signal.SIGTERM) -> tuple[int, str]:
        """Stop the server with a signal; return (exit code, stderr)."""
        self.process.send_signal(how)
        _out, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


def rest(one: socket.socket) -> bytes:
    """Read until the other end closes the connection."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while block := one.recv(65536):
            found += block
    return found


def form(files: list[tuple[str, bytes]]) -> tuple[bytes, str]:
    """Return (body, Content-Type) of a form with these files, as a browser writes it."""
    boundary = "----imgclf-test-boundary"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name.replace(chr(34), "%22")}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


@contextlib.contextmanager
def served(run: Path, *options: object, cwd: Path, env: Mapping[str, str] | None = None) -> Iterator[Server]:
    command = [sys.executable, "-m", "imgclf", "serve", str(run), "--port", "0", *map(str, options)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd, env={**os.environ, **(env or {})}
    )
    try:
        assert process.stdout
        url = process.stdout.readline().strip()
        if not url:
            raise AssertionError(process.communicate(timeout=30)[1])
        yield Server(process, url)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.communicate(timeout=40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()

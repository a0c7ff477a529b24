"""Run real proxies in front of `imgclf serve`: nginx and Caddy, with examples/nginx.conf and examples/Caddyfile, on free ports.

Each cell of the matrix is a proxy, a prefix (none, stripped by the proxy, or not stripped), whether the proxy keeps the Host
header, and whether the client uses TLS.
"""

import contextlib
import dataclasses
import http.client
import itertools
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin"
NAME = "photos.example"
PREFIXES = {"no prefix": "", "prefix taken off": "/off", "prefix left on": "/left"}
OPTIONS = ("--allowed-host", NAME, "--proxy", "127.0.0.1", "--root-path", "/left")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One configuration of a proxy. port: where it listens."""

    proxy: str
    prefix: str
    keeps_host: bool
    tls: bool
    port: int

    def __str__(self) -> str:
        return f"{self.proxy}, {self.prefix}, Host {'kept' if self.keeps_host else 'changed'}, {'TLS' if self.tls else 'plain'}"

    @property
    def origin(self) -> str:
        """The origin of the page in a browser."""
        return f"{'https' if self.tls else 'http'}://{NAME}:{self.port}"

    @property
    def path(self) -> str:
        return PREFIXES[self.prefix]

    def ask(
        self, method: str, path: str, body: bytes | None = None, source: str = "127.0.0.1", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request like a browser; return (status, headers in lower case, body). headers: added or replaced."""
        unverified = ssl.create_default_context()
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        options = {"timeout": 30, "source_address": (source, 0)}
        one: http.client.HTTPConnection = (
            http.client.HTTPSConnection("127.0.0.1", self.port, context=unverified, **options)  # type: ignore[arg-type]
            if self.tls
            else http.client.HTTPConnection("127.0.0.1", self.port, **options)  # type: ignore[arg-type]
        )
        try:
            sent = {"Host": f"{NAME}:{self.port}", **headers}
            one.request(method, f"{self.path}{path}", body, {name.replace("_", "-"): value for name, value in sent.items()})
            response = one.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            one.close()


def missing(proxy: str) -> str:
    """Return why a proxy cannot be tested here; "" if it can."""
    needed = [
        name for name in (proxy, "openssl") if not shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin")
    ]
    return f"{' and '.join(needed)} is not installed (Debian: apt-get install {' '.join(needed)})" if needed else ""


@contextlib.contextmanager
def before(proxy: str, port: int, folder: Path) -> Iterator[list[Cell]]:
    """Run a proxy with all its cells, in front of a server on a port of 127.0.0.1."""
    folder.mkdir()
    ports = iter(_free_ports(2 * 2 * len(PREFIXES)))
    cells = [Cell(proxy, *kind, next(ports)) for kind in itertools.product(PREFIXES, (True, False), (True, False))]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}",
         "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", folder / "key", "-out", folder / "crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    command = _nginx(cells, port, folder) if proxy == "nginx" else _caddy(cells, port, folder)
    environment = {"PATH": PATH, "HOME": str(folder)}
    with open(folder / "log", "wb") as log, subprocess.Popen(command, stdout=log, stderr=log, env=environment) as process:
        try:
            _wait(cells[-1].port, process, folder / "log")
            yield cells
        finally:
            process.terminate()


def _nginx(cells: list[Cell], port: int, folder: Path) -> list[str]:
    sites = ""
    for cell in cells:
        site = (EXAMPLES / "nginx.conf").read_text()
        site = site.replace("listen 443 ssl", f"listen 127.0.0.1:{cell.port}{' ssl' if cell.tls else ''}")
        site = site.replace("/etc/ssl/photos.example.", f"{folder}/")
        site = site.replace("location / {", f"location {cell.path}/ {{")
        to = "/left/" if cell.prefix == "prefix left on" else "/"
        site = site.replace("http://127.0.0.1:8000/", f"http://127.0.0.1:{port}{to}")
        sites += site if cell.keeps_host else site.replace("        proxy_set_header Host $http_host;\n", "")
    kept = "".join(f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "conf").write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{kept}{sites}}}\n"
    )
    return ["nginx", "-p", str(folder), "-c", str(folder / "conf")]


def _caddy(cells: list[Cell], port: int, folder: Path) -> list[str]:
    sites = f"{{\n\tadmin off\n\tauto_https off\n\tdefault_sni {NAME}\n}}\n"
    for cell in cells:
        site = (EXAMPLES / "Caddyfile").read_text()
        tls = f"\n\ttls {folder}/crt {folder}/key" if cell.tls else ""
        site = site.replace("photos.example {", f"{cell.origin} {{\n\tbind 127.0.0.1{tls}")
        if cell.path:
            site = site.replace(
                "handle {", f"{'handle' if cell.prefix == 'prefix left on' else 'handle_path'} {cell.path}/* {{"
            )
        to = f"reverse_proxy 127.0.0.1:{port}"
        changed = f"{to} {{\n\t\t\theader_up Host {{upstream_hostport}}\n\t\t}}"
        sites += site.replace("reverse_proxy 127.0.0.1:8000", to if cell.keeps_host else changed)
    (folder / "Caddyfile").write_text(sites)
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _port in range(count)]
        return [one.getsockname()[1] for one in held]


def _wait(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _try in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(log.read_text())

"""`imgclf serve` behind nginx and Caddy, and what it believes of a proxy; tests/benchmarks/proxies.py has the whole matrix."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, chromium
from proxying import NAME, OPTIONS, PREFIXES, Cell, before, missing
from served import Server, served

from imgclf.serve.proxies import Hosts, Proxies

FLAGS = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]


def image(trained: Path) -> bytes:
    return (trained / "data" / "red" / "000.png").read_bytes()


# -- what is believed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.9", "203.0.113.9"),  # the first is what the client says of itself
        ("10.0.0.1", "203.0.113.9, 10.0.0.2", "203.0.113.9"),  # two proxies
        ("203.0.113.9", "6.6.6.6", "203.0.113.9"),  # no proxy
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "6.6.6.6, nonsense", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.1", "[2001:db8::9]:4711", "2001:db8::9"),
        ("10.0.0.1", "2001:db8::9", "2001:db8::9"),
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("", "203.0.113.9", ""),
    ],
)
def test_the_client_is_the_last_address_that_is_no_proxy(peer: str, forwarded: str, expected: str) -> None:
    assert Proxies(["10.0.0.0/30"]).client(peer, {"x-forwarded-for": forwarded}) == expected


def test_the_host_is_the_forwarded_one_of_a_proxy() -> None:
    headers = {"host": "127.0.0.1:8000", "x-forwarded-host": "evil.example, photos.example"}
    assert Proxies(["10.0.0.1"]).host("10.0.0.1", headers) == "photos.example"
    assert Proxies(["10.0.0.1"]).host("10.0.0.2", headers) == "127.0.0.1:8000"
    assert Proxies([]).host("10.0.0.1", headers) == "127.0.0.1:8000"


@pytest.mark.parametrize(
    ("listening", "allowed", "host", "expected"),
    [
        ("127.0.0.1", [], "photos.example", False),
        ("127.0.0.1", [NAME], "photos.example", True),
        ("127.0.0.1", [NAME], "PHOTOS.example:8443", True),
        ("127.0.0.1", [NAME], "photos.example.evil.example", False),
        ("127.0.0.1", [NAME], "localhost:8000", True),
        ("127.0.0.1", [f"{NAME}:8443"], "photos.example:8443", True),
        ("127.0.0.1", [f"{NAME}:8443"], "photos.example", False),
        ("127.0.0.1", ["[2001:db8::9]:8443"], "[2001:db8::9]:8443", True),
        ("0.0.0.0", [], "anything.example", True),
        ("0.0.0.0", [NAME], "anything.example", False),
        ("0.0.0.0", [NAME], "photos.example", True),
    ],
)
def test_hosts(listening: str, allowed: list[str], host: str, expected: bool) -> None:
    assert Hosts(listening, allowed).allows(host) is expected


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True),
        ("http://127.0.0.1:8001", "127.0.0.1:8000", False),  # another program of this machine
        ("https://photos.example", "photos.example", True),
        ("https://photos.example", "photos.example:443", True),
        ("https://photos.example", "127.0.0.1:8000", True),  # a proxy that changes Host
        ("https://photos.example:8443", "127.0.0.1:8000", False),  # another program on that name
        ("https://photos.example:8443", "photos.example:8443", True),
        ("http://photos.example:443", "photos.example:443", False),
        ("https://evil.example", "photos.example", False),
        ("https://photos.example.evil.example", "photos.example", False),
        ("null", "null", False),
        ("file://", "", False),
    ],
)
def test_origins(origin: str, host: str, expected: bool) -> None:
    assert Hosts("127.0.0.1", [NAME]).is_own_origin(origin, host) is expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--proxy", "nginx"],
            "--proxy: 'nginx' does not appear to be an IPv4 or IPv6 network; give an IP address, or a network",
        ),
        (["--proxy", "10.0.0.1/8"], "--proxy: 10.0.0.1/8 has host bits set; give"),
        (["--allowed-host", "https://photos.example/"], "--allowed-host: 'https://photos.example/' is not a host name; give"),
        (["--allowed-host", "*"], "--allowed-host: '*' is not a host name; give"),
        (
            ["--root-path", "photos/"],
            "--root-path: 'photos/' is not a valid prefix; begin with a slash and end without one: /images",
        ),
    ],
)
def test_options_that_mean_nothing(trained: Path, imgclf: Run, options: list[str], words: str) -> None:
    done = imgclf("serve", "toy", *options, cwd=trained)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"imgclf: error: {words}")


# -- the matrix -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(trained: Path) -> Iterator[Server]:
    with served(trained / "runs" / "toy", *OPTIONS, cwd=trained) as one:
        yield one


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def cells(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Cell]]:
    if why := missing(request.param):
        pytest.skip(why)
    with before(request.param, server.port, tmp_path_factory.mktemp("proxy") / request.param) as made:
        yield made


def test_the_page_and_its_requests_in_every_cell(cells: list[Cell], server: Server, trained: Path) -> None:
    content = image(trained)
    expected = server.predict(content)[1]
    for cell in cells:
        for path, start in (("/", b"<!doctype html>"), ("/serve.js", b"// The page"), ("/model", b"{")):
            status, _headers, body = cell.ask("GET", path)
            assert (status, body.startswith(start)) == (200, True), (str(cell), path, body[:200])
        status, _headers, body = cell.ask("POST", "/predict?top=1", content, Origin=cell.origin)
        assert (status, json.loads(body)) == (200, expected), str(cell)
        assert cell.ask("POST", "/predict", content, Origin="https://evil.example")[0] == 403, str(cell)
        assert cell.ask("POST", "/predict", content, Origin="null")[0] == 403, str(cell)
    assert len(cells) == 4 * len(PREFIXES)


def test_a_name_that_was_pointed_here_is_refused(cells: list[Cell]) -> None:
    """DNS rebinding through the proxy, which answers to any name."""
    for cell in cells:
        if cell.proxy == "nginx":  # Caddy itself answers no other name
            status, _headers, body = cell.ask("GET", "/model", Host="evil.example")
            assert (status, b"--allowed-host" in body) == (421, True), str(cell)
            assert cell.ask("GET", "/model", Host="evil.example", X_Forwarded_Host=NAME)[0] == 421, str(cell)


def test_a_prefix_without_its_slash_leads_to_the_page(server: Server) -> None:
    status, headers, _body = server.ask("GET", "/left")
    assert (status, headers["location"]) == (308, "left/")
    assert server.ask("GET", "/left/")[0] == server.ask("GET", "/")[0] == 200
    assert server.ask("GET", "/lefty")[0] == server.ask("GET", "/left/left/")[0] == 404


def test_the_clients_of_a_proxy_have_their_own_bounds(trained: Path, tmp_path: Path) -> None:
    """Guesses of one do not lock out the others, and no client can pass for another."""
    if why := missing("nginx"):
        pytest.skip(why)
    environment = {"IMGCLF_TOKEN": "right"}
    with (
        served(trained / "runs" / "toy", *OPTIONS, cwd=trained, env=environment) as server,
        before("nginx", server.port, tmp_path / "nginx") as cells,
    ):
        statuses = [
            cells[0].ask("GET", "/model", source="127.0.0.5", Authorization="Bearer x", X_Forwarded_For=f"6.6.6.{number}")[0]
            for number in range(21)
        ]
        assert statuses == 20 * [401] + [429]
        right = {"Authorization": "Bearer right"}
        assert cells[0].ask("GET", "/model", source="127.0.0.5", **right)[0] == 429
        assert cells[0].ask("GET", "/model", source="127.0.0.6", **right)[0] == 200
        assert cells[0].ask("GET", "/model", source="127.0.0.6", X_Forwarded_For="127.0.0.5", **right)[0] == 200


@pytest.mark.long
def test_the_page_in_a_browser(cells: list[Cell], trained: Path) -> None:
    """An image, and over TLS the camera, which browsers lend to secure pages alone. Here where the proxy changes Host."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with chromium(*FLAGS) as browser:
        for cell in cells:
            if not cell.keeps_host:
                browse(browser, cell, image(trained))


def browse(browser: Any, cell: Cell, content: bytes) -> None:
    from playwright.sync_api import expect

    with contextlib.closing(browser.new_context(ignore_https_errors=True)) as context:
        if cell.tls:
            context.grant_permissions(["camera"], origin=cell.origin)
        page, wrong = context.new_page(), []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
        page.goto(f"{cell.origin}{cell.path}/")
        expect(page.locator("#about")).to_contain_text("3 classes", timeout=10_000)
        page.set_input_files("#files", [{"name": "a.png", "mimeType": "image/png", "buffer": content}])
        expect(page.locator("#verdict")).to_have_text("red", timeout=10_000)
        page.click("#saliency")
        expect(page.locator("#saliency-note")).to_contain_text("probability of red", timeout=20_000)
        assert page.evaluate("Boolean(navigator.mediaDevices)") is cell.tls
        if cell.tls:
            page.click("#camera")
            page.click("#shoot")
            expect(page.locator("#confidence")).to_contain_text("Confidence ", timeout=10_000)
        if not cell.tls:  # a header that Chromium ignores there, and says so
            wrong = [line for line in wrong if "Cross-Origin-Opener-Policy" not in line]
        assert wrong == [], str(cell)

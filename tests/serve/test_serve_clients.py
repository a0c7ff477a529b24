"""Clients of `imgclf serve` that take more than their part: connections, heads, bodies, answers that nobody reads, guesses."""

import asyncio
import concurrent.futures
import contextlib
import functools
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from conftest import encoded
from PIL import Image
from served import Server, rest, served

from imgclf.serve import bodies, clients, headers, protocol
from imgclf.serve.bodies import Refused, UploadMemory
from imgclf.serve.clients import MAX_CONNECTIONS, MAX_OF_CLIENT, Clients, network
from imgclf.serve.pool import Job, Pool

HOST = "Host: 127.0.0.1\r\n"


@pytest.fixture(scope="module")
def server(trained: Path) -> Iterator[Server]:
    with served(trained / "runs" / "toy", cwd=trained) as one:
        yield one


def connected(server: Server, address: str = "127.0.0.1", buffer: int = 0) -> socket.socket:
    """A connection from an address of this machine; buffer: bytes of an answer that its system keeps, 0 for the usual."""
    one = socket.socket()
    one.settimeout(30)
    if buffer:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    one.bind((address, 0))
    one.connect(("127.0.0.1", server.port))
    return one


def is_closed(one: socket.socket) -> bool:
    """What was sent before the end is read over."""
    one.setblocking(False)
    try:
        while one.recv(65536):
            pass
        return True
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


# -- connections ------------------------------------------------------------------------------------------------------------


def test_clients_are_ipv4_addresses_and_the_networks_that_ipv6_customers_get() -> None:
    assert network("10.1.2.3") == network("::ffff:10.1.2.3") == "10.1.2.3"
    assert network("2001:db8:1:2:3::4") == network("2001:db8:1:2:ffff::") == "2001:db8:1:2::/64"
    assert network("2001:db8:1:3::") != network("2001:db8:1:2::")
    assert network("fe80::1%eth0") == "fe80::/64"
    assert network("") == ""


class Held:
    """A connection as `Clients` knows it."""

    def __init__(self, is_idle: bool) -> None:
        self.is_idle, self.dropped = is_idle, False

    def drop(self) -> None:
        self.dropped = True


def test_who_holds_the_most_connections_gives_way() -> None:
    known = Clients()
    made: dict[str, list[Held]] = {}

    def enter(address: str, is_idle: bool) -> Held:
        one = Held(is_idle)
        made.setdefault(address, []).append(one)
        known.enter(address, one)
        return one

    def dropped(address: str) -> list[int]:
        return [number for number, one in enumerate(made[address]) if one.dropped]

    for number in range(MAX_OF_CLIENT):
        enter("10.0.0.1", is_idle=number in (3, 5))
    assert dropped("10.0.0.1") == []
    enter("10.0.0.1", is_idle=True)
    enter("10.0.0.1", is_idle=False)
    assert dropped("10.0.0.1") == [3, 5]  # the oldest idle ones
    enter("10.0.0.1", is_idle=False)
    enter("10.0.0.1", is_idle=False)
    assert dropped("10.0.0.1") == [3, 5, 128, 131]  # the one that came idle, then, with none idle, the newest itself
    for address in ("10.0.0.2", "10.0.0.3"):
        for _number in range(MAX_OF_CLIENT):
            enter(address, is_idle=False)
    for number in range(MAX_OF_CLIENT // 2):
        enter(f"10.0.1.{number}", is_idle=True)
        enter("10.0.2.0", is_idle=False)
    assert sum(not one.dropped for held in made.values() for one in held) == MAX_CONNECTIONS
    honest = enter("10.9.9.9", is_idle=True)
    assert not honest.dropped
    assert sum(not one.dropped for held in made.values() for one in held) == MAX_CONNECTIONS
    assert all(dropped(address) == [] for address in made if address.startswith(("10.0.1.", "10.0.2.")))
    for address, held in made.items():
        for one in held:
            known.leave(address, one)
    assert (known._count, known._open) == (0, {})


def test_a_trusted_proxy_has_the_connections_of_many_clients() -> None:
    known = Clients(lambda address: address == "10.0.0.1")
    held = [Held(is_idle=False) for _number in range(MAX_CONNECTIONS)]
    for one in held:
        known.enter("10.0.0.1", one)
    assert not any(one.dropped for one in held)
    known.enter("10.0.0.2", other := Held(is_idle=False))
    assert ([number for number, one in enumerate(held) if one.dropped], other.dropped) == ([MAX_CONNECTIONS - 1], False)


def test_one_address_cannot_shut_out_another(server: Server) -> None:
    """600 connections of one, each with requests without end that it does not read the answers to; a bound for it alone."""
    many = f"GET /serve.js HTTP/1.1\r\n{HOST}\r\n".encode() * 1000
    held = []
    try:
        for _number in range(600):
            one = connected(server, "127.0.0.2", buffer=4096)
            one.setblocking(False)
            with contextlib.suppress(OSError):
                one.send(many)
            held.append(one)
        for _turn in range(5):
            began = time.monotonic()
            assert server.ask("GET", "/readyz", timeout=5)[0] == 200
            assert time.monotonic() - began < 1
        time.sleep(0.5)
        assert sum(not is_closed(one) for one in held) <= MAX_OF_CLIENT
    finally:
        for one in held:
            one.close()


# -- answers and heads that do not end --------------------------------------------------------------------------------------


@contextlib.contextmanager
def answering(app: Callable[..., Any]) -> Iterator[int]:
    """uvicorn with our protocol in a thread of this process; its port."""
    made = functools.partial(protocol.Protocol, clients=Clients())
    config = uvicorn.Config(app, http=made, ws="none", lifespan="off", log_config=None, port=0)  # type: ignore[arg-type]
    one = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: asyncio.run(one.serve([listening])))
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        one.should_exit = True
        thread.join()


async def megabytes(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8000000")]})
    for _block in range(80):
        await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def nothing(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def test_a_dribbled_head_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte of a request's head now and then; uvicorn's own limit would wait for ever."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 1.0)
    with answering(nothing) as port, socket.create_connection(("127.0.0.1", port), timeout=5) as one:
        start = time.monotonic()
        with pytest.raises(ConnectionError):
            while time.monotonic() - start < 5:
                one.sendall(b"G")
                time.sleep(0.1)
        assert time.monotonic() - start < 3


@pytest.mark.parametrize("more", ["", "Connection: close\r\n"])
def test_who_does_not_read_is_hung_up_on(monkeypatch: pytest.MonkeyPatch, more: str) -> None:
    """While the answer is written, or when it is and the connection is closing: uvicorn waits for ever for either."""
    monkeypatch.setattr(protocol, "READ_SECONDS", 1.0)
    with answering(megabytes) as port:
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.connect(("127.0.0.1", port))
            one.sendall(f"GET / HTTP/1.1\r\n{HOST}{more}\r\n".encode())
            time.sleep(3)
            assert len(rest(one)) < 1_000_000
        with socket.create_connection(("127.0.0.1", port), timeout=10) as one:  # who reads has as long as it takes
            one.sendall(f"GET / HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n".encode())
            assert len(rest(one)) > 8_000_000


def test_requests_before_the_first_answer_are_not_answered(server: Server) -> None:
    with connected(server) as one:
        one.sendall(f"GET /healthz HTTP/1.1\r\n{HOST}\r\n".encode() * 3)
        found = rest(one)
    assert found.count(b"HTTP/1.1 200") == 1
    assert b"\r\nconnection: close\r\n" in found
    with connected(server) as one:
        for _turn in range(3):
            one.sendall(f"GET /healthz HTTP/1.1\r\n{HOST}\r\n".encode())
            answer = b""
            while not answer.endswith(b"\r\n\r\nok\n"):
                answer += one.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"connection: close" not in answer


def test_sigterm_does_not_wait_for_who_does_not_read_or_send(trained: Path) -> None:
    with served(trained / "runs" / "toy", cwd=trained) as server:
        held = [connected(server, "127.0.0.2", buffer=4096) for _number in range(100)]
        for number, one in enumerate(held):
            one.setblocking(False)
            if number % 2:
                one.send(f"GET /serve.js HTTP/1.1\r\n{HOST}\r\n".encode() * 100)
            else:
                one.send(f"POST /predict HTTP/1.1\r\n{HOST}Content-Length: 1000\r\n\r\nabc".encode())
        assert server.ask("GET", "/readyz")[0] == 200
        began = time.monotonic()
        code, _err = server.end()
        assert (code, time.monotonic() - began < 15) == (0, True)  # a request's 30 seconds before
        for one in held:
            one.close()


# -- bodies and images ----------------------------------------------------------------------------------------------------


def test_the_client_with_the_most_bytes_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_HELD", 1000)

    async def all_of_it() -> None:
        memory, until = UploadMemory(), asyncio.get_running_loop().time() + 60

        async def read(client: str, *sizes: int, seconds: float = 0.0) -> int:
            sent = iter(sizes)

            async def receive() -> dict[str, Any]:
                size = next(sent, None)
                if size is None:
                    await asyncio.sleep(60)
                return {"type": "http.request", "body": bytes(size or 0), "more_body": size is not None and size != 7}

            async with memory.body(receive, {}, until, client) as body:
                await asyncio.sleep(seconds)
                return len(body)

        first = asyncio.create_task(read("hog", 400))
        second = asyncio.create_task(read("hog", 500))
        await asyncio.sleep(0.01)
        assert memory.held == {"hog": 900}
        with pytest.raises(Refused) as refused:  # its own bytes are the most
            await read("hog", 200, 7)
        assert refused.value.status == 503
        honest = asyncio.create_task(read("honest", 200, 7, seconds=60))
        await asyncio.sleep(0.01)
        with pytest.raises(Refused) as refused:
            await second
        assert (refused.value.status, refused.value.wait) == (503, 1)
        assert not first.done()
        assert memory.held == {"hog": 400, "honest": 207}
        for task in (first, honest):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert memory.held == {}
        whole = [asyncio.create_task(read("hog", 493, 7, seconds=60)) for _request in range(2)]  # which wait for a thread
        await asyncio.sleep(0.01)
        assert memory.held == {"hog": 1000}
        assert await read("honest", 200, 7) == 207
        with pytest.raises(Refused) as refused:
            await whole[1]
        assert (refused.value.status, refused.value.wait) == (503, 1)
        assert not whole[0].done()
        assert memory.held == {"hog": 500}
        whole[0].cancel()

    asyncio.run(all_of_it())


def test_clients_take_turns_and_the_longest_queue_gives_way() -> None:
    order: list[str] = []
    gate = threading.Event()

    def job(name: str) -> str:
        gate.wait(30)
        order.append(name)
        return name

    async def all_of_it() -> None:
        pool, until = Pool(1, 8), asyncio.get_running_loop().time() + 30

        def ask(client: str, *names: str) -> "asyncio.Task[list[str]]":
            return asyncio.create_task(pool.run([Job(functools.partial(job, name)) for name in names], until, client))

        first = ask("hog", "h1")
        await asyncio.sleep(0.05)  # it is on the thread
        hogs = [ask("hog", "h2", "h3"), ask("hog", "h4", "h5", "h6"), ask("hog", "h7", "h8", "h9")]
        await asyncio.sleep(0.05)
        assert pool.is_full("hog")
        assert not pool.is_full("honest")
        with pytest.raises(Refused):
            await ask("hog", "h10")
        honest, other = ask("honest", "a1", "a2"), ask("other", "b1")
        await asyncio.sleep(0.05)
        gate.set()
        assert [await one for one in (first, *hogs[:2], honest, other)] == [
            ["h1"], ["h2", "h3"], ["h4", "h5", "h6"], ["a1", "a2"], ["b1"],
        ]  # fmt: skip
        with pytest.raises(Refused) as refused:
            await hogs[2]
        assert (refused.value.status, refused.value.wait) == (503, 1)
        assert order == ["h1", "a1", "b1", "a2", "h2", "h3", "h4", "h5", "h6"]  # the hog's first took a tenth of a second
        assert (pool._running, pool._waiting, pool._requests) == (0, {}, {})
        pool.close()

    asyncio.run(all_of_it())


def test_what_is_given_up_leaves_the_queue() -> None:
    gate, begun = threading.Event(), []

    def job(number: int) -> int:
        begun.append(number)
        gate.wait(30)
        return number

    async def all_of_it() -> None:
        pool, now = Pool(1, 4), asyncio.get_running_loop().time
        with pytest.raises(Refused):
            await pool.run([Job(functools.partial(job, number)) for number in range(3)], now() + 0.1)
        assert pool._waiting == {}
        gate.set()
        assert await pool.run([Job(functools.partial(job, 9))], now() + 30) == [9]
        assert begun == [0, 9]
        pool.close()

    asyncio.run(all_of_it())


# -- requests that say two things, and guesses ------------------------------------------------------------------------------


def test_two_lengths_are_400_and_the_connection_ends(server: Server) -> None:
    """RFC 9112, section 6.1: a proxy may have seen another request in it."""
    smuggled = f"GET /model HTTP/1.1\r\n{HOST}\r\n"
    for body in (f"0\r\n\r\n{smuggled}", "0\r\n\r\n", ""):
        head = f"POST /predict HTTP/1.1\r\n{HOST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        with connected(server) as one:
            one.sendall((head + body).encode())
            found = rest(one)
        assert found.startswith(b"HTTP/1.1 400 ")
        assert found.count(b"HTTP/1.1 ") == 1
        assert b"\r\nconnection: close\r\n" in found


@pytest.mark.parametrize(
    "content",
    [
        b"\0" * 100,
        b"GET / HTTP/9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1, 2\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n\r\n",
    ],
)
def test_the_answer_to_what_is_not_http_has_the_same_headers(server: Server, content: bytes) -> None:
    with connected(server) as one:
        one.sendall(content)
        head, _, body = rest(one).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    sent = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert status.startswith("HTTP/1.1 400 ")
    assert sent["connection"] == "close"
    assert {name.lower(): value for name, value in headers.SECURITY.items()}.items() <= sent.items()
    assert list(json.loads(body)) == ["error"]
    assert server.ask("GET", "/healthz")[0] == 200


def head(lines: int, ending: str = "") -> bytes:
    """A request for /healthz with so many lines, the first and the empty last one not counted."""
    return (
        f"GET /healthz HTTP/1.1\r\n{HOST}Connection: close\r\n{'a: b' + ending:s}".encode()
        + b"\r\na: b" * (lines - 3)
        + b"\r\n\r\n"
    )


def chunked(size: int, count: int, byte: bytes = b"\r\n") -> bytes:
    block = (byte * size)[:size]
    chunks = b"%x\r\n%s\r\n" % (size, block) * count
    return (
        f"POST /predict HTTP/1.1\r\n{HOST}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        + chunks
        + b"0\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (head(99), b"200", b""),
        (head(120), b"400", b"more than 100 header lines or 16,384 bytes of headers"),
        (head(15_000), b"400", b"more than 100 header lines or 16,384 bytes of headers"),
        (head(5, "x" * 15_000), b"200", b""),
        (head(5, "x" * 17_000), b"400", b"more than 100 header lines or 16,384 bytes of headers"),
        (chunked(1, 90), b"422", b""),
        (chunked(1, 200_000), b"400", b"chunks of less than 64 bytes"),
        (chunked(64, 2_000), b"422", b""),
        (chunked(5_000, 100), b"422", b""),
    ],
    ids=["99 lines", "120 lines", "15,000 lines", "15 kB", "17 kB", "90 bytes", "single bytes", "small chunks", "chunks"],
)
@pytest.mark.parametrize("piece", [0, 7])
def test_a_request_of_many_small_parts_is_refused(
    server: Server, content: bytes, status: bytes, words: bytes, piece: int
) -> None:
    """A hundred clients with heads of 15,000 lines kept every other one waiting for eleven seconds."""
    with contextlib.closing(connected(server)) as one:
        with contextlib.suppress(ConnectionError):  # refused before all was sent
            if piece and len(content) < 30_000:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for start in range(0, len(content), piece):
                    one.sendall(content[start : start + piece])
            else:
                one.sendall(content)
        found = rest(one)
    assert found.startswith(b"HTTP/1.1 " + status), found
    assert words in found


def test_guesses_are_limited_for_who_guesses(trained: Path) -> None:
    with served(trained / "runs" / "toy", cwd=trained, env={"IMGCLF_TOKEN": "right"}) as server:

        def ask(address: str, token: str | None) -> tuple[int, str | None]:
            one = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30, source_address=(address, 0))
            one.request("GET", "/model", headers={"Authorization": f"Bearer {token}"} if token else {})
            answer = one.getresponse()
            one.close()
            return answer.status, answer.headers["Retry-After"]

        assert {ask("127.0.0.2", None)[0] for _turn in range(30)} == {401}  # a page that asks for the token is no guess
        assert {ask("127.0.0.2", f"{number}")[0] for number in range(clients.WRONG_TOKENS)} == {401}
        status, wait = ask("127.0.0.2", "right")
        assert status == 429
        assert 50 <= int(wait or 0) <= 60
        assert ask("127.0.0.3", "right")[0] == 200


def test_a_lock_out_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "WINDOW", 0.2)
    known = Clients()
    for _turn in range(clients.WRONG_TOKENS - 1):
        known.wrong_token("10.0.0.1")
    assert known.locked_out("10.0.0.1") == 0
    known.wrong_token("10.0.0.1")
    assert 0 < known.locked_out("10.0.0.1") <= 0.2
    assert known.locked_out("10.0.0.2") == 0
    time.sleep(0.25)
    assert known.locked_out("10.0.0.1") == 0
    for number in range(clients._REMEMBERED + 10):
        known.wrong_token(f"10.1.{number // 256}.{number % 256}")
    assert len(known._wrong) == clients._REMEMBERED


def test_unfinished_requests_are_bounded_behind_a_proxy() -> None:
    known = Clients()
    with contextlib.ExitStack() as stack:
        assert all(stack.enter_context(known.request("10.0.0.1")) for _number in range(MAX_OF_CLIENT))
        assert not stack.enter_context(known.request("10.0.0.1"))
        assert stack.enter_context(known.request("10.0.0.2"))
    assert known._unfinished == {}


def test_many_requests_at_once_of_one_address_are_answered(server: Server, trained: Path) -> None:
    content = (trained / "data" / "red" / "000.png").read_bytes()
    with concurrent.futures.ThreadPoolExecutor(MAX_OF_CLIENT) as threads:
        assert set(threads.map(lambda _n: server.predict(content)[0], range(4 * MAX_OF_CLIENT))) <= {200, 503}


# -- images that take long ------------------------------------------------------------------------------------------------


def with_scans(data: bytes, more: int) -> bytes:
    """A progressive JPEG with its last scan so many times more."""
    start, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:end] + data[start:end] * more + data[end:]


def test_images_that_would_keep_a_thread_are_not_decoded(server: Server) -> None:
    progressive = encoded(Image.new("RGB", (4000, 3000), (200, 30, 30)), "JPEG", progressive=True, quality=50)
    noise = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), dtype=np.uint8)
    files = {
        "few scans": with_scans(progressive, 50),
        "many scans": with_scans(progressive, 5000),
        "jp2": encoded(Image.fromarray(noise), "JPEG2000"),
        "avif": encoded(Image.new("RGB", (6000, 4000)), "AVIF", speed=10),
    }
    began = time.monotonic()
    _status, records = server.form(list(files.items()))
    assert time.monotonic() - began < 10
    assert [record["error"] for record in records] == [
        None,
        "4000 x 3000 pixels in 5,010 scans, more than the limit of 89; save it as a baseline JPEG",
        f"a JPEG 2000 of {len(files['jp2']):,} bytes, more than the limit of 8,388,608; save it as a JPEG",
        "6000 x 4000 pixels, more than the limit of 22 megapixels",
    ]


def test_the_thread_is_free_soon_after_the_time_of_a_request(trained: Path) -> None:
    """Twelve megapixels in as many scans as are taken, on every thread."""
    heavy = with_scans(encoded(Image.new("RGB", (4000, 3000), (200, 30, 30)), "JPEG", progressive=True, quality=50), 75)
    content = (trained / "data" / "red" / "000.png").read_bytes()
    with served(trained / "runs" / "toy", "--timeout", "0.2", cwd=trained) as server:
        with concurrent.futures.ThreadPoolExecutor(16) as threads:
            statuses = list(threads.map(lambda _n: server.ask("POST", "/predict", heavy)[0], range(16)))
        assert set(statuses) == {503}
        until = time.monotonic() + 10  # of which two images take one or two seconds on a machine that has nothing else to do
        while server.ask("POST", "/predict", content)[0] != 200:
            assert time.monotonic() < until


def test_nothing_is_computed_for_who_hung_up(trained: Path) -> None:
    heavy = encoded(Image.new("RGB", (8000, 8000), (200, 30, 30)), "PNG")
    head = f"POST /predict HTTP/1.1\r\n{HOST}Content-Length: {len(heavy)}\r\n\r\n".encode()
    with served(trained / "runs" / "toy", cwd=trained) as server:
        for _client in range(40):
            with connected(server, "127.0.0.2") as one:
                one.sendall(head + heavy)
        time.sleep(0.5)
        began = time.monotonic()
        assert server.end()[0] == 0
        assert time.monotonic() - began < 15  # forty of them take 40 s


def test_a_thread_is_kept_free_of_long_jobs() -> None:
    gate, order = threading.Event(), []

    def job(name: str) -> None:
        if name.startswith("long"):
            gate.wait(30)
        order.append(name)

    async def all_of_it() -> None:
        pool, until = Pool(2, 100), asyncio.get_running_loop().time() + 30
        hogs = [
            asyncio.create_task(pool.run([Job(functools.partial(job, "long"), is_long=True)], until, f"{n}")) for n in range(9)
        ]
        await asyncio.sleep(0.05)
        for _turn in range(3):
            await pool.run([Job(functools.partial(job, "short"))], until, "honest")
        assert (order, pool._long, pool._running) == (3 * ["short"], 1, 1)
        gate.set()
        await asyncio.gather(*hogs)
        alone = Pool(1, 100)
        assert await alone.run([Job(lambda: 7, is_long=True)], until) == [7]
        pool.close()
        alone.close()

    asyncio.run(all_of_it())

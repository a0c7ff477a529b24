"""Request bodies, in memory and within limits; nothing that is uploaded touches the disk."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from imgclf.serve.clients import largest

MAX_FILE = 32 << 20  # bytes of one image
MAX_REQUEST = 64 << 20  # bytes of a body
MAX_HELD = 256 << 20  # bytes of all bodies that a process holds at once
MAX_FILES = 32  # in one request
_MAX_HEAD = 4096  # bytes of the lines above a file in a form
_LINGER = 1.0  # seconds for which the rest of a refused body is read and dropped, so that the client sees the answer

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Refused(Exception):
    """A request that is not answered, with its HTTP status. wait: seconds after which another try may do."""

    def __init__(self, status: int, message: str, *, wait: int = 0) -> None:
        super().__init__(message)
        self.status, self.wait = status, wait


class Gone(Exception):
    """The client has hung up."""


class _Held:
    """A body in memory: it comes in, or its request is being answered. limit: ends either. size: bytes that count."""

    def __init__(self, client: str, limit: asyncio.Timeout) -> None:
        self.client, self.limit = client, limit
        self.body, self.size, self.gives_way = bytearray(), 0, False


class Room:
    """The memory for bodies, counted by client until their requests are answered.

    Where there is no more, the client that holds the most gives way with its newest request, whether its body is still coming
    in or all there: one that waits for a thread could hold the memory for as long as requests may take.
    """

    def __init__(self) -> None:
        self.held: dict[str, int] = {}  # bytes by client
        self._all: list[_Held] = []

    @contextlib.asynccontextmanager
    async def body(
        self, receive: Receive, headers: Mapping[str, str], deadline: float, client: str = ""
    ) -> AsyncIterator[bytearray]:
        """A whole body, in memory until the block ends. Raises Refused (408, 413, 503), the last in the block too, or Gone."""
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > MAX_REQUEST:
            raise _too_large()
        held = _Held(client, asyncio.timeout_at(deadline))
        self._all.append(held)
        try:
            async with held.limit:
                await self._read(held, receive)
                held.limit.reschedule(None)
                yield held.body
        except TimeoutError:
            late = "the request body did not arrive within the time limit; try again with fewer or smaller images"
            raise (_full() if held.gives_way else Refused(408, late)) from None
        finally:
            self._all.remove(held)
            self._free(held)

    async def _read(self, held: _Held, receive: Receive) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            if held.gives_way:
                raise _full()
            block = message.get("body", b"")
            if held.size + len(block) > MAX_REQUEST:
                raise _too_large()
            if sum(self.held.values()) + len(block) > MAX_HELD and not self._make_room(held.client):
                raise _full()
            held.body += block
            held.size += len(block)
            self.held[held.client] = self.held.get(held.client, 0) + len(block)
            if not message.get("more_body"):
                return

    def _make_room(self, client: str) -> bool:
        """Have another client give way, if it holds the most."""
        most = largest(self.held) if self.held else client
        newest = next((one for one in reversed(self._all) if one.client == most and one.size), None)
        if most == client or newest is None:
            return False
        newest.gives_way = True
        self._free(newest)  # now, or the next block would find no room either
        newest.limit.reschedule(asyncio.get_running_loop().time())
        return True

    def _free(self, held: _Held) -> None:
        if held.size:
            self.held[held.client] -= held.size
            held.size = 0
            if not self.held[held.client]:
                del self.held[held.client]


def _too_large() -> Refused:
    return Refused(413, f"more than {MAX_REQUEST:,} bytes, the limit of one request")


def _full() -> Refused:
    return Refused(503, "the memory for uploads is full; try again in a second", wait=1)


async def drop(receive: Receive) -> bool:
    """Read what is left of a body for a moment and forget it; returns whether the end was reached."""
    dropped = 0
    try:
        async with asyncio.timeout(_LINGER):
            while dropped <= 2 * MAX_REQUEST:
                message = await receive()
                dropped += len(message.get("body", b""))
                if not message.get("more_body"):
                    return bool(message["type"] == "http.request")
    except TimeoutError:
        pass
    return False


def images(body: bytearray, content_type: str) -> list[tuple[str, memoryview]]:
    """(name, bytes) of each file of a form, or of the body itself, which is called `body`; raises Refused (400, 413)."""
    if not content_type.strip().lower().startswith("multipart/"):
        if not body:
            raise Refused(400, "the body is empty; send an image, or a form with files")
        return [("body", memoryview(body))]
    match = re.search(r'boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', content_type, re.IGNORECASE)
    if not match:
        raise Refused(400, "a form without a boundary in its Content-Type")
    found = list(_files(body, b"--" + (match[1] or match[2]).encode("latin-1")))
    if not found:
        raise Refused(400, "no file in the form; a file is a part with a filename")
    return found


def _files(body: bytearray, delimiter: bytes) -> "list[tuple[str, memoryview]]":
    """RFC 7578: parts between delimiters, each some header lines, an empty line and the content."""
    found: list[tuple[str, memoryview]] = []
    broken = Refused(400, "the form is cut short or malformed")
    here = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter) + 2
    if here == 1:
        raise broken
    parts = 0
    while True:
        here += len(delimiter)
        if body[here : here + 2] == b"--":
            return found
        end = body.find(b"\r\n\r\n", here, here + _MAX_HEAD)
        after = body.find(b"\r\n" + delimiter, end + 2)  # the empty line's own end may begin the delimiter of an empty file
        if body[here : here + 2] != b"\r\n" or end < 0 or after < 0:
            raise broken
        parts += 1
        if parts > MAX_FILES:
            raise Refused(413, f"more than {MAX_FILES} parts, the limit of one form")
        name = _file_name(bytes(body[here + 2 : end]))
        if name is not None:
            found.append((name, memoryview(body)[end + 4 : max(after, end + 4)]))
        here = after + 2


def _file_name(head: bytes) -> str | None:
    """What a part's Content-Disposition calls its file, or None for a part that is no file."""
    text = head.decode("utf-8", "replace")
    disposition = next((line for line in text.split("\r\n") if line.lower().startswith("content-disposition:")), "")
    match = re.search(r';\s*filename="((?:\\"|[^"])*)"', disposition, re.IGNORECASE)
    if match:  # browsers write a quote as %22, others as \"
        return re.sub(r'\\"|%22', '"', match[1])
    match = re.search(r";\s*filename=([^\s;]+)", disposition, re.IGNORECASE)
    return match[1] if match else None

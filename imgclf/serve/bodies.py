"""Request bodies, in memory and within limits; nothing that is uploaded touches the disk."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
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


class _Reading:
    """A body that comes in. limit: ends its reading."""

    def __init__(self, client: str, body: bytearray, limit: asyncio.Timeout) -> None:
        self.client, self.body, self.limit, self.gives_way = client, body, limit, False


class Room:
    """The memory for bodies: what is read is counted until it is given back.

    Where there is no more, the client that holds the most gives way with the newest body that is still coming in.
    """

    def __init__(self) -> None:
        self.held: dict[str, int] = {}  # bytes by client
        self._coming: list[_Reading] = []

    async def read(self, receive: Receive, headers: Mapping[str, str], deadline: float, client: str = "") -> bytearray:
        """A whole body; raises Refused (408, 413, 503) or Gone. To be given back with `free`."""
        declared = headers.get("content-length", "")
        too_large = Refused(413, f"more than {MAX_REQUEST:,} bytes, the limit of one request")
        if declared.isdecimal() and int(declared) > MAX_REQUEST:
            raise too_large
        body = bytearray()
        reading = _Reading(client, body, asyncio.timeout_at(deadline))
        self._coming.append(reading)
        try:
            async with reading.limit:
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    if reading.gives_way:
                        raise _full()
                    block = message.get("body", b"")
                    if len(body) + len(block) > MAX_REQUEST:
                        raise too_large
                    if sum(self.held.values()) + len(block) > MAX_HELD and not self._make_room(client):
                        raise _full()
                    body += block
                    self.held[client] = self.held.get(client, 0) + len(block)
                    if not message.get("more_body"):
                        return body
        except BaseException as error:
            if not reading.gives_way:
                self.free(body, client)
            if isinstance(error, TimeoutError):
                late = Refused(
                    408, "the request body did not arrive within the time limit; try again with fewer or smaller images"
                )
                raise (_full() if reading.gives_way else late) from None
            raise
        finally:
            self._coming.remove(reading)

    def _make_room(self, client: str) -> bool:
        """Have another client give way, if it holds the most and a body of it is coming in."""
        most = largest(self.held)
        newest = next((one for one in reversed(self._coming) if one.client == most and not one.gives_way), None)
        if most == client or newest is None:
            return False
        newest.gives_way = True
        self.free(newest.body, most)  # now, or the next block would find no room either
        newest.limit.reschedule(asyncio.get_running_loop().time())
        return True

    def free(self, body: bytearray, client: str = "") -> None:
        """Give back the memory of a body that `read` gave."""
        self.held[client] = self.held.get(client, 0) - len(body)
        if not self.held[client]:
            del self.held[client]


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

"""Request bodies, in memory and within limits. Uploads are never written to the disk."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from imgclf.serve.clients import largest

MAX_FILE = 32 << 20  # bytes of one image
MAX_REQUEST = 64 << 20  # bytes of one request body
MAX_HELD = 256 << 20  # bytes of all bodies in the memory of one process
MAX_FILES = 32  # files in one request
_MAX_HEAD = 4096  # bytes of the header lines of one file in a form
_LINGER = 1.0  # seconds to read and drop the rest of a refused body, so that the client reads the response

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Refused(Exception):
    """A refused request: its HTTP status and message. wait: seconds until the client may try again."""

    def __init__(self, status: int, message: str, *, wait: int = 0) -> None:
        super().__init__(message)
        self.status, self.wait = status, wait


class Disconnected(Exception):
    """The client has closed the connection."""


class _Upload:
    """A body in memory, until the response is computed. limit: cancels its request. size: bytes counted for the client."""

    def __init__(self, client: str, limit: asyncio.Timeout) -> None:
        self.client, self.limit = client, limit
        self.body, self.size, self.evicted = bytearray(), 0, False


class UploadMemory:
    """The memory for request bodies, counted by client until the responses are computed.

    When it is full, the newest request of the client that uses the most memory is refused, even if its body is complete: a
    complete request that waits for a thread could otherwise hold the memory until its deadline.
    """

    def __init__(self) -> None:
        self.held: dict[str, int] = {}  # bytes by client
        self._uploads: list[_Upload] = []

    @contextlib.asynccontextmanager
    async def body(
        self, receive: Receive, headers: Mapping[str, str], deadline: float, client: str = ""
    ) -> AsyncIterator[bytearray]:
        """Read a body and keep it in memory until the block ends.

        Args:
            receive: The ASGI function.
            headers: Of the request, by name in lower case.
            deadline: On the loop's clock, for the whole body to arrive.
            client: For which the memory is counted.

        Raises:
            Refused: The body is too slow (408) or too large (413), or the memory is full (503). 503 may occur in the block too.
            Disconnected: The client has closed the connection.
        """
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > MAX_REQUEST:
            raise _too_large()
        upload = _Upload(client, asyncio.timeout_at(deadline))
        self._uploads.append(upload)
        try:
            async with upload.limit:
                await self._read(upload, receive)
                upload.limit.reschedule(None)
                yield upload.body
        except TimeoutError:
            late = "the request body did not arrive within the time limit; try again with fewer or smaller images"
            raise (_full() if upload.evicted else Refused(408, late)) from None
        finally:
            self._uploads.remove(upload)
            self._free(upload)

    async def _read(self, upload: _Upload, receive: Receive) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            if upload.evicted:
                raise _full()
            block = message.get("body", b"")
            if upload.size + len(block) > MAX_REQUEST:
                raise _too_large()
            if sum(self.held.values()) + len(block) > MAX_HELD and not self._evict_for(upload.client):
                raise _full()
            upload.body += block
            upload.size += len(block)
            self.held[upload.client] = self.held.get(upload.client, 0) + len(block)
            if not message.get("more_body"):
                return

    def _evict_for(self, client: str) -> bool:
        """Refuse the newest upload of the client that uses the most memory. Return False if that is this client."""
        most = largest(self.held) if self.held else client
        newest = next((upload for upload in reversed(self._uploads) if upload.client == most and upload.size), None)
        if most == client or newest is None:
            return False
        newest.evicted = True
        self._free(newest)  # now, so that the next block finds free memory
        newest.limit.reschedule(asyncio.get_running_loop().time())
        return True

    def _free(self, upload: _Upload) -> None:
        if upload.size:
            self.held[upload.client] -= upload.size
            upload.size = 0
            if not self.held[upload.client]:
                del self.held[upload.client]


def _too_large() -> Refused:
    return Refused(413, f"more than {MAX_REQUEST:,} bytes, the limit of one request")


def _full() -> Refused:
    return Refused(503, "the memory for uploads is full; try again in a second", wait=1)


async def drop(receive: Receive) -> bool:
    """Read the rest of a body for a second and discard it. Return whether the end was reached."""
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
    """Return (name, bytes) of each file of a form, or of the body itself, named `body`. Raises Refused (400, 413)."""
    if not content_type.strip().lower().startswith("multipart/"):
        if not body:
            raise Refused(400, "the body is empty; send an image, or a form with files")
        return [("body", memoryview(body))]
    match = re.search(r'boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', content_type, re.IGNORECASE)
    if not match:
        raise Refused(400, "the Content-Type of the form has no boundary")
    found = list(_files(body, b"--" + (match[1] or match[2]).encode("latin-1")))
    if not found:
        raise Refused(400, "the form contains no file; send each file as a part with a filename")
    return found


def _files(body: bytearray, delimiter: bytes) -> "list[tuple[str, memoryview]]":
    """Parse a form (RFC 7578): parts between delimiters, each with header lines, an empty line and the content."""
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
        after = body.find(b"\r\n" + delimiter, end + 2)  # in an empty file, the delimiter starts at the end of the empty line
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
    """Return the filename in a part's Content-Disposition, or None if the part is not a file."""
    text = head.decode("utf-8", "replace")
    disposition = next((line for line in text.split("\r\n") if line.lower().startswith("content-disposition:")), "")
    match = re.search(r';\s*filename="((?:\\"|[^"])*)"', disposition, re.IGNORECASE)
    if match:  # browsers write a quote as %22, others as \"
        return re.sub(r'\\"|%22', '"', match[1])
    match = re.search(r";\s*filename=([^\s;]+)", disposition, re.IGNORECASE)
    return match[1] if match else None

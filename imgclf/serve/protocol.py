"""uvicorn's HTTP/1.1 protocol on h11, with time limits for slow clients."""

import asyncio
import json
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from imgclf.serve import headers
from imgclf.serve.clients import Clients
from imgclf.serve.parser import Parser

HEAD_SECONDS = 20.0  # for the headers of a request, from the connection or the last response on
READ_SECONDS = 20.0  # for a client to read a response
GRACE = 2.0  # seconds for a client to send or read the rest when the server stops
_KERNEL_BUFFER = 1 << 17  # bytes of a response that the kernel buffers for a slow client; megabytes by default


class Protocol(H11Protocol):
    """Closes a connection without complete request headers in HEAD_SECONDS, or with a response not read in READ_SECONDS.

    uvicorn's own timeout stops at the first byte of the headers, and it waits for a slow reader without limit. If a client
    sends a second request before the first response (pipelining, which no browser does), the connection is closed after the
    first.
    """

    def __init__(self, *args: Any, clients: Clients, **options: Any) -> None:
        super().__init__(*args, **options)
        self.conn = self._parser = Parser()
        self._clients = clients
        self._idle_since = self.loop.time()
        self._unread_since: float | None = None

    @property
    def is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""

    def drop(self) -> None:
        """Close the connection at once and discard unsent data."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BUFFER)
        self._check_later()
        self._clients.enter(self._address, self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._check_timer.cancel()
        self._clients.leave(self._address, self)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def handle_events(self) -> None:
        super().handle_events()
        cycle = self.cycle
        if cycle and not cycle.response_complete and self.conn.their_state is h11.DONE and self.conn.trailing_data[0]:
            cycle.keep_alive = False
            if not cycle.response_started:
                self.headers.append(headers.CLOSE)  # as if the client had requested it; the response contains it too

    def send_400_response(self, msg: str) -> None:
        """Respond to invalid HTTP with the headers of all responses, and close the connection."""
        if self.cycle is not None and not self.cycle.response_complete:  # in the middle of a body: end its request
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.drop()
            return
        body = json.dumps({"error": self._parser.problem or "not a valid HTTP/1.1 request (RFC 9112)"}).encode() + b"\n"
        own = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), headers.CLOSE]
        for event in (
            h11.Response(status_code=400, headers=[*own, *headers.ENCODED], reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event))
        self.transport.close()

    def shutdown(self) -> None:
        """Stop the server: finish running computations, but wait for the client at most GRACE seconds."""
        super().shutdown()
        self.loop.call_later(GRACE, self._drop_if_waiting)

    def _drop_if_waiting(self) -> None:
        is_sending = self.cycle is not None and not self.cycle.response_complete and self.cycle.more_body
        if is_sending or self.is_idle or self.transport.get_write_buffer_size():
            self.drop()

    def _check_later(self) -> None:
        self._check_timer = self.loop.call_later(min(HEAD_SECONDS, READ_SECONDS) / 4, self._check)

    def _check(self) -> None:
        now = self.loop.time()
        unread = self.transport.get_write_buffer_size() > 0
        self._unread_since = (self._unread_since or now) if unread else None
        is_stuck = unread and now - (self._unread_since or now) >= READ_SECONDS
        if is_stuck or (self.is_idle and not unread and now - self._idle_since >= HEAD_SECONDS):
            self.drop()
        else:
            self._check_later()

"""uvicorn's HTTP/1.1 on h11, with bounds on what a client may leave undone."""

import asyncio
import json
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from imgclf.serve import headers
from imgclf.serve.clients import Clients
from imgclf.serve.parser import Parser

HEAD_SECONDS = 20.0  # for a request to begin, from the connection's start or the last answer on it
READ_SECONDS = 20.0  # for a client to read an answer
GRACE = 2.0  # seconds that a client has to send or read the rest once the server stops
_KERNEL_BUFFER = 1 << 17  # bytes of an answer that the system keeps for a client that does not read; by itself up to megabytes


class Protocol(H11Protocol):
    """Closes connections on which nothing goes on: no whole head in HEAD_SECONDS, or an answer not read in READ_SECONDS.

    uvicorn's own limit ends with the first byte of a head, and it waits for a reader for ever. Requests sent before the answer
    to the first has come (pipelining, which no browser does) are not answered: the connection is closed after the first.
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
        """Close the connection at once, whatever is still to be sent."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BUFFER)
        self._look_later()
        self._clients.enter(self._address, self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._looking.cancel()
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
                self.headers.append(headers.CLOSE)  # as if the client had asked for it: the answer says so too

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, with the headers of every other answer, and close."""
        if self.cycle is not None and not self.cycle.response_complete:  # in the middle of a body: its request is over
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.drop()
            return
        body = json.dumps({"error": self._parser.problem or "not a valid HTTP/1.1 request (RFC 9112)"}).encode() + b"\n"
        more = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), headers.CLOSE]
        for event in (
            h11.Response(status_code=400, headers=[*more, *headers.ENCODED], reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event))
        self.transport.close()

    def shutdown(self) -> None:
        """The server stops: let what is being computed end, and wait for the client only for GRACE."""
        super().shutdown()
        self.loop.call_later(GRACE, self._hurry)

    def _hurry(self) -> None:
        is_sending = self.cycle is not None and not self.cycle.response_complete and self.cycle.more_body
        if is_sending or self.is_idle or self.transport.get_write_buffer_size():
            self.drop()

    def _look_later(self) -> None:
        self._looking = self.loop.call_later(min(HEAD_SECONDS, READ_SECONDS) / 4, self._look)

    def _look(self) -> None:
        now = self.loop.time()
        unread = self.transport.get_write_buffer_size() > 0
        self._unread_since = (self._unread_since or now) if unread else None
        is_stuck = unread and now - (self._unread_since or now) >= READ_SECONDS
        if is_stuck or (self.is_idle and not unread and now - self._idle_since >= HEAD_SECONDS):
            self.drop()
        else:
            self._look_later()

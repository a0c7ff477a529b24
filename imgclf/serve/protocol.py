"""uvicorn's HTTP/1.1 on h11 (which bounds a request's head at 64 kB), with bounds on what a client may leave undone."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from imgclf.serve.server import MAX_CONNECTIONS

HEAD_SECONDS = 20.0  # for a request to begin, from the connection's start or the last answer on it


class Protocol(H11Protocol):
    """Closes connections beyond MAX_CONNECTIONS, and those on which no request's head is complete in HEAD_SECONDS.

    uvicorn's own time limit ends with the first byte of a head; one byte a second would hold a connection for ever.
    """

    _idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()  # type: ignore[attr-defined]
        self._idle_since = self.loop.time()
        self._look_later()

    def on_response_complete(self) -> None:
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def _look_later(self) -> None:
        self._looking = self.loop.call_later(HEAD_SECONDS / 2, self._look)

    def _look(self) -> None:
        idle = self.cycle is None or self.cycle.response_complete
        if self.transport.is_closing():
            return
        if idle and self.loop.time() - self._idle_since >= HEAD_SECONDS:
            self.transport.abort()
        else:
            self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        self._looking.cancel()
        super().connection_lost(exc)

"""h11's parser with bounds on what a request costs: it takes 10 microseconds for a header line or a chunk, however short.

A head of 15,000 lines, or a body in chunks of one byte, took seconds in which nobody else was served.
"""

import h11

MAX_LINES = 100  # of a head; browsers and proxies send some twenty
MAX_HEAD = 1 << 14  # bytes of a head, the address included
SMALL = 64  # bytes of a chunk on average, after the first CHUNKS; clients send some thousand
CHUNKS = 100
_END = b"\r\n\r\n"


class Parser(h11.Connection):
    """The parser of one connection. problem: what is wrong with a request that goes beyond the bounds."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MAX_HEAD)
        self.problem = ""
        self._begin()

    def _begin(self) -> None:
        self._lines = self._bytes = self._chunks = self._chunk_bytes = 0
        self._last = b""

    def receive_data(self, data: bytes) -> None:
        if self.their_state is h11.IDLE:
            head, end, _rest = (self._last + data).partition(_END)
            self._lines += head.count(b"\n") - self._last.count(b"\n")
            self._bytes += len(head) - len(self._last)
            self._last = b"" if end else (self._last + data)[1 - len(_END) :]
            if self._lines > MAX_LINES or self._bytes > MAX_HEAD:
                self.problem = f"the head of a request may have {MAX_LINES} lines and {MAX_HEAD:,} bytes at most"
        super().receive_data(data)

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """The next event. Raises h11.RemoteProtocolError, also for what goes beyond the bounds."""
        if not self.problem:
            event = super().next_event()
            if isinstance(event, h11.Request):
                self._begin()
            elif isinstance(event, h11.Data):
                self._chunks += event.chunk_start
                self._chunk_bytes += len(event.data)
                if self._chunks > CHUNKS and self._chunk_bytes < SMALL * (self._chunks - 1):
                    self.problem = f"the body comes in chunks of less than {SMALL} bytes; send larger ones"
        if self.problem:
            raise h11.RemoteProtocolError(self.problem)
        return event

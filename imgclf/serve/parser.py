"""h11's parser, with limits on the cost of a request.

h11 takes 10 microseconds for each header line and each chunk, however short. Without limits, a request with 15,000 header lines
or with a body in chunks of one byte blocks all other clients for seconds.
"""

import h11

MAX_LINES = 100  # header lines; browsers and proxies send about twenty
MAX_HEAD = 1 << 14  # bytes of the request line and the headers
SMALL = 64  # minimum average bytes per chunk, after CHUNKS chunks; clients send thousands
CHUNKS = 100
_END = b"\r\n\r\n"


class Parser(h11.Connection):
    """The parser of one connection. problem: the error message of a request that exceeds a limit, or empty."""

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
                self.problem = (
                    f"the request has more than {MAX_LINES} header lines or {MAX_HEAD:,} bytes of headers; send fewer"
                )
        super().receive_data(data)

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next event. Raises h11.RemoteProtocolError, also for a request that exceeds a limit."""
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

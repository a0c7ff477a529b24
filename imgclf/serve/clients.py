"""Identify the client of a request, and limit each client, so that no client uses up the server.

Connections, waiting images (`pool`) and request bodies (`bodies`) follow the same rule: when a limit is reached, the client
that uses the most loses its newest one.
"""

import contextlib
import ipaddress
import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

MAX_CONNECTIONS = 512  # per process
MAX_OF_CLIENT = 128  # connections per client, and unfinished requests of a client behind a proxy
WRONG_TOKENS = 20  # per client in WINDOW seconds; after these, its tokens are refused until the window ends
WINDOW = 60.0
_REMEMBERED = 4096  # clients whose wrong tokens are counted

Key = TypeVar("Key")


class Connection(Protocol):
    """The methods of a connection that `Clients` uses."""

    @property
    def is_idle(self) -> bool:
        """Whether no request on it waits for its response."""

    def drop(self) -> None:
        """Close it at once."""


def network(address: str) -> str:
    """Return the client that an address belongs to: the IPv4 address, or the /64 network, which one IPv6 customer gets."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


class Clients:
    """The connections, unfinished requests and wrong tokens of each client.

    is_proxy: returns whether an address is a trusted proxy, whose connections belong to many clients.
    """

    def __init__(self, is_proxy: Callable[[str], bool] = lambda address: False) -> None:
        self._is_proxy = is_proxy
        self._open: dict[str, dict[Connection, None]] = {}  # by client, the oldest first
        self._count = 0
        self._unfinished: dict[str, int] = {}
        self._wrong: dict[str, tuple[float, int]] = {}  # time of the first, number

    def enter(self, address: str, connection: Connection) -> None:
        """Add a connection. Beyond a limit, close one of the client with the most: its oldest idle one, or its newest."""
        client = network(address)
        own = self._open.setdefault(client, {})
        own[connection] = None
        self._count += 1
        if self._count > MAX_CONNECTIONS:
            client = max(self._open, key=lambda name: len(self._open[name]))
        elif len(own) <= MAX_OF_CLIENT or self._is_proxy(address):
            return
        candidates = self._open[client]
        to_drop = next((other for other in candidates if other.is_idle and other is not connection), next(reversed(candidates)))
        self._forget(client, to_drop)
        to_drop.drop()

    def leave(self, address: str, connection: Connection) -> None:
        """Remove a closed connection."""
        self._forget(network(address), connection)

    def _forget(self, client: str, connection: Connection) -> None:
        if connection in self._open.get(client, ()):
            del self._open[client][connection]
            self._count -= 1
            if not self._open[client]:
                del self._open[client]

    @contextlib.contextmanager
    def request(self, address: str) -> Iterator[bool]:
        """Count an unfinished request during the block. Yields whether the client may have it."""
        client = network(address)
        self._unfinished[client] = self._unfinished.get(client, 0) + 1
        try:
            yield self._unfinished[client] <= MAX_OF_CLIENT
        finally:
            self._unfinished[client] -= 1
            if not self._unfinished[client]:
                del self._unfinished[client]

    def wrong_token(self, address: str) -> None:
        """Count a wrong token of a client."""
        client = network(address)
        began, count = self._wrong.pop(client, (0.0, 0))
        now = time.monotonic()
        self._wrong[client] = (began, count + 1) if now - began < WINDOW else (now, 1)
        if len(self._wrong) > _REMEMBERED:
            del self._wrong[next(iter(self._wrong))]

    def locked_out(self, address: str) -> float:
        """Return the seconds for which all tokens of a client are refused, right or wrong; usually 0."""
        began, count = self._wrong.get(network(address), (0.0, 0))
        return max(0.0, began + WINDOW - time.monotonic()) if count >= WRONG_TOKENS else 0.0


def largest(held: dict[str, int]) -> str:
    """Return the client that holds the most. held: an amount by client."""
    return max(held, key=lambda client: held[client])

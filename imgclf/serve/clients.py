"""Which client sends a request, and the limits for each client, so that no client uses up the server.

One rule holds for connections, waiting images (`pool`) and request bodies (`bodies`): where there is no more room, the client
that holds the most gives way.
"""

import contextlib
import ipaddress
import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

MAX_CONNECTIONS = 512  # of a process
MAX_OF_CLIENT = 128  # connections, and requests under way behind a proxy
WRONG_TOKENS = 20  # of a client in WINDOW seconds; then it is not answered until they are over
WINDOW = 60.0
_REMEMBERED = 4096  # clients with wrong tokens

Key = TypeVar("Key")


class Connection(Protocol):
    """What `Clients` needs to know of a connection."""

    @property
    def is_idle(self) -> bool:
        """Whether no request on it is being answered."""

    def drop(self) -> None:
        """Close it at once."""


def network(address: str) -> str:
    """The client that an address belongs to: an IPv4 address, or the 64 bits that one IPv6 customer is given."""
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
    """The connections and requests of each client, and the wrong tokens it gave.

    is_proxy: whether an address is that of a trusted proxy, whose connections are those of many clients.
    """

    def __init__(self, is_proxy: Callable[[str], bool] = lambda address: False) -> None:
        self._is_proxy = is_proxy
        self._open: dict[str, dict[Connection, None]] = {}  # by client, the oldest first
        self._count = 0
        self._under_way: dict[str, int] = {}
        self._wrong: dict[str, tuple[float, int]] = {}  # when the first came, how many did

    def enter(self, address: str, connection: Connection) -> None:
        """Add a connection. Beyond a limit, one is closed: of the client with most, the oldest idle one or the newest."""
        client = network(address)
        mine = self._open.setdefault(client, {})
        mine[connection] = None
        self._count += 1
        if self._count > MAX_CONNECTIONS:
            client = max(self._open, key=lambda one: len(self._open[one]))
        elif len(mine) <= MAX_OF_CLIENT or self._is_proxy(address):
            return
        held = self._open[client]
        gives_way = next((one for one in held if one.is_idle and one is not connection), next(reversed(held)))
        self._forget(client, gives_way)
        gives_way.drop()

    def leave(self, address: str, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._forget(network(address), connection)

    def _forget(self, client: str, connection: Connection) -> None:
        if connection in self._open.get(client, ()):
            del self._open[client][connection]
            self._count -= 1
            if not self._open[client]:
                del self._open[client]

    @contextlib.contextmanager
    def request(self, address: str) -> Iterator[bool]:
        """While a request is under way; gives whether the client may have one more."""
        client = network(address)
        self._under_way[client] = self._under_way.get(client, 0) + 1
        try:
            yield self._under_way[client] <= MAX_OF_CLIENT
        finally:
            self._under_way[client] -= 1
            if not self._under_way[client]:
                del self._under_way[client]

    def wrong_token(self, address: str) -> None:
        """Count a guess."""
        client = network(address)
        began, count = self._wrong.pop(client, (0.0, 0))
        now = time.monotonic()
        self._wrong[client] = (began, count + 1) if now - began < WINDOW else (now, 1)
        if len(self._wrong) > _REMEMBERED:
            del self._wrong[next(iter(self._wrong))]

    def locked_out(self, address: str) -> float:
        """Seconds for which a client's tokens are not checked, right or wrong; 0 for most."""
        began, count = self._wrong.get(network(address), (0.0, 0))
        return max(0.0, began + WINDOW - time.monotonic()) if count >= WRONG_TOKENS else 0.0


def largest(held: dict[str, int]) -> str:
    """The client that holds the most."""
    return max(held, key=lambda client: held[client])

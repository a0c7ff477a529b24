"""Which client asks for which host, also when a proxy stands in between."""

import ipaddress
from collections.abc import Mapping, Sequence

from imgclf.core.errors import UsageError

_PORTS = {"http": ":80", "https": ":443"}  # which a browser leaves out


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine alone."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def name_of(host: str) -> str:
    """A Host header without its port and brackets, in lower case."""
    return (host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]).lower()


class Proxies:
    """The proxies that are believed; what anyone else says of a client is ignored.

    addresses: of proxies, each an IP address or a network such as 10.0.0.0/8. Raises UsageError for anything else.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        try:
            self._networks = [ipaddress.ip_network(address) for address in addresses]
        except ValueError as error:
            raise UsageError(f"--proxy: {error}; give an IP address, or a network such as 10.0.0.0/8") from None

    def trusts(self, address: str) -> bool:
        """Whether an address is that of a proxy."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        plain = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped else parsed
        return any(plain in network for network in self._networks)

    def client(self, peer: str, headers: Mapping[str, str]) -> str:
        """The address of the client: the last of X-Forwarded-For that is no proxy's.

        peer: address at the other end of the connection. headers: by name in lower case, several of one name joined by commas.
        """
        for text in reversed(headers.get("x-forwarded-for", "").split(",")):
            if not self.trusts(peer):
                break
            try:
                peer = str(ipaddress.ip_address(_address(text.strip())))
            except ValueError:  # nothing, or what a client made up
                break
        return peer

    def host(self, peer: str, headers: Mapping[str, str]) -> str:
        """The host that the client asked for: that of X-Forwarded-Host, where a proxy gives it, or else of Host."""
        forwarded = headers.get("x-forwarded-host", "").rpartition(",")[2].strip()
        return forwarded if forwarded and self.trusts(peer) else headers.get("host", "")


def _address(text: str) -> str:
    """An address without the port that some proxies add."""
    if text.startswith("["):
        return name_of(text)
    return text.partition(":")[0] if text.count(":") == 1 else text


class Hosts:
    """The hosts that are answered: those allowed, and this machine's own names; any host where no other rule is known.

    listening: the address that the server listens on. Raises UsageError for a name that no Host header could have.
    """

    def __init__(self, listening: str, allowed: Sequence[str]) -> None:
        for name in allowed:
            if not name or any(letter in "/@?#, *" or not letter.isascii() or not letter.isprintable() for letter in name):
                raise UsageError(
                    f"--allowed-host: {name!r} is not a host name; give one such as photos.example or 10.0.0.5:8443"
                )
        self._allowed = {name.lower() for name in allowed}
        self._any = not self._allowed and not is_loopback(listening)

    def allows(self, host: str) -> bool:
        """Whether a request for a host is answered. Another one may be a page that had its name point here (DNS rebinding)."""
        return self._any or is_loopback(name_of(host)) or self._named(host)

    def is_own_origin(self, origin: str, host: str) -> bool:
        """Whether an Origin header is that of a page of this server, which was asked for by a host."""
        scheme, _, place = origin.lower().partition("://")
        if scheme not in _PORTS:
            return False
        place = place.removesuffix(_PORTS[scheme])
        return place == _plain(host.lower()) or place in self._allowed  # on another port, another program may answer

    def _named(self, host: str) -> bool:
        return not self._allowed.isdisjoint((host.lower(), _plain(host.lower()), name_of(host)))


def _plain(host: str) -> str:
    """A host without a port that browsers leave out."""
    return next((host.removesuffix(port) for port in _PORTS.values() if host.endswith(port)), host)

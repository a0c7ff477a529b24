"""The client and the host of a request, with or without a proxy."""

import ipaddress
from collections.abc import Mapping, Sequence

from imgclf.core.errors import UsageError

_PORTS = {"http": ":80", "https": ":443"}  # browsers omit these


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is reachable from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def name_of(host: str) -> str:
    """Return a Host header without port and brackets, in lower case."""
    return (host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]).lower()


class Proxies:
    """The trusted proxies. Forwarding headers from other addresses are ignored.

    Args:
        addresses: IP addresses, or networks such as 10.0.0.0/8.

    Raises:
        UsageError: An address is not valid.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        try:
            self._networks = [ipaddress.ip_network(address) for address in addresses]
        except ValueError as error:
            raise UsageError(f"--proxy: {error}; give an IP address, or a network such as 10.0.0.0/8") from None

    def trusts(self, address: str) -> bool:
        """Return whether an address belongs to a trusted proxy."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        plain = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped else parsed
        return any(plain in network for network in self._networks)

    def client(self, peer: str, headers: Mapping[str, str]) -> str:
        """Return the address of the client: the last address in X-Forwarded-For that is not a trusted proxy.

        Args:
            peer: Address at the other end of the connection.
            headers: By name in lower case; headers with the same name are joined by commas.
        """
        for text in reversed(headers.get("x-forwarded-for", "").split(",")):
            if not self.trusts(peer):
                break
            try:
                peer = str(ipaddress.ip_address(_address(text.strip())))
            except ValueError:  # empty, or made up by a client
                break
        return peer

    def host(self, peer: str, headers: Mapping[str, str]) -> str:
        """Return the host that the client requested: X-Forwarded-Host if a trusted proxy sends it, else Host."""
        forwarded = headers.get("x-forwarded-host", "").rpartition(",")[2].strip()
        return forwarded if forwarded and self.trusts(peer) else headers.get("host", "")


def _address(text: str) -> str:
    """Return an address without the port that some proxies add."""
    if text.startswith("["):
        return name_of(text)
    return text.partition(":")[0] if text.count(":") == 1 else text


class Hosts:
    """The host names for which the server accepts requests.

    These are the allowed names and the loopback names. Without allowed names, a server that listens on a network accepts any.

    Args:
        listening: Address that the server listens on.
        allowed: Host names, with or without a port.

    Raises:
        UsageError: A name cannot be a Host header.
    """

    def __init__(self, listening: str, allowed: Sequence[str]) -> None:
        for name in allowed:
            if not name or any(letter in "/@?#, *" or not letter.isascii() or not letter.isprintable() for letter in name):
                raise UsageError(
                    f"--allowed-host: {name!r} is not a host name; give one such as images.example or 10.0.0.5:8443"
                )
        self._allowed = {name.lower() for name in allowed}
        self._any = not self._allowed and not is_loopback(listening)

    def allows(self, host: str) -> bool:
        """Return whether requests for a host are accepted. Others may come from a page that uses DNS rebinding."""
        return self._any or is_loopback(name_of(host)) or self._named(host)

    def is_own_origin(self, origin: str, host: str) -> bool:
        """Return whether an Origin header is this server, which the client requested as `host`."""
        scheme, _, place = origin.lower().partition("://")
        if scheme not in _PORTS:
            return False
        place = place.removesuffix(_PORTS[scheme])
        return place == _plain(host.lower()) or place in self._allowed  # another port may belong to another program

    def _named(self, host: str) -> bool:
        return not self._allowed.isdisjoint((host.lower(), _plain(host.lower()), name_of(host)))


def _plain(host: str) -> str:
    """Return a host without a port that browsers omit."""
    return next((host.removesuffix(port) for port in _PORTS.values() if host.endswith(port)), host)

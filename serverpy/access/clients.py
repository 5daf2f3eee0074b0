"""The client of a request: its address, also behind proxies, and whether it is on this machine. Pure.

Behind a reverse proxy, every connection comes from the proxy, often from loopback. So code that trusts an address must
check `Client.is_known` or `Client.is_local` first.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Fields = Iterable[tuple[bytes, bytes]]
"""Header fields with names in lower case, as ASGI has them."""

_OF_PROXIES = frozenset({b"forwarded", b"via", b"x-real-ip"})
_PREFIX_OF_PROXIES = b"x-forwarded-"
_LONGEST_HOST = 255
_IPV6_PREFIX = 64
"""Length of the prefix of one client: a client can use any address of its own /64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """The client of a request. `address` is numeric, or empty if there is none (a Unix socket).

    `is_known` states whether `address` is that of the client. It is false if the request came through a proxy that is
    not trusted, or that does not name its client; then `address` is the proxy's. `scheme` is what a trusted proxy says
    about its own connection to the client."""

    address: str
    is_known: bool = True
    is_proxied: bool = False
    is_local: bool = False
    scheme: str | None = None

    @property
    def is_trusted(self) -> bool:
        """Whether a trusted proxy sent the request, so that its X-Forwarded-* fields count."""
        return self.is_proxied and self.is_known


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Parse addresses and networks. Raises ValueError if one is invalid."""
    return tuple(ip_network(text, strict=False) for text in texts)


@functools.lru_cache(maxsize=1024)
def parse_address(text: str) -> Address | None:
    """Parse a numeric address; an IPv4 address that is written as IPv6 (`::ffff:192.0.2.1`) becomes IPv4. Returns None
    if `text` is no address."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def is_within(address: Address | None, networks: Iterable[Network]) -> bool:
    return address is not None and any(address in network for network in networks)


def network_of(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 of an IPv6 address."""
    parsed = parse_address(address)
    if parsed is None:
        return address
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    return str(IPv6Network((int(parsed), _IPV6_PREFIX), strict=False))


def client_of(peer: str, fields: Fields, trusted: Sequence[Network] = ()) -> Client:
    """Return the client of a request that arrived from `peer`. A request is local only if its peer is on loopback, no
    field says that it passed a proxy, and its Host is an IP literal or `localhost`. `trusted` are the proxies whose
    X-Forwarded-For and X-Forwarded-Proto are believed."""
    host, is_proxied = b"", False
    for name, value in fields:
        if name == b"host":
            host = value
        elif name in _OF_PROXIES or name.startswith(_PREFIX_OF_PROXIES):
            is_proxied = True
    if not is_proxied:
        return _direct(peer, names_this_machine(host))
    if is_within(parse_address(peer), trusted):
        return _forwarded(peer, fields, trusted)
    return Client(address=peer, is_known=False, is_proxied=True)


def names_this_machine(host: bytes) -> bool:
    """Return whether the Host field is an IP literal or `localhost`, which a page of another site cannot make its
    own name (DNS rebinding)."""
    return len(host) <= _LONGEST_HOST and _names_this_machine(host)


@functools.lru_cache(maxsize=256)
def _names_this_machine(host: bytes) -> bool:
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        literal, closed, port = text[1:].partition("]")
        is_own = bool(closed) and isinstance(_strict_address(literal), IPv6Address)
        return is_own and (not port or port.startswith(":"))
    name = text.partition(":")[0].removesuffix(".")
    return name == "localhost" or isinstance(_strict_address(name), IPv4Address)


def _strict_address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


@functools.lru_cache(maxsize=1024)
def _direct(peer: str, names_this_machine: bool) -> Client:
    address = parse_address(peer)
    is_loopback = address is not None and address.is_loopback
    return Client(
        address=peer if address is None else str(address),
        is_known=address is not None,
        is_local=is_loopback and names_this_machine,
    )


def _forwarded(peer: str, fields: Fields, trusted: Sequence[Network]) -> Client:
    """Return the client that a trusted proxy names: the last address of X-Forwarded-For that is not a trusted proxy,
    because each proxy appends the address that it sees."""
    chain = b",".join(value for name, value in fields if name == b"x-forwarded-for").decode("latin-1")
    schemes = [value for name, value in fields if name == b"x-forwarded-proto"]
    scheme = {b"http": "http", b"https": "https"}.get(schemes[-1].strip().lower()) if schemes else None
    client = Client(address=peer, is_known=False, is_proxied=True, scheme=scheme)
    for hop in reversed(chain.split(",")):
        address = _hop(hop.strip())
        if address is None:
            return client
        client = replace(client, address=str(address), is_known=True)
        if not is_within(address, trusted):
            return client
    return client


def _hop(text: str) -> Address | None:
    """Parse an item of X-Forwarded-For, which some proxies write with the port."""
    if text.startswith("["):
        return parse_address(text[1:].partition("]")[0])
    if text.count(":") == 1:
        text = text.partition(":")[0]
    return parse_address(text)

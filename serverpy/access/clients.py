"""The client of an HTTP request: its address, also behind reverse proxies, and whether it is on this machine.

Behind a reverse proxy, every connection comes from the proxy, often from loopback. So code that grants rights to an
address must check `Client.is_known` or `Client.is_local` first. The functions are pure.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Fields = Iterable[tuple[bytes, bytes]]
"""Header fields as in an ASGI scope: pairs of a name in lower case and a value."""

_OF_PROXIES = frozenset({b"forwarded", b"via", b"x-real-ip"})
_PREFIX_OF_PROXIES = b"x-forwarded-"
_LONGEST_HOST = 255
_IPV6_PREFIX = 64
"""Prefix length, in bits, of the IPv6 network that counts as one client: a client can use any address of its /64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """The client of a request. `address` is an IP address, or the text that the ASGI server reports instead, which is
    the empty string for a Unix socket.

    `is_known` states whether `address` is the address of the client. It is false if the request came through a proxy
    that is not trusted, or that does not name the client; then `address` is the address of the proxy. `is_proxied`
    states whether the request came through a proxy, `is_local` whether the client is on this machine. `scheme` is
    `http` or `https` if a trusted proxy has sent X-Forwarded-Proto, otherwise None."""

    address: str
    is_known: bool = True
    is_proxied: bool = False
    is_local: bool = False
    scheme: str | None = None

    @property
    def is_trusted(self) -> bool:
        """Whether a trusted proxy sent the request and named the client. Only then are X-Forwarded-* fields used."""
        return self.is_proxied and self.is_known


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Parse IP addresses, and networks in CIDR notation. Like `parse_address`, converts IPv4-mapped IPv6
    (`::ffff:192.0.2.0/120`) to IPv4. Raises ValueError if a text is neither an address nor a network."""
    return tuple(_unmapped(ip_network(text, strict=False)) for text in texts)


def _unmapped(network: Network) -> Network:
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    return network if mapped is None else IPv4Network((mapped, network.prefixlen - 96))


@functools.lru_cache(maxsize=1024)
def parse_address(text: str) -> Address | None:
    """Parse an IP address. Returns an IPv4-mapped IPv6 address (`::ffff:192.0.2.1`) as an IPv4 address. Returns None if
    `text` is not an IP address."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def is_within(address: Address | None, networks: Iterable[Network]) -> bool:
    return address is not None and any(address in network for network in networks)


def network_of(address: str) -> str:
    """Return the network whose addresses count as one client: an IPv4 address alone, or the /64 of an IPv6 address.
    Returns `address` unchanged if it is not an IP address."""
    parsed = parse_address(address)
    if parsed is None:
        return address
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    return str(IPv6Network((int(parsed), _IPV6_PREFIX), strict=False))


def client_of(peer: str, fields: Fields, trusted: Sequence[Network] = ()) -> Client:
    """Return the client of a request. `peer` is the address at the other end of the connection, `fields` are the header
    fields of the request, and `trusted` are the networks of the proxies whose X-Forwarded-* fields are used. The client
    is local only if `peer` is a loopback address, no field shows that the request passed a proxy, and Host is an IP
    literal or `localhost`."""
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
    """Return whether the Host field is an IP literal or `localhost`. A page that reaches this machine by DNS rebinding
    makes the browser send another Host: the name of its own site."""
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
    """Return the client that a trusted proxy names. Each proxy appends the address of its peer to X-Forwarded-For, so
    the client is the last address that does not belong to a trusted proxy."""
    chain = b",".join(value for name, value in fields if name == b"x-forwarded-for").decode("latin-1")
    schemes = next((value for name, value in fields if name == b"x-forwarded-proto"), b"")
    # the first scheme of a list is that of the client's own request
    scheme = {b"http": "http", b"https": "https"}.get(schemes.partition(b",")[0].strip().lower())
    client = Client(address=peer, is_known=False, is_proxied=True, scheme=scheme)
    for hop in reversed(chain.split(",")):
        address = _hop(hop.strip())
        if address is None:  # the address found so far is that of a proxy, which may have many clients
            return replace(client, is_known=False)
        client = replace(client, address=str(address), is_known=True)
        if not is_within(address, trusted):
            return client
    return client


def _hop(text: str) -> Address | None:
    """Parse an item of X-Forwarded-For, with or without a port. Returns None if the item is not an IP
    address."""
    if text.startswith("["):
        return parse_address(text[1:].partition("]")[0])
    if text.count(":") == 1:
        text = text.partition(":")[0]
    return parse_address(text)

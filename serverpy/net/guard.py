"""The policy that decides to which addresses this server may connect. Code in this process that opens a socket for a
client's request first asks the guard about the numeric address. That code is the HTTP client for media and the
filtering proxy of yt-dlp.

Only public addresses are allowed, unless the operator's ALLOW_NETWORKS allows others. The caller resolves a name
exactly once, the guard checks all of the name's addresses, and the caller connects to one of these addresses: no second
look-up between the check and the connection could return a different address. The guard refuses an address that cannot
be parsed.

`check_url` checks the page URLs that clients send. The check of the page URL alone does not protect this server's
network, because every redirect and every playlist can name a new address.
"""

from __future__ import annotations

import functools
import logging
import re
import socket
import unicodedata
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import unquote, urlsplit

import psutil

from serverpy.errors import ConfigurationError, InvalidUrl, TargetForbidden, UpstreamFailed
from serverpy.net.lookups import look_up
from serverpy.net.ports import BAD_PORTS
from serverpy.options import Targets

Address = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network
Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""Type of a function that resolves a host name and a port to numeric addresses, in the order in which to try them.
Raises OSError if the name does not resolve."""

log = logging.getLogger(__name__)

MAX_ADDRESSES = 64
"""Maximum number of addresses of a name that are checked and used. A DNS response may have 4,000 addresses, and
checking all of them would block the event loop for 50 ms."""
MAX_URL_CHARACTERS = 8192
_CACHED, _MAX_CACHED = 64, 2048
"""Number of URLs whose check is cached, and their maximum length in characters. The limits bound the memory of the
cache, which the memory budget does not count."""
INNER = "This address is not on the public internet and may not be reached."
_INNER_DOMAINS = frozenset({"corp", "home", "internal", "intranet", "lan", "local", "localdomain", "localhost"})
"""Top-level domains that the public DNS does not have (RFC 6761, RFC 6762, ICANN's list of name collisions), but that a
resolver in the network of the operator's proxy may know."""
_LOCALHOST = re.compile(r"(?:^|\.)localhost\.?$", re.IGNORECASE)
"""Pattern of the names of this machine (RFC 6761 §6.3). It is no secret that these names resolve to addresses of this
machine."""
_MAX_UNQUOTINGS = 8
_SMUGGLED = "__youtubedl_smuggle"

# Ranges of addresses that are not public: those in IANA's special-purpose registries, and those that Python's
# `is_global` allows (multicast) or classifies differently in different patch releases.
_CLOSED_IPV4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, and the metadata server 100.100.100.200 of Alibaba Cloud
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's metadata server and DNS: packets to this public address never leave the host
        "169.254.0.0/16",  # link-local addresses, and the metadata server of nearly every cloud
        "172.16.0.0/12",
        "192.0.0.0/24",  # IETF protocol assignments, and the metadata server 192.0.0.192 of Oracle Cloud
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: an IPv6-only machine reaches IPv4 through this prefix
_OPEN_IPV6 = (IPv6Network("2000::/3"), _NAT64)
_CLOSED_IPV6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # IETF protocol assignments, including Teredo
        "2001:db8::/32",
        "2002::/16",  # 6to4: packets go to the embedded IPv4 address, through relays that RFC 7526 retired
        "3fff::/20",
    )
)
_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})  # upper half of an ISATAP interface identifier (RFC 5214 §6.1)


@dataclass(frozen=True, slots=True)
class AllowedNetwork:
    """A network outside the public internet to which this server may connect, on one port, or on all ports if `port` is
    None."""

    network: IpNetwork
    port: int | None = None

    def covers(self, address: Address, port: int) -> bool:
        return self.port in (None, port) and address.version == self.network.version and address in self.network


def parse_networks(text_items: Iterable[str]) -> tuple[AllowedNetwork, ...]:
    """Parse ALLOW_NETWORKS: `127.0.0.0/8`, `10.1.2.3`, `127.0.0.1:8001`, `::1`, `[::1]:80`, `fd00::/8`. A port may also
    follow a network (`10.0.0.0/8:80`, `[fd00::/8]:80`). Raises ValueError if an item is invalid; the message names the
    item."""
    return tuple(_parse_network(text.strip()) for text in text_items)


def _parse_network(text: str) -> AllowedNetwork:
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::([0-9]{1,5}))?", text)
    with_port = re.fullmatch(r"([^:]*):([0-9]{1,5})", text)
    match = bracketed or with_port
    host, port_text = (match[1], match[2]) if match else (text, None)
    try:
        if "%" in host or (bracketed and ":" not in host):
            raise ValueError("a scope id, and brackets around an IPv4 address, are not allowed")
        network = ip_network(host)
    except ValueError as error:
        hint = "host bits are set" if "host bits" in str(error) else "for example 10.0.0.0/8, 127.0.0.1:8001, [::1]:80"
        raise ValueError(f"{text!r} is not a network or address ({hint})") from error
    port = int(port_text) if port_text else None
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"{text!r} has no valid port (1 to 65535)")
    return AllowedNetwork(network, port)


@dataclass(frozen=True, slots=True)
class Guard:
    """An address policy, as an immutable value that components, loops and threads may share.

    `own` holds the (address, port) pairs on which this server itself listens. The guard refuses these pairs even if
    `allow` covers them, so that a page cannot make this server send requests to itself. A pair bound to `0.0.0.0` or
    `::` means that port on every address of this machine. Because a guard never changes, the server binds its sockets
    first, and then gives `guard.refusing(*socket.getsockname()[:2])` to the components that it builds. The filtering
    proxy (`Egress`) adds its own port in the same way.
    """

    allow: tuple[AllowedNetwork, ...] = ()
    deny_ports: frozenset[int] = BAD_PORTS
    own: frozenset[tuple[str, int]] = frozenset()

    def __post_init__(self) -> None:
        for host, _ in self.own:
            ip_address(host)

    @classmethod
    def of(cls, targets: Targets) -> Guard:
        """Return the guard for `targets`. Raises ConfigurationError if an item of ALLOW_NETWORKS is invalid."""
        try:
            guard = cls(allow=parse_networks(targets.allow_networks), deny_ports=targets.deny_ports)
        except ValueError as error:
            raise ConfigurationError(f"ALLOW_NETWORKS: {error}") from error
        for host, port in targets.own:
            guard = guard.refusing(host, port)
        return guard

    def refusing(self, host: str, port: int) -> Guard:
        """Return a copy of the guard that also refuses `host`:`port`, on which this process listens. Raises ValueError
        if `host` is not numeric."""
        address = _unmapped(ip_address(host.partition("%")[0]))
        return replace(self, own=self.own | {(str(address), port)})

    def check(self, address: str, port: int) -> None:
        """Raise TargetForbidden unless this server may connect to the address and port. Raises it also if `address` is
        not numeric or has a scope id."""
        target = _parse_address(address)
        if not 0 < port < 65536:
            raise TargetForbidden("The port of this address is not between 1 and 65535.")
        if self._is_own(target, port):
            raise TargetForbidden("This address belongs to this server, which must not send requests to itself.")
        if any(network.covers(target, port) for network in self.allow):
            return
        if not is_public(target):
            raise TargetForbidden(INNER)
        if port in self.deny_ports:
            raise TargetForbidden(f"This server must not connect to port {port}.")

    def _is_own(self, target: Address, port: int) -> bool:
        hosts = [ip_address(host) for host, own_port in self.own if own_port == port]
        if not hosts:
            return False
        if target.is_unspecified or target in hosts:  # a connection to 0.0.0.0 arrives at this machine
            return True
        return any(host.is_unspecified for host in hosts) and (target.is_loopback or target in _local_addresses())


def _local_addresses() -> set[Address]:
    """Return the current addresses of all interfaces of this machine."""
    families = (socket.AF_INET, socket.AF_INET6)
    entries = (entry for entries in psutil.net_if_addrs().values() for entry in entries)
    return {ip_address(entry.address.partition("%")[0]) for entry in entries if entry.family in families}


def _parse_address(text: str) -> Address:
    try:
        address = ip_address(text)
    except ValueError as error:
        raise TargetForbidden("The address is not a numeric IP address.") from error
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise TargetForbidden("An address with a scope id may not be reached.")
    return _unmapped(address)


def _unmapped(address: Address) -> Address:
    """Return the IPv4 address in an IPv4-mapped address (`::ffff:a.b.c.d`), because the kernel connects to that IPv4
    address (RFC 4291 §2.5.5.2). Returns any other address unchanged."""
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def is_public(address: Address) -> bool:
    """Return whether the address, and each IPv4 address embedded in it, is an ordinary address of the public
    internet."""
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _CLOSED_IPV4)
    return (
        address.is_global
        and any(address in network for network in _OPEN_IPV6)
        and not any(address in network for network in _CLOSED_IPV6)
        and all(is_public(inner) for inner in _embedded(address))
    )


def _embedded(address: IPv6Address) -> Iterable[IPv4Address]:
    """Yield the IPv4 addresses that are embedded in `address` and to which the network may forward the packets. Ignores
    ranges that `is_public` refuses as a whole (IPv4-compatible, 6to4, Teredo, NAT64's local prefix)."""
    last_32_bits = int(address) & 0xFFFF_FFFF
    if address in _NAT64 or (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
        yield IPv4Address(last_32_bits)


class UnusableName(UpstreamFailed):
    """Error: a host name does not resolve, or resolves to a forbidden address. The error text is the same in both
    cases, because a difference would reveal which names exist in the networks of this machine."""

    def __init__(self, host: str) -> None:
        super().__init__(f"The host name {host[:253]!r} does not resolve to an address that may be reached.")


async def resolve_host(
    guard: Guard, host: str, port: int, *, lookup: Lookup = look_up, is_remote: bool = False
) -> tuple[str, ...]:
    """Resolve `host` to the numeric addresses to connect to, in the order in which to try them. The guard checks the
    first MAX_ADDRESSES addresses, and further ones are not used. If a checked address is forbidden, so is the name.

    `host` is a name or a bare address (no brackets). A name is looked up once, with `lookup`; the caller must set a
    timeout. If `is_remote`, the operator's proxy looks the name up, and the result is the name itself. Raises
    TargetForbidden if `host` is a forbidden address, or a name of this machine (`localhost`), and UnusableName if
    `host` is a name that does not resolve or leads to a forbidden address.
    """
    literal = _literal(host)
    if is_remote and literal is None:
        return (_remote_name(guard, host, port),)
    found = [literal] if literal else (await _look_up(host, port, lookup))[:MAX_ADDRESSES]
    try:
        for address in found:
            guard.check(address, port)
    except TargetForbidden as error:
        if literal or _LOCALHOST.search(host):
            raise
        log.info("The host name %.253r resolves to an address that may not be reached", host)
        raise UnusableName(host) from error
    return tuple(dict.fromkeys(str(_parse_address(address)) for address in found))


def _literal(host: str) -> str | None:
    """Return `host` if it is a numeric address in canonical form. Returns None if it is a name. Raises TargetForbidden
    if it is a numeric address in another form (`2130706433`, `0x7f.1`, `127.1`), because parsers disagree on its
    meaning."""
    if ":" in host:
        return host
    try:
        return str(IPv4Address(host))
    except ValueError:
        last_label = host.removesuffix(".").rpartition(".")[2]
        if re.fullmatch(r"[0-9]+|0[xX][0-9A-Fa-f]*", last_label):
            raise TargetForbidden("The host must be a name, or an IP address in its usual form.") from None
        return None


def _remote_name(guard: Guard, host: str, port: int) -> str:
    """Return `host`, encoded in ASCII, for the proxy that resolves it. Raises TargetForbidden if the name or the port
    is forbidden for every address to which the name may resolve, and UnusableName if the name is invalid."""
    try:
        name = _encoded_host(host)
    except ValueError as error:
        raise UnusableName(host) from error
    labels = name.lower().removesuffix(".").split(".")
    if len(labels) == 1 or labels[-1] in _INNER_DOMAINS or labels[-2:] == ["home", "arpa"]:
        raise TargetForbidden(INNER)
    if not 0 < port < 65536 or port in guard.deny_ports:
        raise TargetForbidden(f"This server must not connect to port {port}.")
    return name


async def _look_up(host: str, port: int, lookup: Lookup) -> Sequence[str]:
    try:
        found = await lookup(_encoded_host(host), port)
    except (OSError, ValueError) as error:
        raise UnusableName(host) from error
    if not found:
        raise UnusableName(host)
    return found


def check_url(url: str) -> str:
    """Check the URL of a page or a media file that a client sent. Return the URL with the host in ASCII and everything
    else unchanged: the function neither strips nor repairs anything. Raises InvalidUrl if the URL is invalid or not
    allowed."""
    return _check_and_cache(url) if len(url) <= _MAX_CACHED else _check(url)


def _check(url: str) -> str:
    if len(url) > MAX_URL_CHARACTERS:
        raise InvalidUrl(f"The URL is longer than {MAX_URL_CHARACTERS} characters.")
    if "\\" in url or _has_blank(url):
        raise InvalidUrl("The URL contains white space, a control character or a backslash.")
    if _is_smuggled(url):
        raise InvalidUrl("The URL contains yt-dlp's internal data (__youtubedl_smuggle). Send the URL without it.")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        raise InvalidUrl("The URL must begin with http:// or https://.")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    checked = f"{scheme}://{_check_authority(authority)}{rest[len(authority) :]}"
    _check_reading(checked)
    return checked


_check_and_cache = functools.lru_cache(maxsize=_CACHED)(_check)


def _has_blank(text: str) -> bool:
    if text.isprintable():  # printable text contains no white space except U+0020
        return " " in text
    return any(unicodedata.category(character) in ("Cc", "Cs", "Zs", "Zl", "Zp") for character in text)


def _is_smuggled(url: str) -> bool:
    """Return whether the URL contains yt-dlp's smuggled data (`__youtubedl_smuggle`), at any depth of percent-encoding:
    extractors unquote parts of a URL, and some extractors do so more than once."""
    for _ in range(_MAX_UNQUOTINGS):
        if _SMUGGLED in url.lower():
            return True
        url, previous = unquote(url), url
        if url == previous:
            return False
    raise InvalidUrl("The URL is percent-encoded too many times.")


def _check_authority(authority: str) -> str:
    if "@" in authority:
        raise InvalidUrl("The URL must not contain a user name or password.")
    match = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*)(:[0-9]*)?", authority)
    if match is None:
        raise InvalidUrl("The URL has an invalid host or port.")
    host, port = match[1], match[2] or ""
    if not host:
        raise InvalidUrl("The URL has no host.")
    if port.strip(":") and not (len(port) <= 6 and 0 < int(port[1:]) < 65536):
        raise InvalidUrl("The URL's port is not between 1 and 65535.")
    try:
        return _encoded_host(host) + port
    except ValueError as error:
        raise InvalidUrl("The URL's host is not a valid name or address.") from error


def _encoded_host(host: str) -> str:
    """Return the host in ASCII. RFC 5891 and UTS 46 apply to a name that is not ASCII, RFC 3986 §3.2.2 applies to an
    address in brackets. Raises ValueError (or its subclass `idna.IDNAError`) if the host is invalid."""
    if host.startswith("["):
        if IPv6Address(host[1:-1]).scope_id is not None:
            raise ValueError("the address has a scope id, which is not allowed")
        return host
    encoded = host if host.isascii() else _in_ascii(host)
    labels = encoded.removesuffix(".").split(".")
    if len(encoded) > 254 or not all(re.fullmatch(r"[A-Za-z0-9_-]{1,63}", label) for label in labels):
        raise ValueError("a label of the host name is empty or too long, or has an invalid character")
    return encoded


def _in_ascii(name: str) -> str:
    import idna  # a late import, because `idna` is rarely needed and its tables are large

    return idna.encode(name, uts46=True).decode("ascii")


def _check_reading(url: str) -> None:
    """Raise InvalidUrl if the standard library cannot parse the host of the URL, because later parsers might find a
    different host in such a URL."""
    try:
        parts = urlsplit(url)
        readable = bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        readable = False
    if not readable:
        raise InvalidUrl("The URL has an invalid host or port.")

"""Connections through the operator's PROXY (http, socks4, socks5) to addresses that the guard has checked. The schemes
`socks4a` and `socks5h`, with which a client asks the proxy to resolve names, are treated like `socks4` and `socks5`.

The proxy itself is reached unchecked, because the operator has set it. It receives the address, never a name, so that
it does not resolve anything again.
"""

from __future__ import annotations

import asyncio
import base64
import re
import socket
from dataclasses import dataclass, field
from ipaddress import ip_address

from python_socks import ProxyError, ProxyType, parse_proxy_url
from python_socks.async_.asyncio import Proxy

from serverpy.errors import ConfigurationError

_MAX_HEAD_BYTES = 16384
_ALIASES = {"socks4a": "socks4", "socks5h": "socks5"}


@dataclass(frozen=True, slots=True)
class UpstreamProxy:
    """The PROXY setting, and the local address to connect from. Raises ConfigurationError, without the password in
    it."""

    url: str = field(repr=False)
    source_address: str | None = None
    kind: ProxyType = field(init=False)

    def __post_init__(self) -> None:
        scheme, separator, rest = self.url.partition("://")
        object.__setattr__(self, "url", _ALIASES.get(scheme.lower(), scheme) + separator + rest)
        try:
            kind, *_ = parse_proxy_url(self.url)
        except ValueError:
            raise ConfigurationError("PROXY must be a URL like http://host:port, socks4://… or socks5://….") from None
        object.__setattr__(self, "kind", kind)

    def takes(self, address: str) -> bool:
        """Return whether the proxy can connect to `address`: SOCKS4 supports only IPv4."""
        return self.kind is not ProxyType.SOCKS4 or ip_address(address).version == 4

    async def open(self, address: str, port: int) -> socket.socket:
        """Return a connected, non-blocking socket, which the caller closes. Raises OSError. The caller limits the
        time."""
        if self.kind is ProxyType.HTTP:
            return await self._open_http(address, port)
        try:
            return await Proxy.from_url(self.url).connect(address, port, local_addr=self._local)
        except ProxyError as error:
            raise ConnectionError("the proxy refused the connection") from error

    @property
    def _local(self) -> tuple[str, int] | None:
        return (self.source_address, 0) if self.source_address else None

    async def _open_http(self, address: str, port: int) -> socket.socket:
        """Connect by CONNECT (RFC 9110 §9.3.6), without python-socks: that takes the first bytes it receives for the
        whole response, so if a head arrives in two parts, its second part would be read as the origin's bytes."""
        _, host, proxy_port, user, password = parse_proxy_url(self.url)
        sock = await self._dial(host, proxy_port)
        try:
            await asyncio.get_running_loop().sock_sendall(sock, _connect_request(address, port, user, password))
            await _read_consent(sock)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _dial(self, host: str, port: int) -> socket.socket:
        loop = asyncio.get_running_loop()
        error: OSError = ConnectionError("the proxy has no address")
        for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                if self._local:
                    sock.bind(self._local)
                await loop.sock_connect(sock, address)
            except OSError as failure:
                sock.close()
                error = failure
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise error


def _connect_request(address: str, port: int, user: str | None, password: str | None) -> bytes:
    authority = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if user or password:
        token = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
        lines.append(f"Proxy-Authorization: Basic {token}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


async def _read_consent(sock: socket.socket) -> None:
    """Read the response head byte by byte, and not beyond its end: what follows is the origin's. Raises
    ConnectionError."""
    loop = asyncio.get_running_loop()
    head = bytearray()
    while not head.endswith((b"\r\n\r\n", b"\n\n")):
        byte = await loop.sock_recv(sock, 1)
        if not byte or len(head) == _MAX_HEAD_BYTES:
            raise ConnectionError("the proxy sent no complete response head")
        head += byte
    if not re.match(rb"HTTP/1\.[0-9] 2[0-9]{2}[ \r\n]", head):
        raise ConnectionError("the proxy refused the connection")

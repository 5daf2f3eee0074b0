"""Connections through the operator's PROXY (http, socks4, socks5) to addresses that the guard has checked or, if
PROXY_DNS is `remote`, to names that the proxy resolves. The schemes `socks4a` and `socks5h`, which usually mean that
the proxy resolves names, are treated like `socks4` and `socks5`: only PROXY_DNS decides.

The guard does not check the address of the proxy itself, because the operator has set it. Unless PROXY_DNS is `remote`,
the proxy receives the checked address, not the host name, so that the proxy does not resolve the name again. The only
exception is an http proxy that refuses CONNECT to the port of an `http://` URL (Squid allows CONNECT to port 443 only).
Such a proxy gets the request itself in absolute form (RFC 9112 §3.2.2), which must contain the host name. Even then,
the guard has checked the addresses to which this machine resolves the name.
"""

from __future__ import annotations

import asyncio
import base64
import socket
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from typing import Any

from python_socks import ProxyError, ProxyType, parse_proxy_url
from python_socks.async_.asyncio import Proxy

from serverpy.errors import ConfigurationError
from serverpy.net.happy_eyeballs import ATTEMPT_DELAY_SECONDS, first_to_connect, in_order
from serverpy.net.response_head import BadResponse, parse_response

_MAX_HEAD_BYTES = 16384
_NO_CONNECT = frozenset({400, 403, 405, 501})
"""Statuses with which http proxies refuse a CONNECT that they do not allow."""
_ALIASES = {"socks4a": "socks4", "socks5h": "socks5"}


class _ConnectRefused(ConnectionError):
    """Error: an http proxy refused a CONNECT with the status `status`."""

    def __init__(self, status: int) -> None:
        super().__init__("the proxy refused the connection")
        self.status = status


@dataclass(frozen=True, slots=True)
class AbsoluteForm:
    """How to send requests in absolute form, with `headers` for the proxy, through an http proxy that refuses CONNECT
    to `port`. `refused` is the status with which the proxy has refused the CONNECT, or 0 if no CONNECT was tried.
    `answered` contains the ports for which the proxy has already forwarded such a request."""

    headers: tuple[tuple[str, str], ...] = field(repr=False)
    refused: int
    port: int
    answered: set[int]

    def is_refusal(self, status: int) -> bool:
        """Return whether a response with `status` to a request in absolute form is a refusal by the proxy. Otherwise
        the response comes from the site."""
        if status == 407 or (status == self.refused and self.port not in self.answered):
            return True
        self.answered.add(self.port)
        return False


@dataclass(frozen=True, slots=True)
class UpstreamProxy:
    """The upstream proxy that the setting PROXY names, and the local address from which to connect to that proxy. The
    constructor raises ConfigurationError if the setting is invalid; the message does not contain the password. The
    object remembers the ports for which the proxy takes requests in absolute form."""

    url: str = field(repr=False)
    source_address: str | None = None
    kind: ProxyType = field(init=False)
    _untunnelled: set[int] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        scheme, separator, rest = self.url.partition("://")
        object.__setattr__(self, "url", _ALIASES.get(scheme.lower(), scheme) + separator + rest)
        try:
            kind, *_ = parse_proxy_url(self.url)
        except ValueError:
            raise ConfigurationError("PROXY must be a URL like http://host:port, socks4://… or socks5://….") from None
        object.__setattr__(self, "kind", kind)

    def takes(self, address: str) -> bool:
        """Return whether the proxy can connect to `address`, which may also be a host name. SOCKS4 supports only IPv4
        addresses and, with its extension 4a, host names."""
        return self.kind is not ProxyType.SOCKS4 or not _is_address(address) or ip_address(address).version == 4

    async def open_for(self, scheme: str, address: str, port: int) -> tuple[socket.socket, AbsoluteForm | None]:
        """Return a connection to the address through the proxy (the result of `open`), and None. If `scheme` is http
        and the proxy refuses CONNECT to the port, return a connection to the proxy itself, and the `AbsoluteForm` in
        which to send requests over that connection."""
        if scheme != "http" or self.kind is not ProxyType.HTTP:
            return await self.open(address, port), None
        refused = 0
        if port not in self._untunnelled:
            try:
                return await self.open(address, port), None
            except _ConnectRefused as error:
                if error.status not in _NO_CONNECT:
                    raise
                refused = error.status
        _, host, proxy_port, user, password = parse_proxy_url(self.url)
        headers = _authorization(user, password)
        return await self._dial(host, proxy_port), AbsoluteForm(headers, refused, port, self._untunnelled)

    async def open(self, address: str, port: int) -> socket.socket:
        """Return a non-blocking socket that is connected to `address` through the proxy. The caller must close the
        socket, and must set a timeout. Raises OSError if the connection fails."""
        if self.kind is ProxyType.HTTP:
            return await self._open_http(address, port)
        try:
            proxy = Proxy.from_url(self.url, rdns=not _is_address(address))
            return await proxy.connect(address, port, local_addr=self._local)
        except ProxyError as error:
            raise ConnectionError("the proxy refused the connection") from error

    @property
    def _local(self) -> tuple[str, int] | None:
        return (self.source_address, 0) if self.source_address else None

    async def _open_http(self, address: str, port: int) -> socket.socket:
        """Connect with a CONNECT request (RFC 9110 §9.3.6). This method does not use python-socks, which treats the
        first received bytes as the whole response: if a head arrived in two parts, python-socks would treat the second
        part as bytes of the origin server."""
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
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = {str(address[0]): (family, address) for family, *_, address in found}
        ordered = [addresses[each] for each in in_order(tuple(addresses), None)] if addresses else []
        if not ordered:
            raise ConnectionError("the host name of the proxy has no address")
        attempts = [partial(self._dial_one, family, address) for family, address in ordered]
        _, sock = await first_to_connect(attempts, ATTEMPT_DELAY_SECONDS, socket.socket.close)
        return sock

    async def _dial_one(self, family: int, address: tuple[Any, ...]) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if self._local:
                sock.bind(self._local)
            await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return sock


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _authorization(user: str | None, password: str | None) -> tuple[tuple[str, str], ...]:
    if not (user or password):
        return ()
    token = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
    return (("Proxy-Authorization", f"Basic {token}"),)


def _connect_request(address: str, port: int, user: str | None, password: str | None) -> bytes:
    authority = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    lines += [f"{name}: {value}" for name, value in _authorization(user, password)]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


async def _read_consent(sock: socket.socket) -> None:
    """Read response heads from the proxy up to the final head. Raises ConnectionError if the status of the final head
    is not 2xx."""
    while (status := await _read_status(sock)) < 200:
        if status == 101:
            break
    if not 200 <= status < 300:
        raise _ConnectRefused(status)


async def _read_status(sock: socket.socket) -> int:
    """Read a response head and return the status. Reads byte by byte, and not beyond the end of the head, because the
    bytes after the head come from the origin server. Raises ConnectionError if the head is incomplete or malformed."""
    loop = asyncio.get_running_loop()
    head = bytearray()
    while not head.endswith((b"\r\n\r\n", b"\n\n")):
        byte = await loop.sock_recv(sock, 1)
        if not byte or len(head) == _MAX_HEAD_BYTES:
            raise ConnectionError("the proxy sent no complete response head")
        head += byte
    try:
        return parse_response(bytes(head)).status
    except BadResponse as error:
        raise ConnectionError("the proxy sent a malformed response") from error

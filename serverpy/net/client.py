"""The HTTP client for media. The client connects only to addresses that the guard has allowed, keeps connections for
later requests, and reads from a body only when the body's reader asks for bytes.

A `Response` buffers at most one step of its connection: as many bytes as the reader asks for, at first `SMALL_STEP`.
The client follows no redirects and keeps no cookies: `net/session.py` does both.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import certifi

from serverpy.errors import UpstreamFailed, UpstreamTimeout
from serverpy.memory.room import Lender, Room
from serverpy.net.connection import SMALL_STEP, Buffers, Connection, TlsConnection
from serverpy.net.content_coding import Decoding
from serverpy.net.guard import Guard, Lookup
from serverpy.net.happy_eyeballs import ATTEMPT_DELAY_SECONDS, PROXIED_DELAY_SECONDS, Routes, first_to_connect
from serverpy.net.http1 import Exchange, Headers, Request
from serverpy.net.resolver import Resolver
from serverpy.net.response_head import codings_of, is_endless
from serverpy.net.urls import Origin
from serverpy.options import Network, Timeouts
from serverpy.ranges import total_of

if TYPE_CHECKING:
    from serverpy.net.proxies import UpstreamProxy

IDLE_SECONDS = 10.0
IDLE_CONNECTIONS = 64
"""Maximum number of idle connections that the client keeps for later requests, to all servers together."""
KEPT_SECONDS = 3.0
"""Seconds that a media server has to send the first byte of a response over a kept connection. Some servers and
middleboxes forget idle connections without closing them."""
_LIKE_200 = frozenset(range(201, 300)) - {202, 204, 205, 206}
"""Statuses that count as 200, as in browsers: 203 is a 200 that a proxy has transformed (RFC 9110 §15.3.4), and an
unknown status of success means the same as 200 (§15). A 202 promises a later response, and 204 and 205 have no
body."""
_WHOLE_RANGE = re.compile(r"\s*bytes\s+0-([0-9]+)/([0-9]+|\*)\s*", re.IGNORECASE)
_OF_CODED_BYTES = frozenset({"content-encoding", "content-length", "content-range", "accept-ranges", "etag"})


class Response:
    """A response whose head has arrived. The owner must close the response.

    The response decodes a compressed body. The length of a decoded body is unknown, and a decoded body has no ranges,
    so the fields that describe the compressed bytes are removed from `headers`. A 206 that contains all of the
    compressed bytes gets status 200. A 206 that contains the whole of an endless internet radio stream also gets status
    200."""

    def __init__(self, client: Client, url: str, origin: Origin, connection: Connection, exchange: Exchange) -> None:
        self.url = url
        self._client = client
        self._origin = origin
        self._connection = connection
        self._exchange = exchange
        self._closed = False
        self.status = 200 if exchange.status in _LIKE_200 else exchange.status
        self.headers: Headers = exchange.headers
        self.connect_seconds = 0.0
        self.coding_problem: str | None = None
        """The reason why the body cannot be decoded, or None if the body can be decoded or is not compressed."""
        self._decoding: Decoding | None = None
        if codings := codings_of(self.headers.all("content-encoding")):
            self._decode(codings)
        elif self.status == 206 and is_endless(self.headers.get("content-range"), self.headers.get("content-length")):
            self._become_whole()

    @property
    def is_framed(self) -> bool:
        """Whether the end of the body is certain, because the head states it, or because the coding of a compressed
        body marks it. Otherwise a truncated body looks complete (RFC 9112 §6.3)."""
        states_end = self._exchange.is_chunked or self._exchange.headers.get("content-length") is not None
        return states_end or self.is_decoded

    @property
    def is_decoded(self) -> bool:
        """Whether the body is compressed and is decoded as it arrives. If the status is still 206, the body is only a
        part of the compressed bytes, and cannot be decoded."""
        return self._decoding is not None

    def _decode(self, codings: tuple[str, ...]) -> None:
        try:
            self._decoding = Decoding(codings, self._read_coded, self._client.room())
        except UpstreamFailed as error:
            self.coding_problem = str(error)
        if self.status == 200 or (self.status == 206 and _is_all(self.headers)):
            self._become_whole()

    def _become_whole(self) -> None:
        self.status = 200
        self.headers = Headers(field for field in self.headers if field[0] not in _OF_CODED_BYTES)

    async def read(self, most: int = SMALL_STEP) -> bytes:
        """Read the next bytes of the body. Returns `b""` at the clean end of the body. Requests at most `most` bytes (1
        to `LARGE_STEP`) from the socket, and buffers no more than that. Returns as soon as any bytes have arrived.
        Raises `UpstreamFailed` if the body is truncated or cannot be decoded, `UpstreamTimeout` if the media server
        sends nothing in time, `Busy` if too little of the memory budget is free to decode the body."""
        if self._decoding is not None:
            return await self._decoding.read()
        if self.coding_problem is not None:
            raise UpstreamFailed(self.coding_problem)
        # The chunks of a chunked body may have one byte each, and each chunk is an object in memory until the chunks
        # are joined.
        self._connection.step = min(most, SMALL_STEP) if self._exchange.is_chunked else most
        return await self._exchange.chunk(self._client.stall_timeout)

    async def _read_coded(self) -> bytes:
        return await self._exchange.chunk(self._client.stall_timeout)

    def close(self) -> None:
        """Give the connection back to the HTTP client for reuse if the response was read to its end. Otherwise close
        the connection, so that a read in progress raises `UpstreamFailed`. Does not block. Idempotent."""
        if not self._closed:
            self._closed = True
            self._client.release(
                self._origin, self._connection, keep=self._exchange.complete and self._exchange.reusable
            )
            self._exchange.close()
            if self._decoding is not None:
                self._decoding.close()


def _is_all(headers: Headers) -> bool:
    """Return whether a 206 response contains the whole file, as a response with `Content-Range: bytes 0-99/100`
    does."""
    match = _WHOLE_RANGE.fullmatch(headers.get("content-range") or "")
    return match is not None and match[1] == str((total_of(match[0]) or 0) - 1)


class Client:
    """The HTTP client of one event loop. `close` closes only idle connections. `lender` provides the memory of decoders
    (None: the memory of decoders is not limited). `lookup` replaces the system's resolver."""

    def __init__(
        self,
        guard: Guard,
        network: Network = Network(),
        timeouts: Timeouts = Timeouts(),
        lender: Lender | None = None,
        *,
        lookup: Lookup | None = None,
    ) -> None:
        self._guard = guard
        self._connect_timeout = timeouts.connect
        self.stall_timeout = timeouts.stall
        self._proxy = _upstream_proxy(network.proxy, network.source_address) if network.proxy else None
        self._source = (network.source_address, 0) if network.source_address else None
        self._ca_file = network.ca_file
        self._lender = lender
        self._resolver = Resolver(lookup=lookup, is_remote=network.proxy_dns == "remote")
        self._routes = Routes()
        self._tls: ssl.SSLContext | None = None
        self._buffers = Buffers()
        self._idle: dict[Connection, tuple[Origin, asyncio.TimerHandle]] = {}
        self._in_use: set[Connection] = set()

    @property
    def open_connections(self) -> int:
        """The number of connections that a request or response uses now."""
        return len(self._in_use)

    async def open(self, request: Request) -> Response:
        """Send `request` and wait for the head of its response. Raises `TargetForbidden` if the guard refuses the
        address, `UpstreamFailed` if the connection fails, `UpstreamTimeout` if the media server does not respond in
        time. If the call raises an error or is cancelled, it leaves no connection open."""
        origin = request.origin
        # A POST is not sent over a kept connection: if the connection fails, a POST must not be sent again (RFC 9110
        # §9.2.2).
        kept = self._take(origin) if request.body is None else None
        if kept is not None:
            response = await self._try_kept(origin, kept, request)
            if response is not None:
                return response
        begun = time.monotonic()
        connection = await self._connect(origin)
        connected = time.monotonic() - begun
        response = await self._exchange(origin, connection, request, Exchange(connection))
        response.connect_seconds = connected
        return response

    def room(self) -> Room | None:
        """Return a new `Room` that limits the memory of a decoder. Returns None if the memory of decoders is not
        limited."""
        return None if self._lender is None else Room(self._lender)

    async def _try_kept(self, origin: Origin, connection: Connection, request: Request) -> Response | None:
        """Send `request` over a kept connection. Returns None if the media server has closed the connection, or sends
        no byte within KEPT_SECONDS. In these cases the caller may send the request again."""
        exchange = Exchange(connection)
        try:
            return await self._exchange(origin, connection, request, exchange, patience=KEPT_SECONDS)
        except (UpstreamFailed, UpstreamTimeout) as error:
            if exchange.touched:
                raise
            if isinstance(error, UpstreamTimeout):  # the other kept connections to this origin are probably dead, too
                self._drop_all(lambda kept_origin: kept_origin == origin)
            return None

    async def _exchange(
        self,
        origin: Origin,
        connection: Connection,
        request: Request,
        exchange: Exchange,
        patience: float | None = None,
    ) -> Response:
        self._in_use.add(connection)
        try:
            connection.attach(exchange)
            connection.step = SMALL_STEP
            if connection.closed:
                raise UpstreamFailed("The media server closed the connection.")
            absolute_form = connection.absolute_form
            connection.write(request.encode(None if absolute_form is None else absolute_form.headers))
            await exchange.head(self.stall_timeout, patience)
            if absolute_form is not None and absolute_form.is_refusal(exchange.status):
                raise UpstreamFailed("The proxy of this server (PROXY) refused the connection to the media server.")
        except BaseException:
            self.release(origin, connection, keep=False)
            exchange.close()
            raise
        return Response(self, request.url, origin, connection, exchange)

    async def resolve(self, origin: Origin) -> tuple[str, ...]:
        """Return the addresses of `origin`. If the proxy resolves names, returns only the host name of `origin`. Raises
        the errors of `Resolver.resolve`. The caller must set a timeout."""
        return await self._resolver.resolve(self._guard, origin.host, origin.port)

    async def _connect(self, origin: Origin) -> Connection:
        try:
            async with asyncio.timeout(self._connect_timeout):
                addresses = await self.resolve(origin)
                return await self._connect_any(origin, self._routes.order(origin.host, addresses))
        except TimeoutError:
            raise UpstreamTimeout("The media server could not be reached in time.") from None
        except ssl.SSLError as error:
            raise UpstreamFailed(
                f"The TLS connection to the media server failed ({error.reason or 'connection closed'})."
            ) from error
        except OSError as error:
            raise UpstreamFailed("The media server could not be reached.") from error

    async def _connect_any(self, origin: Origin, addresses: list[str]) -> Connection:
        """Connect to the address that accepts a connection first. If the TLS handshake with this address fails, try the
        other addresses. The handshake with each address may take an equal share of the connect timeout; the handshake
        with the last address may take all of the remaining time."""
        delay = ATTEMPT_DELAY_SECONDS if self._proxy is None else PROXIED_DELAY_SECONDS
        share = self._connect_timeout / len(addresses)
        while True:
            attempts = [partial(self._connect_one, origin, address) for address in addresses]
            number, connection = await first_to_connect(attempts, delay, Connection.abort)
            address = addresses.pop(number)
            try:
                if isinstance(connection, TlsConnection):
                    async with asyncio.timeout(share if addresses else None):
                        await connection.handshake()
            except OSError:  # OSError includes TimeoutError and SSLError
                connection.abort()
                if not addresses:
                    raise
            except BaseException:
                connection.abort()
                raise
            else:
                self._routes.remember(origin.host, address)
                return connection

    async def _connect_one(self, origin: Origin, address: str) -> Connection:
        connection = self._make(origin)
        try:
            if self._proxy is None:
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: connection, address, origin.port, local_addr=self._source)
            else:
                await self._connect_through(self._proxy, connection, origin, address)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _connect_through(
        self, proxy: UpstreamProxy, connection: Connection, origin: Origin, address: str
    ) -> None:
        sock, connection.absolute_form = await proxy.open_for(origin.scheme, address, origin.port)
        try:
            await asyncio.get_running_loop().create_connection(lambda: connection, sock=sock)
        except BaseException:
            sock.close()
            raise

    def _make(self, origin: Origin) -> Connection:
        if origin.scheme == "http":
            return Connection(self._buffers)
        if self._tls is None:  # an SSLContext costs 40 ms and 0.7 MB, so the client makes it on first use
            self._tls = ssl.create_default_context(cafile=certifi.where())
            if self._ca_file:
                self._tls.load_verify_locations(self._ca_file)
        return TlsConnection(self._buffers, self._tls, origin.host)

    # Kept (idle) connections

    def release(self, origin: Origin, connection: Connection, *, keep: bool) -> None:
        """Take `connection` back from the response that used it, and keep it for later requests if `keep` is true and
        fewer than IDLE_CONNECTIONS connections are idle. Otherwise close it."""
        self._in_use.discard(connection)
        connection.attach(None)
        if not keep or connection.closed or len(self._idle) >= IDLE_CONNECTIONS:
            connection.abort()
            return
        timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._drop, connection)
        self._idle[connection] = (origin, timer)
        connection.resume()  # an idle connection keeps reading, to notice when it is closed

    def _take(self, origin: Origin) -> Connection | None:
        for connection, (kept_origin, timer) in list(self._idle.items()):
            if connection.closed or kept_origin == origin:
                timer.cancel()
                del self._idle[connection]
                if not connection.closed:
                    return connection
        return None

    def _drop(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        connection.abort()

    def close(self) -> None:
        """Close the idle connections. Connections that are in use stay open. Idempotent."""
        self._drop_all(lambda _: True)

    def _drop_all(self, which: Callable[[Origin], bool]) -> None:
        for connection, (origin, timer) in list(self._idle.items()):
            if which(origin):
                timer.cancel()
                self._drop(connection)


def _upstream_proxy(url: str, source_address: str | None) -> UpstreamProxy:
    # `proxies` is imported here because python-socks takes 0.5 MB, and most operators set no PROXY.
    from serverpy.net.proxies import UpstreamProxy

    return UpstreamProxy(url, source_address)

"""The HTTP client for media. It connects only to addresses that the guard has allowed, keeps connections for later
requests, and reads bodies by pull.

A `Response` buffers one step of its connection: as much as its reader asks for, at first `SMALL_STEP`. The client
follows no redirects and keeps no cookies: `net/session.py` does.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import TYPE_CHECKING

import certifi

from serverpy.errors import UpstreamFailed, UpstreamTimeout
from serverpy.net.connection import SMALL_STEP, Buffers, Connection, TlsConnection
from serverpy.net.guard import Guard, resolve_host
from serverpy.net.http1 import Exchange, Headers, Origin, Request
from serverpy.options import Network, Timeouts

if TYPE_CHECKING:
    from serverpy.net.proxies import UpstreamProxy

IDLE_SECONDS = 10.0
IDLE_CONNECTIONS = 64
"""Idle connections kept for later requests, over all servers."""


class Response:
    """A response whose head has arrived. Its owner reads it and closes it."""

    def __init__(self, client: Client, url: str, origin: Origin, connection: Connection, exchange: Exchange) -> None:
        self.url = url
        self._client = client
        self._origin = origin
        self._connection = connection
        self._exchange = exchange
        self._closed = False
        self._is_chunked = exchange.headers.get("transfer-encoding") is not None
        self.status = exchange.status
        self.headers: Headers = exchange.headers
        self.connect_seconds = 0.0

    async def read(self, most: int = SMALL_STEP) -> bytes:
        """Read the next bytes of the body, `b""` at its clean end. Asks the socket for at most `most` bytes (1 to
        `LARGE_STEP`), which is also the most that is buffered; returns bytes that have already arrived as they are.
        Raises `UpstreamFailed` if the body was cut, `UpstreamTimeout` if the server sends nothing in time."""
        # The chunks of a chunked body may hold one byte each, and each is an object until they are joined.
        self._connection.step = min(most, SMALL_STEP) if self._is_chunked else most
        return await self._exchange.chunk(self._client.stall_timeout)

    def close(self) -> None:
        """Give the connection back for reuse if the response was read to its end; close it otherwise. A read under way
        raises `UpstreamFailed`. Does not block."""
        if not self._closed:
            self._closed = True
            self._client.release(
                self._origin, self._connection, keep=self._exchange.complete and self._exchange.reusable
            )
            self._exchange.close()


class Client:
    """The HTTP client of one event loop. `close` closes the idle connections, not those in use."""

    def __init__(self, guard: Guard, network: Network = Network(), timeouts: Timeouts = Timeouts()) -> None:
        self._guard = guard
        self._connect_timeout = timeouts.connect
        self.stall_timeout = timeouts.stall
        self._proxy = _upstream_proxy(network.proxy, network.source_address) if network.proxy else None
        self._source = (network.source_address, 0) if network.source_address else None
        self._ca_file = network.ca_file
        self._tls: ssl.SSLContext | None = None
        self._buffers = Buffers()
        self._idle: dict[Connection, tuple[Origin, asyncio.TimerHandle]] = {}
        self._in_use: set[Connection] = set()

    @property
    def open_connections(self) -> int:
        """The number of connections that serve a response now."""
        return len(self._in_use)

    async def open(self, request: Request) -> Response:
        """Send `request` and wait for the head of its response. Raises `TargetForbidden`, `UpstreamFailed`,
        `UpstreamTimeout`; leaves nothing open when it raises or is cancelled."""
        origin = request.origin
        kept = self._take(origin)
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

    async def _try_kept(self, origin: Origin, connection: Connection, request: Request) -> Response | None:
        """Send `request` over a kept connection. Returns None if the server had closed it meanwhile; then the request
        can be sent again."""
        exchange = Exchange(connection)
        try:
            return await self._exchange(origin, connection, request, exchange)
        except UpstreamFailed:
            if exchange.touched:
                raise
            return None

    async def _exchange(self, origin: Origin, connection: Connection, request: Request, exchange: Exchange) -> Response:
        self._in_use.add(connection)
        try:
            connection.attach(exchange)
            connection.step = SMALL_STEP
            if connection.closed:
                raise UpstreamFailed("The media server closed the connection.")
            connection.write(request.encode())
            await exchange.head(self.stall_timeout)
        except BaseException:
            self.release(origin, connection, keep=False)
            raise
        return Response(self, request.url, origin, connection, exchange)

    async def _connect(self, origin: Origin) -> Connection:
        try:
            async with asyncio.timeout(self._connect_timeout):
                addresses = await resolve_host(self._guard, origin.host, origin.port)
                return await self._connect_any(origin, addresses)
        except TimeoutError:
            raise UpstreamTimeout("The media server could not be reached in time.") from None
        except ssl.SSLError as error:
            raise UpstreamFailed(f"The TLS connection to the media server failed ({error.reason or 'cut'}).") from error
        except OSError as error:
            raise UpstreamFailed("The media server could not be reached.") from error

    async def _connect_any(self, origin: Origin, addresses: tuple[str, ...]) -> Connection:
        """Connect to the first address that accepts. Each address but the last gets an equal share of the time."""
        for address in addresses[:-1]:
            try:
                async with asyncio.timeout(self._connect_timeout / len(addresses)):
                    return await self._connect_one(origin, address)
            except OSError:  # includes TimeoutError
                continue
        return await self._connect_one(origin, addresses[-1])

    async def _connect_one(self, origin: Origin, address: str) -> Connection:
        connection = self._make(origin)
        loop = asyncio.get_running_loop()
        try:
            if self._proxy is not None:
                sock = await self._proxy.open(address, origin.port)
                await loop.create_connection(lambda: connection, sock=sock)
            else:
                await loop.create_connection(lambda: connection, address, origin.port, local_addr=self._source)
            if isinstance(connection, TlsConnection):
                await connection.handshake()
        except BaseException:
            connection.abort()
            raise
        return connection

    def _make(self, origin: Origin) -> Connection:
        if origin.scheme == "http":
            return Connection(self._buffers)
        if self._tls is None:  # costs 40 ms and 0.7 MB, so it is made when it is first needed
            self._tls = ssl.create_default_context(cafile=certifi.where())
            if self._ca_file:
                self._tls.load_verify_locations(self._ca_file)
        return TlsConnection(self._buffers, self._tls, origin.host)

    # Kept connections

    def release(self, origin: Origin, connection: Connection, *, keep: bool) -> None:
        """Take `connection` back from the response that used it."""
        self._in_use.discard(connection)
        connection.attach(None)
        if not keep or connection.closed or len(self._idle) >= IDLE_CONNECTIONS:
            connection.abort()
            return
        timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._drop, connection)
        self._idle[connection] = (origin, timer)
        connection.resume()  # to notice when the server closes it

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
        """Close the idle connections."""
        for connection, (_, timer) in self._idle.items():
            timer.cancel()
            connection.abort()
        self._idle.clear()


def _upstream_proxy(url: str, source_address: str | None) -> UpstreamProxy:
    from serverpy.net.proxies import UpstreamProxy  # its library takes 0.5 MB, and few servers need it

    return UpstreamProxy(url, source_address)

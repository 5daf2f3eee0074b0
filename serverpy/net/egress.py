"""The filtering forward proxy for code that opens its own sockets: yt-dlp (urllib, requests, curl_cffi) in the worker
process, and the yt-dlp process of the `subprocess` method.

The proxy listens on loopback, serves only clients that know its random token, and connects only to addresses that the
guard has checked: it resolves a name once, and connects to one of the addresses that were checked. The proxy supports
CONNECT, and requests in absolute form for `http://` URLs.

If the proxy refuses a request, its response has one of these statuses, and an error code in the header
`X-ServerPY-Refused`: 403 `target_forbidden`, 502 `upstream_failed`, 503 `busy`, 504 `upstream_timeout`. The proxy
removes that header from the responses of sites over http. Over https the proxy cannot read the responses of sites, and
itself sends only the response to CONNECT. Therefore a 403 to CONNECT always comes from the proxy.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, ClassVar

from serverpy.errors import (
    Busy,
    ConfigurationError,
    ServerPYError,
    TargetForbidden,
    UpstreamFailed,
    UpstreamTimeout,
)
from serverpy.net.guard import Guard, Lookup, UnusableName
from serverpy.net.happy_eyeballs import ATTEMPT_DELAY_SECONDS, PROXIED_DELAY_SECONDS, Routes, first_to_connect
from serverpy.net.heads import FORBIDDEN_REASON, BadHead, ForbiddenScheme, ProxyRequest, answer, parse_request
from serverpy.net.resolver import Resolver
from serverpy.net.tunnel import CHUNK_BYTES, ClientEnd, UpstreamEnd
from serverpy.options import Network, Timeouts
from serverpy.tasks import spawn

if TYPE_CHECKING:
    from serverpy.net.proxies import UpstreamProxy

log = logging.getLogger(__name__)

_USER = "serverpy"
_STATUS: dict[type[ServerPYError], tuple[int, str]] = {
    TargetForbidden: (403, FORBIDDEN_REASON),
    UpstreamFailed: (502, "Bad Gateway"),
    UnusableName: (502, "Bad Gateway"),
    Busy: (503, "Service Unavailable"),
    UpstreamTimeout: (504, "Gateway Timeout"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressLimits:
    """Limits of the filtering proxy.

    `connections` is the maximum number of client connections, whether they are being set up or are tunnels. Each
    connection buffers at most 64 KiB while it is set up, and 2 × 32 KiB as a tunnel. `connect_seconds` is the maximum
    time for the DNS look-up, the connection and an upstream proxy's handshake together. The proxy closes a tunnel as
    idle if no byte passes in either direction for `idle_seconds` (or up to 1.5 times as long), unless the client has
    stopped reading."""

    connections: int = 1024
    head_seconds: float = 10.0
    connect_seconds: float = 10.0
    idle_seconds: float = 60.0

    @classmethod
    def of(cls, timeouts: Timeouts) -> EgressLimits:
        return cls(connect_seconds=timeouts.connect, idle_seconds=timeouts.stall)


class Egress:
    """The filtering proxy, on the event loop on which `start` was awaited. Its owner must call `aclose` on the same
    loop.

    The filtering proxy connects to the upstream proxy of `network` (http, socks4, socks5) without a check, because the
    operator has chosen it. Depending on the upstream proxy and the settings, the filtering proxy sends to the upstream
    proxy the checked address, a request in absolute form (`proxies.py`), or the host name, which the upstream proxy
    then resolves. `lookup` replaces the system's resolver. Several proxies on the same event loop may share `routes`.
    """

    def __init__(
        self,
        guard: Guard,
        network: Network = Network(),
        limits: EgressLimits = EgressLimits(),
        *,
        lookup: Lookup | None = None,
        routes: Routes | None = None,
    ) -> None:
        self.guard = guard
        self._routes = routes or Routes()
        self._connector = _connector(network.proxy, network.source_address)
        self._limits = limits
        self._resolver = Resolver(client=id(self), lookup=lookup, is_remote=network.proxy_dns == "remote")
        self._token = secrets.token_urlsafe(24)
        self._expected = b"Basic " + base64.b64encode(f"{_USER}:{self._token}".encode())
        self._port = 0
        self._buffer = memoryview(bytearray(CHUNK_BYTES))
        self._clients: dict[ClientEnd, asyncio.Task[None] | None] = {}
        self._upstreams: set[UpstreamEnd] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Start to listen on a port of the loopback address, and make the guard refuse connections to that port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._new_client, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        self.guard = self.guard.refusing("127.0.0.1", self._port)
        self._sweep()

    @property
    def url(self) -> str:
        """The URL of this proxy, for the `proxy` option of its clients. The URL contains the token: never log it, and
        never put it into process arguments."""
        return f"http://{_USER}:{self._token}@127.0.0.1:{self._port}"

    @property
    def held_bytes(self) -> int:
        """The number of bytes that all connections of this proxy buffer now, without the receive buffer that they
        share."""
        return sum(end.held_bytes for end in [*self._clients, *self._upstreams])

    async def aclose(self) -> None:
        """Stop listening, close every connection, and wait until all connections are closed. Idempotent."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        if self._sweeper:
            self._sweeper.cancel()
        tasks = [task for task in self._clients.values() if task]
        ends = [*self._clients, *self._upstreams]
        for task in tasks:
            task.cancel()
        for end in ends:
            end.transport.abort()
        if tasks or ends:
            await asyncio.wait([*tasks, *(end.closed for end in ends)])
        await server.wait_closed()

    def _new_client(self) -> ClientEnd:
        return ClientEnd(self._buffer, self._client_opened, self._client_lost)

    def _client_opened(self, client: ClientEnd) -> None:
        if self._server is None:
            self._clients[client] = None
            client.transport.abort()
        elif len(self._clients) >= self._limits.connections:
            self._clients[client] = None
            client.respond(
                _refusal(Busy("The filtering proxy of this server has no free connection. Try again later."))
            )
        else:
            self._clients[client] = spawn(self._serve(client), name="egress connection")

    def _client_lost(self, client: ClientEnd) -> None:
        task = self._clients.pop(client)
        if task:
            task.cancel()

    def _sweep(self) -> None:
        for client in list(self._clients):
            client.tick()
        self._sweeper = asyncio.get_running_loop().call_later(self._limits.idle_seconds / 2, self._sweep)

    async def _serve(self, client: ClientEnd) -> None:
        """Set up the tunnel of one client to a site, or refuse the client's request. Returns as soon as the tunnel
        exists: the callbacks of the event loop then forward the bytes without this task."""
        try:
            await self._set_up(client)
        except ServerPYError as error:
            client.respond(_refusal(error))
        except ForbiddenScheme as error:
            client.respond(_refusal(TargetForbidden(str(error))))
        except BadHead as error:
            client.respond(answer(400, "Bad Request", "invalid_parameter", str(error)))
        except Exception:
            log.exception("the filtering proxy could not set up a connection")
            client.cut()

    async def _set_up(self, client: ClientEnd) -> None:
        try:
            async with asyncio.timeout(self._limits.head_seconds):
                request = parse_request(await client.head())
        except TimeoutError:
            raise BadHead("Timed out waiting for the request head.") from None
        if not hmac.compare_digest(request.authorization, self._expected):
            client.respond(_UNAUTHORIZED)
            return
        try:
            async with asyncio.timeout(self._limits.connect_seconds):
                upstream = await self._connect(request)
        except TimeoutError:
            raise UpstreamTimeout("The site could not be reached in time.") from None
        form = upstream.absolute_form
        client.join(upstream, request.forward if form is None else request.absolute(form.headers))

    async def _connect(self, request: ProxyRequest) -> UpstreamEnd:
        """Connect to the addresses of the site that the guard has checked, and return the first connection that
        succeeds."""
        found = await self._resolver.resolve(self.guard, request.host, request.port)
        usable = [address for address in found if self._connector.takes(address)]
        addresses = self._routes.order(request.host, usable) if usable else []
        attempts = [partial(self._connector.connect, self._new_upstream, request, address) for address in addresses]
        if not attempts:
            raise UpstreamFailed("The site could not be reached.")
        try:
            number, upstream = await first_to_connect(attempts, self._connector.delay_seconds, _abort)
        except OSError as error:
            log.debug("the filtering proxy cannot connect to a site: %s", type(error).__name__)
            raise UpstreamFailed("The site could not be reached.") from error
        self._routes.remember(request.host, addresses[number])
        return self._keep(upstream)

    def _new_upstream(self) -> UpstreamEnd:
        return UpstreamEnd(self._buffer)

    def _keep(self, upstream: UpstreamEnd) -> UpstreamEnd:
        """Register `upstream` so that `aclose` closes it. The caller does this only after `upstream` is connected: if a
        connection attempt is cancelled, the event loop itself closes the socket, and uvloop never calls
        `connection_lost`."""
        self._upstreams.add(upstream)
        upstream.closed.add_done_callback(lambda _: self._upstreams.discard(upstream))
        return upstream


def _refusal(error: ServerPYError) -> bytes:
    status, reason = _STATUS[type(error)]
    return answer(status, reason, error.code, str(error))


_UNAUTHORIZED = answer(
    407,
    "Proxy Authentication Required",
    "unauthorized",
    "Proxy authentication required.",
    'Proxy-Authenticate: Basic realm="serverpy"',
)


def _abort(upstream: UpstreamEnd) -> None:
    upstream.transport.abort()


@dataclass(frozen=True, slots=True)
class _Direct:
    """Connector that connects to sites directly."""

    source_address: str | None
    delay_seconds: ClassVar[float] = ATTEMPT_DELAY_SECONDS

    def takes(self, address: str) -> bool:
        return self.source_address is None or _version(self.source_address) == _version(address)

    async def connect(self, factory: Callable[[], UpstreamEnd], request: ProxyRequest, address: str) -> UpstreamEnd:
        local = (self.source_address, 0) if self.source_address else None
        loop = asyncio.get_running_loop()
        _, upstream = await loop.create_connection(factory, address, request.port, local_addr=local)
        return upstream


@dataclass(frozen=True, slots=True)
class _Proxied:
    """Connector that connects to sites through an upstream proxy."""

    proxy: UpstreamProxy
    delay_seconds: ClassVar[float] = PROXIED_DELAY_SECONDS

    def takes(self, address: str) -> bool:
        return self.proxy.takes(address)

    async def connect(self, factory: Callable[[], UpstreamEnd], request: ProxyRequest, address: str) -> UpstreamEnd:
        scheme = "https" if request.forward is None else "http"
        sock, absolute_form = await self.proxy.open_for(scheme, address, request.port)
        try:
            _, upstream = await asyncio.get_running_loop().create_connection(factory, sock=sock)
        except BaseException:
            sock.close()
            raise
        upstream.absolute_form = absolute_form
        return upstream


def _version(address: str) -> int:
    return ip_address(address).version


def _connector(proxy: str | None, source_address: str | None) -> _Direct | _Proxied:
    try:
        if source_address:
            _version(source_address)
    except ValueError as error:
        raise ConfigurationError("SOURCE_ADDRESS must be a numeric IP address.") from error
    if not proxy:
        return _Direct(source_address)
    # `proxies` is imported here because python-socks takes 0.5 MB, and most operators set no PROXY.
    from serverpy.net.proxies import UpstreamProxy

    return _Proxied(UpstreamProxy(proxy, source_address))

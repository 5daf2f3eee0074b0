"""The filtering forward proxy for everything that opens sockets by itself: yt-dlp (urllib, requests, curl_cffi) in the
worker, and the child of the `subprocess` method.

It listens on loopback, serves only those who know its random token, and connects nowhere but to addresses which the
guard has checked: the name is resolved here, once, and the connection goes to the address that was checked. It speaks
CONNECT, and absolute-form requests for http.

A refusal is told by status, and by its code in `X-ServerPY-Refused`: 403 `target_forbidden`, 502 `upstream_failed`,
503 `busy`, 504 `upstream_timeout`. The header is removed from what a site answers over http; over https, where the
proxy sees nothing, only the answer to CONNECT is ours: there a 403 never comes from the site.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from serverpy.errors import (
    Busy,
    ConfigurationError,
    ServerPYError,
    TargetForbidden,
    UpstreamFailed,
    UpstreamTimeout,
)
from serverpy.net.guard import Guard, Lookup, resolve_host
from serverpy.net.heads import FORBIDDEN_REASON, BadHead, ForbiddenScheme, ProxyRequest, answer, parse_request
from serverpy.net.tunnel import CHUNK_BYTES, ClientEnd, UpstreamEnd
from serverpy.options import Network, Timeouts
from serverpy.tasks import spawn

if TYPE_CHECKING:
    from serverpy.net.proxies import UpstreamProxy

log = logging.getLogger(__name__)

_USER = "serverpy"
_MAX_ATTEMPTS = 4
_STATUS: dict[type[ServerPYError], tuple[int, str]] = {
    TargetForbidden: (403, FORBIDDEN_REASON),
    UpstreamFailed: (502, "Bad Gateway"),
    Busy: (503, "Service Unavailable"),
    UpstreamTimeout: (504, "Gateway Timeout"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressLimits:
    """`connections` at once, set-ups and tunnels together; each holds at most 64 KiB while it is set up, and 2 × 32 KiB
    as a tunnel. `connect_seconds` covers look-up, connection and an upstream proxy's handshake. A tunnel is idle when
    no byte went either way for `idle_seconds` (at most half as long again), unless its client is not reading."""

    connections: int = 1024
    head_seconds: float = 10.0
    connect_seconds: float = 10.0
    idle_seconds: float = 60.0

    @classmethod
    def of(cls, timeouts: Timeouts) -> EgressLimits:
        return cls(connect_seconds=timeouts.connect, idle_seconds=timeouts.stall)


class Egress:
    """The proxy on the loop where `start` was awaited. Its owner closes it by `aclose`, on the same loop.

    The upstream proxy of `network` (http, socks4, socks5) is the operator's: it is reached unchecked, and is given the
    checked address, never a name. `lookup` stands in for the system's resolver.
    """

    def __init__(
        self,
        guard: Guard,
        network: Network = Network(),
        limits: EgressLimits = EgressLimits(),
        *,
        lookup: Lookup | None = None,
    ) -> None:
        self.guard = guard
        self._connector = _connector(network.proxy, network.source_address)
        self._limits = limits
        self._lookup = lookup
        self._token = secrets.token_urlsafe(24)
        self._expected = b"Basic " + base64.b64encode(f"{_USER}:{self._token}".encode())
        self._port = 0
        self._buffer = memoryview(bytearray(CHUNK_BYTES))
        self._clients: dict[ClientEnd, asyncio.Task[None] | None] = {}
        self._upstreams: set[UpstreamEnd] = set()
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Listen. From here on the guard also refuses this very port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._new_client, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        self.guard = self.guard.refusing("127.0.0.1", self._port)
        self._sweep()

    @property
    def url(self) -> str:
        """For `proxy` options. It carries the token: never log it, nor put it into an argument vector."""
        return f"http://{_USER}:{self._token}@127.0.0.1:{self._port}"

    @property
    def held_bytes(self) -> int:
        """What all connections hold in this process at the moment, besides the one shared buffer."""
        return sum(end.held_bytes for end in [*self._clients, *self._upstreams])

    async def aclose(self) -> None:
        """Close every connection and wait until they are gone. Idempotent."""
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
            client.respond(_refusal(Busy("The proxy has no free connection.")))
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
        """Set one connection up; ends when its bytes flow by themselves."""
        try:
            await self._set_up(client)
        except ServerPYError as error:
            client.respond(_refusal(error))
        except ForbiddenScheme as error:
            client.respond(_refusal(TargetForbidden(str(error))))
        except BadHead as error:
            client.respond(answer(400, "Bad Request", "invalid_parameter", str(error)))
        except Exception:
            log.exception("A connection of the egress could not be set up")
            client.cut()

    async def _set_up(self, client: ClientEnd) -> None:
        try:
            async with asyncio.timeout(self._limits.head_seconds):
                request = parse_request(await client.head())
        except TimeoutError:
            raise BadHead("The request's head did not come in time.") from None
        if not hmac.compare_digest(request.authorization, self._expected):
            client.respond(_UNAUTHORIZED)
            return
        try:
            async with asyncio.timeout(self._limits.connect_seconds) as deadline:
                upstream = await self._connect(request, deadline.when() or 0)
        except TimeoutError:
            raise UpstreamTimeout("The server could not be reached in time.") from None
        client.join(upstream, request.forward)

    async def _connect(self, request: ProxyRequest, deadline: float) -> UpstreamEnd:
        """Try the checked addresses in turn, each with its share of the time that is left."""
        addresses = await resolve_host(self.guard, request.host, request.port, lookup=self._lookup)
        usable = [address for address in addresses if self._connector.takes(address)][:_MAX_ATTEMPTS]
        loop = asyncio.get_running_loop()
        timed_out = False
        for number, address in enumerate(usable):
            share = (deadline - loop.time()) / (len(usable) - number)
            try:
                async with asyncio.timeout(share):
                    return self._keep(await self._connector.connect(self._new_upstream, address, request.port))
            except TimeoutError:
                timed_out = True
            except OSError as error:
                log.debug("No connection: %s", type(error).__name__)
        if timed_out:
            raise UpstreamTimeout("The server could not be reached in time.")
        raise UpstreamFailed("The server could not be reached.")

    def _new_upstream(self) -> UpstreamEnd:
        return UpstreamEnd(self._buffer)

    def _keep(self, upstream: UpstreamEnd) -> UpstreamEnd:
        """Ours to close from here on, and not earlier: what is cancelled while it is made is closed by the loop,
        and uvloop then never calls `connection_lost`."""
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
    "This proxy serves one program only.",
    'Proxy-Authenticate: Basic realm="serverpy"',
)


@dataclass(frozen=True, slots=True)
class _Direct:
    """Connects to the address itself."""

    source_address: str | None

    def takes(self, address: str) -> bool:
        return self.source_address is None or _version(self.source_address) == _version(address)

    async def connect(self, factory: Callable[[], UpstreamEnd], address: str, port: int) -> UpstreamEnd:
        local = (self.source_address, 0) if self.source_address else None
        _, upstream = await asyncio.get_running_loop().create_connection(factory, address, port, local_addr=local)
        return upstream


@dataclass(frozen=True, slots=True)
class _Proxied:
    """Has an upstream proxy connect to the address."""

    proxy: UpstreamProxy

    def takes(self, address: str) -> bool:
        return self.proxy.takes(address)

    async def connect(self, factory: Callable[[], UpstreamEnd], address: str, port: int) -> UpstreamEnd:
        sock = await self.proxy.open(address, port)
        try:
            _, upstream = await asyncio.get_running_loop().create_connection(factory, sock=sock)
        except BaseException:
            sock.close()
            raise
        return upstream


def _version(address: str) -> int:
    return ip_address(address).version


def _connector(proxy: str | None, source_address: str | None) -> _Direct | _Proxied:
    try:
        if source_address:
            _version(source_address)
    except ValueError as error:
        raise ConfigurationError("SOURCE_ADDRESS is not a numeric address.") from error
    if not proxy:
        return _Direct(source_address)
    from serverpy.net.proxies import UpstreamProxy  # its library is 0.5 MB, which few need

    return _Proxied(UpstreamProxy(proxy, source_address))

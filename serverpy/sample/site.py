"""The sample media site on loopback, for `serverpy sample`, `--demo`, the tests and the bench.

`SampleSite` runs it in a thread with its own event loop; `main` serves until a signal arrives. The site records its
requests, counts its open connections, and can misbehave (`faults.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import uvloop
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from serverpy.extras import SAMPLE
from serverpy.sample import pages
from serverpy.sample.catalogue import WATCH
from serverpy.sample.content import type_of
from serverpy.sample.faults import parse_faults
from serverpy.sample.live import Broadcast, Live
from serverpy.sample.make import ensure_media
from serverpy.sample.shelf import Shelf
from serverpy.sample.tube import Tube
from serverpy.sample.wire import Connection, Exchange, Request, read_exchange

LOOPBACK = "127.0.0.1"
REMEMBERED_REQUESTS = 50_000
STOP_SECONDS = 5.0

Handler = Callable[[Exchange, str], Awaitable[None]]


class Site:
    """The ASGI application of the sample site. The first part of a URL's path selects a handler, which gets the rest of
    the path."""

    def __init__(self, directory: Path) -> None:
        self.shelf = Shelf(directory)
        self.live = Live(self.shelf)
        self.requests: deque[Request] = deque(maxlen=REMEMBERED_REQUESTS)
        self.closed_port = 0
        self._routes: dict[str, Handler] = {
            "": self._index,
            "media": self._media,
            "hls": self._hls,
            "dash": self._dash,
            "page": self._page,
            "fault": self._fault,
            "redirect": self._redirect,
            "hostile": self._hostile,
            "live": self.live,
            "counts": self._counts,
            "tube": Tube(self.shelf, self.live),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        exchange = await read_exchange(scope, receive, send)
        if exchange is None:
            return
        self.requests.append(exchange.request)
        first, _, rest = exchange.request.path.removeprefix("/").partition("/")
        handler = self._routes.get(first)
        if handler is None:
            await exchange.refuse(404, "no such address")
            return
        await handler(exchange, rest)

    async def _index(self, exchange: Exchange, rest: str) -> None:
        await exchange.reply(200, pages.index(WATCH), "text/html; charset=utf-8")

    async def _media(self, exchange: Exchange, rest: str) -> None:
        await self.shelf.send(exchange, rest)

    async def _hls(self, exchange: Exchange, rest: str) -> None:
        await self.shelf.send(exchange, f"hls/{rest}")

    async def _dash(self, exchange: Exchange, rest: str) -> None:
        await self.shelf.send(exchange, f"dash/{rest}")

    async def _hostile(self, exchange: Exchange, rest: str) -> None:
        await self.shelf.send(exchange, f"hostile/{rest}")

    async def _fault(self, exchange: Exchange, rest: str) -> None:
        """Handle `/fault/<spec>/media/<name>`, `/fault/<spec>/hls/…`, `…/dash/…`, `…/hostile/…` and `…/live/…`."""
        spec, _, path = rest.partition("/")
        try:
            how = self.shelf.misbehave(spec, path)
        except ValueError as error:
            await exchange.refuse(400, str(error))
            return
        name = path.removeprefix("media/")
        if name.startswith("live/"):
            await self.live(exchange, name.removeprefix("live/"), how)
        else:
            await self.shelf.send(exchange, name, how)

    async def _page(self, exchange: Exchange, name: str) -> None:
        if name.startswith("fault/"):
            await self._fault_page(exchange, name.removeprefix("fault/"))
        elif name.startswith("live/"):
            await self._live_page(exchange, name.removeprefix("live/"))
        elif name.startswith("hostile/"):
            body = pages.player(f"/{name}", type_of(name))
            await exchange.reply(200, pages.html("A trap", body), "text/html; charset=utf-8")
        elif name == "empty":
            await exchange.reply(200, b"", "text/html; charset=utf-8")
        elif name == "redirect":
            await _see(exchange, "/page/prog")
        elif name == "loop":
            await _see(exchange, f"/page/loop?turn={int(exchange.request.query.get('turn', '0')) + 1}")
        elif page := pages.PAGES.get(name):
            if name == "slow":
                await exchange.connection.pause(float(exchange.request.query.get("seconds", "5")))
            await exchange.reply(
                200,
                pages.render(page, pages.Place(exchange.request.origin, self.closed_port)),
                "text/html; charset=utf-8",
            )
        else:
            await exchange.refuse(404, "no such page")

    async def _fault_page(self, exchange: Exchange, rest: str) -> None:
        """Handle `/page/fault/<spec>/<name>`: respond with a page with a player for the file `name` with the faults
        `spec`. If tokens expire, the URL in the page has a new token."""
        spec, _, name = rest.partition("/")
        try:
            faults = parse_faults(spec)
        except ValueError as error:
            await exchange.refuse(400, str(error))
            return
        source = f"/fault/{spec}/media/{name}"
        if faults.expire is not None:
            source += f"?token={self.shelf.tokens.issue(faults.expire)}"
        body = pages.player(source, type_of(name))
        await exchange.reply(200, pages.html(f"A film with faults: {spec}", body), "text/html; charset=utf-8")

    async def _live_page(self, exchange: Exchange, spec: str) -> None:
        """Handle `/page/live/<spec>`: respond with a page with a player for the broadcast `spec`."""
        try:
            source = f"/live/{self.live.address(spec)}"
        except ValueError as error:
            await exchange.refuse(400, str(error))
            return
        body = pages.player(source, type_of("master.m3u8"))
        await exchange.reply(200, pages.html(f"A broadcast: {spec}", body), "text/html; charset=utf-8")

    async def _counts(self, exchange: Exchange, rest: str) -> None:
        """Handle `/counts/<path>`: respond with the number of remembered requests for each URL below that path."""
        counts = Counter(request.path for request in self.requests if request.path.startswith(f"/{rest}"))
        await exchange.reply(200, json.dumps(counts).encode(), "application/json")

    async def _redirect(self, exchange: Exchange, rest: str) -> None:
        await _see(exchange, exchange.request.query.get("to", "/"))


async def _see(exchange: Exchange, location: str) -> None:
    await exchange.reply(302, headers={"Location": location})


class SampleSite:
    """The sample site in a thread of its own, from `__enter__` to `__exit__`. An instance can be used once.

    With port 0 the system chooses a port; with `https_port` None there is no https. On exit all connections are
    aborted, the thread is joined and `ca_file` is removed. The media stay in the cache directory.
    """

    def __init__(self, port: int = 0, https_port: int | None = None, host: str = LOOPBACK) -> None:
        self._app = Site(ensure_media())
        self._wanted = (port, https_port)
        self._host = host
        self._state = ServerState()
        self._cleanup = contextlib.ExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sample-site", daemon=True)
        self._failure: BaseException | None = None
        self.http = ""
        self.https: str | None = None
        self.ca_file: Path | None = None

    def __enter__(self) -> Self:
        try:
            self._listeners = list(self._listen())
            self._app.closed_port = self._bind(0).getsockname()[1]
        except BaseException:
            self._cleanup.close()
            raise
        self._thread.start()
        self._started.wait()
        if self._failure:
            self._close()
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if self._failure and error is None:
            raise self._failure

    def _close(self) -> None:
        if self._loop and self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # if the site fails, the event loop may close just before this call
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._cleanup.close()

    @property
    def requests(self) -> list[Request]:
        """A copy of the list of the last REMEMBERED_REQUESTS requests, oldest first. Any thread may call this."""
        return list(self._app.requests)

    def counts(self, path: str = "/") -> Counter[str]:
        """Return the number of remembered requests for each URL path that begins with `path`."""
        return Counter(request.path for request in self.requests if request.path.startswith(path))

    def broadcast(self, spec: str) -> Broadcast:
        """Return the broadcast behind `/live/<spec>` and `/tube/live/<spec>`, which the caller may advance by `step`.
        Raises ValueError if `spec` is invalid."""
        return self._app.live.broadcast(spec)

    @property
    def connections(self) -> list[Connection]:
        """A copy of the list of open connections. The connections belong to the site's thread, so a caller in another
        thread may only read their state."""
        return [each for each in list(self._state.connections) if isinstance(each, Connection)]

    @property
    def open_connections(self) -> int:
        return len(self._state.connections)

    @property
    def closed_port(self) -> int:
        """A port of this host that refuses connections: the site has bound it but does not listen."""
        return self._app.closed_port

    def path(self, name: str) -> Path:
        """Return the path of the file behind `/media/<name>`. Raises KeyError if there is no such file."""
        return self._app.shelf.path(name)

    def _listen(self) -> Iterator[tuple[socket.socket, ssl.SSLContext | None]]:
        port, https_port = self._wanted
        plain = self._bind(port)
        self.http = f"http://{self._host}:{plain.getsockname()[1]}"
        yield plain, None
        if https_port is not None:
            context = self._certified()
            secure = self._bind(https_port)
            self.https = f"https://{self._host}:{secure.getsockname()[1]}"
            yield secure, context

    def _bind(self, port: int) -> socket.socket:
        listener = self._cleanup.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        # set SO_REUSEADDR only for a given port: with port 0, the system might choose a port that another socket has
        # bound
        if port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self._host, port))
        return listener

    def _certified(self) -> ssl.SSLContext:
        SAMPLE.require("The sample site's https")
        import trustme

        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        authority.issue_cert(*{self._host, LOOPBACK, "localhost"}).configure_cert(context)
        descriptor, name = tempfile.mkstemp(prefix="serverpy-sample-ca-", suffix=".pem")
        os.close(descriptor)
        self.ca_file = Path(name)
        self._cleanup.callback(self.ca_file.unlink, missing_ok=True)
        authority.cert_pem.write_to_path(name)
        return context

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001  # __enter__, which waits in another thread, receives this error
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        loop = self._loop = asyncio.get_running_loop()
        config = Config(self._app, http=Connection, lifespan="off", log_config=None, access_log=False, ws="none")
        config.load()

        def connection() -> Connection:
            return Connection(config, self._state, {})

        servers = [
            await loop.create_server(connection, sock=sock, ssl=tls, backlog=512) for sock, tls in self._listeners
        ]
        self._started.set()
        await self._stop.wait()
        for server in servers:
            server.close()
        for client in list(self._state.connections):
            client.transport.abort()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=STOP_SECONDS)


def run(host: str, port: int, https_port: int | None) -> None:
    """Print the site's URLs, then serve until SIGINT or SIGTERM. Call this function from the main thread."""
    stopped = threading.Event()
    with SampleSite(port, https_port, host) as site, _signals(stopped):
        _print_pages(site)
        stopped.wait()


def main(port: int, https_port: int | None) -> None:
    """Run the sample site on loopback, as `serverpy sample` does."""
    run(LOOPBACK, port, https_port)


def _print_pages(site: SampleSite) -> None:
    print(f"The sample site is at {site.http}/")
    if site.https:
        print(f"and at {site.https}/ (its authority: {site.ca_file})")
    for name, page in pages.PAGES.items():
        print(f"  {site.http}/page/{name:<12} {page.title}")
    print("Press Ctrl+C to stop.", flush=True)


@contextlib.contextmanager
def _signals(stopped: threading.Event) -> Iterator[None]:
    before = {
        number: signal.signal(number, lambda _number, _frame: stopped.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

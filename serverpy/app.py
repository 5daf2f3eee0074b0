"""Assembly only: Settings → parts → routes, with one lifespan that starts what runs and ends it in order."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

import serverpy
from serverpy import __version__
from serverpy.api.middleware import RequestMiddleware
from serverpy.api.problems import document, problem, render
from serverpy.api.routes import router
from serverpy.body import Opener
from serverpy.delivery import Delivery
from serverpy.errors import ConfigurationError, InvalidParameter, ServerPYError
from serverpy.extraction.extractor import Extractor
from serverpy.extraction.options import worker_options
from serverpy.extraction.sites import Sites
from serverpy.extraction.workers import Workers, WorkersLimits
from serverpy.media.weave.cache import Layouts
from serverpy.media.weave.weaver import Weaver
from serverpy.memory.budget import Budget
from serverpy.memory.heap import Heap
from serverpy.metrics import LagMeter, Memory, Sample, children_of_this_process, memory_of
from serverpy.net.client import Client
from serverpy.net.egress import Egress, EgressLimits
from serverpy.net.guard import Guard, parse_networks
from serverpy.plan import Capabilities
from serverpy.running import Running
from serverpy.settings import Settings
from serverpy.streaming.fanout import Fanout
from serverpy.streaming.methods.embedded import Embedded
from serverpy.streaming.methods.relay import Relay
from serverpy.streaming.methods.subprocess import ChildOptions, Subprocess
from serverpy.streaming.os_pipe import buffered_bytes, hand_over_bytes, largest_pipe_bytes
from serverpy.tasks import cancel, spawn

logger = logging.getLogger("serverpy")

AGAIN_SECONDS = 2.0
"""Between attempts to start the worker."""

Own = tuple[tuple[str, int], ...]
"""Numeric address and port of the sockets that this server listens on."""


class Engine:
    """Everything that serves a stream, without HTTP around it: the server's, and `serverpy get`'s.

    Raises `ConfigurationError` for settings that cannot work together. Runs between `start` and `aclose`, in one
    loop."""

    def __init__(self, settings: Settings, own: Own = ()) -> None:
        self.settings = settings
        guard = _guard(settings, own)
        self.budget = Budget(settings.memory_budget, settings.max_streams, settings.wait_seconds)
        limits = WorkersLimits(wait=settings.wait_seconds, idle=settings.worker_idle or None)
        self.workers = Workers(worker_options(settings, own=own), limits)
        self.extractor = Extractor(self.workers, ttl=settings.cache_ttl, size=settings.cache_size)
        self.fanout = Fanout(self.budget)
        self.client = Client(
            guard,
            connect_timeout=settings.connect_timeout,
            stall_timeout=settings.stall_timeout,
            proxy=settings.proxy,
            source_address=settings.source_address,
            ca_file=_text(settings.ca_file),
        )
        self._listens = False
        self.egress = Egress(
            guard,
            proxy=settings.proxy,
            source_address=settings.source_address,
            limits=EgressLimits(connect_seconds=settings.connect_timeout, idle_seconds=settings.stall_timeout),
        )
        self.running = Running()
        self.openers = self._make_openers(settings)
        self.delivery = Delivery(
            budget=self.budget,
            extractor=self.extractor,
            selector=self.workers,
            openers={each.capability.opener: each for each in self.openers},
            capabilities=Capabilities(
                openers=tuple(each.capability for each in self.openers),
                default_method=settings.method,
                max_duration=settings.max_duration,
            ),
            max_bytes=settings.max_bytes,
            collect=settings.gc_after_stream,
        )
        for each in self.delivery.capabilities.openers:
            if not each.merges and not self.budget.fits(each.stream_bytes):
                raise ConfigurationError(
                    f"MEMORY_BUDGET is too small: one stream by {each.method} holds up to {each.stream_bytes} bytes"
                )

    def _make_openers(self, settings: Settings) -> tuple[Opener, ...]:
        """In the order in which `auto` prefers them."""
        pipe_bytes = hand_over_bytes(
            settings.queue_chunks,
            settings.chunk_bytes,
            settings.max_workers,
            settings.memory_budget,
            largest_pipe_bytes(),
        )
        self._relay = Relay(
            self.client,
            self.extractor,
            self.fanout,
            wait_seconds=settings.wait_seconds,
            impersonate=settings.impersonate is not None,
        )
        self._embedded = Embedded(
            self.workers,
            self.extractor,
            max_workers=settings.max_workers,
            wait_seconds=settings.wait_seconds,
            stall_timeout=settings.stall_timeout,
            pipe_bytes=pipe_bytes,
            chunk_bytes=settings.chunk_bytes,
        )
        self._subprocess = Subprocess(
            ChildOptions(
                proxy_url=lambda: self.egress.url,
                stall_timeout=settings.stall_timeout,
                extract_timeout=settings.extract_timeout,
                cookies_file=_text(settings.cookies_file),
                impersonate=settings.impersonate,
                ca_file=_text(settings.ca_file),
                sites=Sites(allow=settings.allow_sites, deny=settings.deny_sites, generic=settings.generic_extractor),
                max_duration=settings.max_duration,
                plugin_paths=tuple(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))),
            ),
            max_children=settings.max_children,
            wait_seconds=settings.wait_seconds,
            pipe_bytes=pipe_bytes,
            chunk_bytes=settings.chunk_bytes,
        )
        return self._relay, Weaver(self._relay, Layouts(self.budget)), self._embedded, self._subprocess

    @property
    def waiting(self) -> int:
        """Requests that wait for a place, for bytes, for a thread or for a child."""
        return self.budget.waiting + self._embedded.slots.waiting + self._subprocess.slots.waiting

    async def start(self) -> None:
        """Raises `ConfigurationError`, or `ExtractionFailed` if the worker does not come up; then it may be tried
        again."""
        if not self._listens:
            await self.egress.start()
            self._listens = True
        await self.workers.start()

    async def aclose(self) -> None:
        """End what waits and what runs below; streams are closed by who opened them."""
        self.budget.stop()
        self.client.close()
        await self.extractor.aclose()
        await self.workers.aclose()
        await self.egress.aclose()


class Server:
    """The state behind the routes (`api/routes.py::Server`): the engine, and what the process knows of itself."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lag = LagMeter()
        self._heap = Heap(engine.budget)
        self._started = time.monotonic()
        self._starting: asyncio.Task[None] | None = None
        self._draining = False
        self.delivery = engine.delivery
        self.running = engine.running
        self.stall_timeout = engine.settings.stall_timeout
        self.ytdlp_version: str | None = None
        self.failure: ConfigurationError | None = None

    @property
    def status(self) -> Literal["starting", "ok", "draining"]:
        if self._draining:
            return "draining"
        return "ok" if self.ytdlp_version is not None else "starting"

    async def start(self) -> None:
        """Begin. The worker comes up meanwhile; until then `/ready` says so, and requests wait for it."""
        self._lag.start()
        self._heap.start()
        self._starting = spawn(self._start_engine(), name="start the worker")

    async def _start_engine(self) -> None:
        """Tries until the worker comes up: a machine may be too slow, or too full, for a while. A setting that cannot
        work will not work later: then the process is told to end, and `failure` says why."""
        await self._engine.egress.start()
        while True:
            try:
                await self._engine.workers.start()
                break
            except ConfigurationError as error:
                self.failure = error
                signal.raise_signal(signal.SIGTERM)
                return
            except ServerPYError as error:
                logger.error("the worker does not start: %s", error)
            await asyncio.sleep(AGAIN_SECONDS)
        ready = self._engine.workers.state().ready
        self.ytdlp_version = ready.yt_dlp if ready is not None else "unknown"

    def drain(self) -> None:
        """Start nothing new; what runs goes on."""
        self._draining = True
        self._engine.budget.stop()

    async def wait_idle(self) -> None:
        """Returns when no stream runs."""
        await self._engine.budget.wait_idle()

    async def aclose(self) -> None:
        self.drain()
        if self._starting is not None:
            await cancel(self._starting)
        await self._engine.aclose()
        await self._heap.aclose()
        await self._lag.aclose()

    async def sample(self) -> Sample:
        engine = self._engine
        workers = engine.workers.state()
        memory = await asyncio.to_thread(lambda: [memory_of(pid) for pid in (os.getpid(), *workers.pids)])
        return Sample(
            uptime=time.monotonic() - self._started,
            memory=memory[0],
            worker=workers.status,
            workers=len(workers.pids),
            worker_memory=Memory(sum(each.pss for each in memory[1:]), sum(each.uss for each in memory[1:])),
            streams=engine.running.streams,
            waiting=engine.waiting + workers.waiting,
            upstreams=engine.client.open_connections,
            live_upstreams=engine.fanout.upstreams,
            live_cuts=engine.fanout.cuts,
            threads=threading.active_count(),
            fds=len(os.listdir("/proc/self/fd")) - 1,  # without the one that lists
            children=await asyncio.to_thread(children_of_this_process),
            buffered_bytes=buffered_bytes() + engine.egress.held_bytes,
            budget_used=engine.budget.used_bytes,
            budget_total=engine.budget.total_bytes,
            loop_lag_p50=self._lag.percentile(50),
            loop_lag_p99=self._lag.percentile(99),
        )


def create_app(settings: Settings, own: Own | None = None) -> FastAPI:
    """The application. `own` are the sockets that it will listen on, if they are known better than from settings."""
    own = _own(settings) if own is None else own
    engine = Engine(settings, own)  # a setting that cannot work fails here, not in the lifespan

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        server = Server(engine)
        app.state.server = server
        await server.start()
        try:
            yield
        finally:
            await server.aclose()

    app = FastAPI(title="ServerPY", version=__version__, description=serverpy.__doc__ or "", lifespan=lifespan)
    app.include_router(router)
    app.openapi = functools.partial(_openapi, app)  # type: ignore[method-assign]  # FastAPI's own way to extend it
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_credentials="*" not in settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(RequestMiddleware)
    app.add_exception_handler(ServerPYError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_bug)
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The schema without the 422 that FastAPI adds: what does not validate is a 400 problem document here."""
    if app.openapi_schema is None:
        schema = FastAPI.openapi(app)
        for operations in schema["paths"].values():
            for operation in operations.values():
                if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                    del operation["responses"]["422"]
        app.openapi_schema = schema
    return app.openapi_schema


EXPOSED_HEADERS = [
    "Accept-Ranges", "Content-Disposition", "Content-Length", "Content-Range", "ETag", "Retry-After", "Server-Timing",
    "X-Estimated-Content-Length", "X-Request-ID", "X-ServerPY-Method",
]  # fmt: skip


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServerPYError)
    return problem(error)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = first["loc"][-1] if first["loc"] else "request"
    return problem(InvalidParameter(f"`{name}`: {first['msg']}."))


async def _answer_http(request: Request, error: Exception) -> Response:
    """An unknown path, a wrong method."""
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    headers = dict(error.headers or {})
    if headers.get("Allow") == "GET":  # of the one route that was asked; there is another for HEAD beside each
        headers["Allow"] = "GET, HEAD"
    return render(document(error.status_code, str(error.detail), code, f"{error.detail}."), headers)


async def _answer_bug(request: Request, error: Exception) -> Response:
    """Starlette logs it with its stack; the client gets none of it."""
    return render(document(500, "The server failed", "internal", "The server made a mistake; its log says more."))


def _guard(settings: Settings, own: Own) -> Guard:
    try:
        guard = Guard(allow=parse_networks(settings.allow_networks), deny_ports=frozenset(settings.deny_ports))
    except ValueError as error:
        raise ConfigurationError(f"ALLOW_NETWORKS: {error}") from error
    for host, port in own:
        guard = guard.refusing(host, port)
    return guard


def _own(settings: Settings) -> Own:
    """The sockets that HOST and PORT mean."""
    if settings.port == 0:
        return ()
    found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return tuple({(str(address[0]), settings.port) for *_, address in found})


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())

"""The engine: the parts that serve streams, without the HTTP server. The HTTP server, `serverpy get`, `serverpy info`
and programs that use ServerPY as a library each run an engine."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType

from serverpy.body import Opener
from serverpy.default_choice import Wish
from serverpy.delivery import Delivery, Stream
from serverpy.errors import ConfigurationError, InvalidParameter
from serverpy.extraction.extractor import Extractor
from serverpy.extraction.messages import WorkerOptions
from serverpy.extraction.pool import WorkersLimits
from serverpy.extraction.workers import Workers
from serverpy.info import Info, info_of
from serverpy.media.weave.cache import Layouts
from serverpy.media.weave.weaver import Weaver
from serverpy.memory.budget import Budget
from serverpy.net.client import Client
from serverpy.net.egress import Egress, EgressLimits
from serverpy.net.guard import Guard
from serverpy.options import Sockets, Targets
from serverpy.plan import Capabilities, StreamRequest
from serverpy.ranges import ByteRange
from serverpy.running import Running
from serverpy.settings import Settings, load_settings
from serverpy.streaming.child.method import Subprocess
from serverpy.streaming.child.options import ChildOptions
from serverpy.streaming.fanout import Fanout
from serverpy.streaming.methods.embedded import Embedded
from serverpy.streaming.methods.redirect import Redirect
from serverpy.streaming.methods.relay import Relay
from serverpy.streaming.os_pipe import hand_over, largest_pipe_bytes
from serverpy.streaming.segments.merge import Merger


class Engine:
    """The parts that serve streams, and the process that runs yt-dlp. Runs in one event loop, inside `async with`.

    Without `settings`, the engine reads `serverpy.toml` and the environment. `own` are the addresses that this process
    listens on; the engine refuses URLs that lead to them. Raises `ConfigurationError` if the settings cannot work
    together."""

    def __init__(self, settings: Settings | None = None, own: Sockets = ()) -> None:
        settings = settings or load_settings()
        self.settings = settings
        targets = settings.targets(own)
        guard = Guard.of(targets)
        network, timeouts = settings.network, settings.timeouts
        self.budget = Budget(settings.memory_budget, settings.max_streams, timeouts.wait)
        self.workers = Workers(worker_options(settings, targets), WorkersLimits(idle=settings.worker_idle or None))
        self.extractor = Extractor(self.workers, ttl=settings.cache_ttl, size=settings.cache_size, ledger=self.budget)
        self.fanout = Fanout(self.budget)
        self.client = Client(guard, network, timeouts, self.budget)
        self.egress = Egress(guard, network, EgressLimits.of(timeouts))
        self._loop: asyncio.AbstractEventLoop | None = None
        """The event loop in which the engine runs; None before `start`."""
        self._is_closed = False
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
                wish=Wish(height=settings.default_height, codec=settings.default_codec),
            ),
            max_bytes=settings.max_bytes,
            collect=settings.gc_after_stream,
        )
        for each in self.delivery.capabilities.openers:
            if not each.merges and not self.budget.fits(each.stream_bytes):
                raise ConfigurationError(
                    f"MEMORY_BUDGET is too small: one {each.method} stream holds up to {each.stream_bytes} bytes"
                )

    def _make_openers(self, settings: Settings) -> tuple[Opener, ...]:
        """Make the openers, in the order in which `auto` prefers them."""
        timeouts, limits = settings.timeouts, settings.limits
        sizes = hand_over(limits, largest_pipe_bytes())
        self._relay = Relay(self.client, self.extractor, self.fanout, timeouts, settings.identity)
        self._embedded = Embedded(self.workers, self.extractor, sizes, timeouts, max_workers=limits.max_workers)
        self._subprocess = Subprocess(self._child_options(settings), sizes, max_children=limits.max_children)
        redirect = Redirect(self.client, timeouts, settings.identity)
        merger = Merger(self._relay, self.extractor, Layouts(self.budget))
        weaver = Weaver(self._relay, Layouts(self.budget), merger.open_files)
        return self._relay, weaver, merger, self._embedded, self._subprocess, redirect

    def _child_options(self, settings: Settings) -> ChildOptions:
        return ChildOptions(
            proxy_url=lambda: self.egress.url,
            timeouts=settings.timeouts,
            network=settings.network,
            sites=settings.sites,
            identity=settings.identity,
            max_duration=settings.max_duration,
            plugin_paths=tuple(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))),
        )

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a stream slot, for memory, for a worker thread or for a child process."""
        return self.budget.waiting + self._embedded.slots.waiting + self._subprocess.slots.waiting

    def is_wanted(self, method: str | None) -> bool:
        """Return whether a waiting request could start if a stream of the method `method` ended."""
        slots = {"embedded": self._embedded.slots, "subprocess": self._subprocess.slots}
        return self.budget.waiting > 0 or (method in slots and slots[method].waiting > 0)

    async def __aenter__(self) -> Engine:
        try:
            await self.start()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.aclose()

    @asynccontextmanager
    async def open(self, request: StreamRequest) -> AsyncIterator[Stream]:
        """Open the stream that `request` asks for, and close it at the end of the block.

        If MAX_STREAMS streams run, or the memory budget is used up, waits for at most WAIT_SECONDS. Raises a
        `ServerPYError` if the stream cannot be opened. A read of the stream may also raise a `ServerPYError`."""
        _check_range(request.range)
        stream = await self._started().open(request)
        try:
            yield stream
        finally:
            await stream.aclose()

    async def info(self, url: str) -> Info:
        """Return the media of the page at `url`, in the form of the response of `GET /info`. Raises a `ServerPYError`
        if the extraction fails."""
        delivery = self._started()
        media = await delivery.info(url)
        default = await delivery.default(url, media)
        return await delivery.by_tracks(media, partial(info_of, media, delivery.capabilities, default))

    def _started(self) -> Delivery:
        if self._is_closed:
            raise RuntimeError("the engine is closed: create a new one")
        if self._loop is None:
            raise RuntimeError("the engine is not running: use `async with Engine(...) as engine`")
        if self._loop is not asyncio.get_running_loop():
            raise RuntimeError("the engine was started in another event loop: use it there, or create a new engine")
        return self.delivery

    async def start(self) -> None:
        """Start the filtering proxy and the worker. Raises `ConfigurationError` if the worker rejects a setting, and
        `ExtractionFailed` if the worker does not start. The caller may call `start` again after a failure, but not
        after `aclose`."""
        if self._is_closed:
            raise RuntimeError("the engine is closed: create a new one")
        if self._loop is None:
            await self.egress.start()
            self._loop = asyncio.get_running_loop()
        await self.workers.start()

    async def aclose(self) -> None:
        """Refuse the waiting requests, stop the worker and all extractions, and close all connections. Idempotent.
        Every caller of `Delivery.open` must have closed its stream before this call."""
        self._is_closed = True
        self.budget.stop()
        self.client.close()
        await self.extractor.aclose()
        await self.workers.aclose()
        await self.egress.aclose()


def _check_range(asked: ByteRange | None) -> None:
    """Check a range that a Python caller has made. Such a range may be invalid, unlike a range that was parsed from a
    Range header. Raises `InvalidParameter` if `asked` is invalid."""
    if asked is None:
        return
    numbers = [number for number in (asked.first, asked.last) if number is not None]
    if not numbers or numbers[0] < 0 or numbers[0] > numbers[-1]:
        raise InvalidParameter("A ByteRange needs `first`, `last` or both, with 0 <= first <= last.")


def worker_options(settings: Settings, targets: Targets) -> WorkerOptions:
    """Return those settings that the worker process receives."""
    return WorkerOptions(
        timeouts=settings.timeouts,
        targets=targets,
        network=settings.network,
        sites=settings.sites,
        identity=settings.identity,
        limits=settings.limits,
    )


def own_sockets(settings: Settings) -> Sockets:
    """Return the addresses and ports that HOST and PORT resolve to. Returns () if PORT is 0, because the system then
    chooses the port."""
    if settings.port == 0:
        return ()
    found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return tuple({(str(address[0]), settings.port) for *_, address in found})

"""The state of the server process: its status, its metrics, and the start and end of its engine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from serverpy.access.clients import parse_networks
from serverpy.access.connections import Connections, descriptor_limit, places
from serverpy.access.gate import Gate
from serverpy.access.key_file import KeyFile
from serverpy.access.limits import Limits
from serverpy.access.refusals import Refusals
from serverpy.access.rules import Policy
from serverpy.engine import Engine
from serverpy.errors import ConfigurationError, ServerPYError
from serverpy.logs import dropped_lines
from serverpy.memory.heap import Heap
from serverpy.metrics import LagMeter, Memory, Sample, children_of_this_process, memory_of
from serverpy.net.bounds import exceeded
from serverpy.running import Record
from serverpy.slow_clients import SlowClients
from serverpy.streaming.os_pipe import buffered_bytes
from serverpy.tasks import Closing, cancel, spawn

logger = logging.getLogger("serverpy")

RETRY_SECONDS = 2.0
"""Number of seconds between attempts to start the worker process."""
REVOKE_SECONDS = 2.0
"""Number of seconds between two checks of whether the keys of running streams are still valid."""
CLOSE_SECONDS = 10.0
"""Maximum number of seconds that `aclose` waits until all streams are closed."""


class Server:
    """The state that the routes of the HTTP API use, as `app.state.server`. The server runs between `start` and
    `aclose`, in one event loop. If the worker rejects a setting, the server calls `on_refusal`, and cannot open
    streams."""

    def __init__(
        self, engine: Engine, on_refusal: Callable[[ConfigurationError], None], gate: Gate | None = None
    ) -> None:
        self._engine = engine
        self._gate = gate or Gate(Policy())
        self._on_refusal = on_refusal
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lag = LagMeter()
        self._heap = Heap(engine.budget)
        self._started = time.monotonic()
        self._starting: asyncio.Task[None] | None = None
        self._cutting: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._slow = SlowClients(
            engine.running,
            self._is_wanted,
            min_rate=engine.settings.min_rate,
            seconds=engine.settings.stall_timeout,
        )
        self._draining = False
        self.delivery = engine.delivery
        self.budget = engine.budget
        self.running = engine.running
        self.limits = Limits(engine.settings.client_limits)
        self.refusals = Refusals()
        self.connections = _connections(engine, self.refusals)
        self.stall_timeout = engine.settings.stall_timeout
        self.ytdlp_version: str | None = None
        self.aclose = Closing(self._close, name="close the server")
        """Cancel all running streams, then close the engine. Idempotent."""

    @property
    def is_closed(self) -> bool:
        """Whether `aclose` was called."""
        return self.aclose.is_begun

    @property
    def status(self) -> Literal["starting", "ok", "draining"]:
        if self._draining:
            return "draining"
        is_starting = self.ytdlp_version is None or self._engine.workers.state().is_failing
        return "starting" if is_starting else "ok"

    def start(self) -> None:
        """Start the engine in the background; until its worker has started, `/ready` responds with 503, and requests
        wait for the worker. Idempotent. Raises `RuntimeError` if the server was started in another event loop."""
        loop = asyncio.get_running_loop()
        if self._loop is not None:
            if self._loop is not loop:
                raise RuntimeError("this application was started in another event loop: create a new application")
            return
        if self.is_closed:
            return
        self._loop = loop
        self._lag.start()
        self._heap.start()
        self._starting = spawn(self._keep_startable(), name="start the worker")
        self._watching = spawn(self._slow.watch(), name="watch slow clients")
        if self._gate.keys is not None:
            self._cutting = spawn(self._cut_revoked(self._gate.keys), name="cut streams of revoked keys")

    async def _keep_startable(self) -> None:
        """Start the engine. If its worker process does not start, try again every RETRY_SECONDS, because the machine
        may be out of memory, descriptors or disk space only for a while; the server is not ready until the worker has
        started. If the worker rejects a setting, calls `on_refusal` and returns, because a retry would not help."""
        while True:
            if self.status == "starting":
                try:
                    await self._engine.start()
                    ready = self._engine.workers.state().ready
                    self.ytdlp_version = ready.yt_dlp if ready is not None else "unknown"
                except ConfigurationError as error:
                    self._on_refusal(error)
                    return
                except (ServerPYError, OSError) as error:
                    logger.error("the worker process does not start, so the server will start it again: %s", error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _cut_revoked(self, file: KeyFile) -> None:
        """Cut the running streams whose key was revoked or replaced, or has expired. Do so only if two checks in a row
        find that the key is gone, because an editor may truncate the file of keys before it writes the new content."""
        missing: set[Record] = set()
        while True:
            await asyncio.sleep(REVOKE_SECONDS)
            held = [(record, record.key) for record in self.running if record.key is not None]
            try:
                keys = await file.current()
            except Exception:
                logger.exception("the server cannot check the API keys of running streams, and will try again")
                continue
            now = datetime.now(UTC)
            dead = {record for record, key in held if keys.living(key.name, key.digest, now) is None}
            for record in dead & missing:
                record.cancel("revoked")
            missing = dead

    def _is_wanted(self, record: Record) -> bool:
        """Return whether a new connection or a waiting request needs what the stream of `record` holds."""
        return self.connections.is_crowded or self._engine.is_wanted(record.method)

    def drain(self) -> None:
        """Refuse new streams from now on. Running streams continue."""
        self._draining = True
        self._engine.budget.stop()

    def end_streams(self) -> None:
        """Cut the streams that still run, and the connections with incomplete responses, because the server ends."""
        for record in self.running:
            record.cancel("shutdown")
        self.connections.reset(only_unsent=True)

    def reset_connections(self) -> None:
        """Reset the connections of all clients (RST)."""
        self.connections.reset()

    async def wait_idle(self) -> None:
        """Wait until no stream runs."""
        await self._engine.budget.wait_idle()

    async def wait_sent(self) -> None:
        """Wait until the operating system has accepted the last bytes of all responses."""
        await self.connections.wait_sent()

    async def _close(self) -> None:
        self.drain()
        for task in (self._cutting, self._watching):
            if task is not None:
                await cancel(task)
        for record in self.running:
            record.cancel("cancelled")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.wait_idle()
        if self._starting is not None:
            await cancel(self._starting)
        await self._engine.aclose()
        await self._heap.aclose()
        await self._lag.aclose()

    async def sample(self) -> Sample:
        """Return the current metrics of this process, for `/health` and `/metrics`."""
        engine = self._engine
        workers = engine.workers.state()
        pids = (*workers.pids, *workers.download_pids)
        memory = await asyncio.to_thread(lambda: [memory_of(pid) for pid in (os.getpid(), *pids)])
        return Sample(
            uptime=time.monotonic() - self._started,
            memory=memory[0],
            worker=workers.status,
            workers=len(pids),
            worker_memory=Memory(sum(each.pss for each in memory[1:]), sum(each.uss for each in memory[1:])),
            streams=engine.running.streams,
            waiting=engine.waiting + workers.waiting,
            upstreams=engine.client.open_connections,
            extractions=workers.extractions,
            extractions_refused=workers.refused,
            extractions_repeated=workers.reruns,
            pages_extracted_to_download=workers.raws_apart,
            live_upstreams=engine.fanout.upstreams,
            live_cuts=engine.fanout.cuts,
            fallbacks=engine.delivery.fallbacks,
            refused=self.refusals.codes,
            bounds_exceeded=dict(exceeded),
            connections=len(self.connections),
            connections_closed=dict(self.connections.closed),
            log_lines_dropped=dropped_lines(),
            threads=threading.active_count(),
            fds=len(os.listdir("/proc/self/fd"))
            - 1,  # do not count the descriptor with which `listdir` reads the folder
            children=await asyncio.to_thread(children_of_this_process),
            buffered_bytes=buffered_bytes() + engine.egress.held_bytes,
            budget_used=engine.budget.used_bytes,
            budget_total=engine.budget.total_bytes,
            loop_lag_p50=self._lag.percentile(50),
            loop_lag_p99=self._lag.percentile(99),
            ends=dict(engine.running.ends),
        )


def _connections(engine: Engine, refusals: Refusals) -> Connections:
    """Make the limits on the client connections of this process. The unanswered requests of all connections may hold at
    most an eighth of the budget."""
    settings, budget = engine.settings, engine.budget
    return Connections(
        total=places(settings.max_streams, descriptor_limit()),
        each=settings.client_connections,
        trusted=parse_networks(settings.trusted_proxies),
        most_bytes=budget.total_bytes // 8,
        hold=budget.try_keep,
        give_back=budget.shrink,
        stall_timeout=settings.stall_timeout,
        refusals=refusals,
    )

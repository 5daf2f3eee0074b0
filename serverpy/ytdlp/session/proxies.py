"""The filtering proxies of yt-dlp's sessions: one for each session, all on one event loop in a thread of its own.

Each session has its own proxy, so that all connections of the session can be aborted: when the proxy is closed, its
connections end, and a thread that waits for a silent media server wakes up. A proxy consists of a listening socket and
a token. Starting a proxy takes about 1 ms, and a proxy holds about 40 KB of memory.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import uvloop

from serverpy.net.egress import Egress
from serverpy.tasks import spawn


@dataclass(frozen=True, slots=True)
class SessionProxy:
    """The filtering proxy of one session. `url` contains the proxy's token. Any thread may call `cut`, which aborts all
    connections of the session. Idempotent."""

    url: str
    cut: Callable[[], None]


class SessionProxies:
    """The thread and event loop of all sessions' filtering proxies, from `start` to `close`. `make` returns a proxy
    that is not started yet."""

    def __init__(self, make: Callable[[], Egress]) -> None:
        self._make = make
        self._running: Future[asyncio.AbstractEventLoop] = Future()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="egress", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._running.result()

    def close(self, seconds: float = 2.0) -> None:
        """Abort all connections of the proxies, and wait at most `seconds` seconds for the thread to end."""
        if self._thread.is_alive():
            with suppress(RuntimeError):  # the thread has ended and closed its event loop just before this call
                self._running.result().call_soon_threadsafe(self._stop.set)
            self._thread.join(seconds)

    @contextmanager
    def open(self) -> Iterator[SessionProxy]:
        """Run a filtering proxy until the end of the context. Any thread may call this method, except the thread of the
        proxies."""
        loop = self._running.result()
        egress = self._make()
        asyncio.run_coroutine_threadsafe(egress.start(), loop).result()
        cut = _Cut(loop, egress)
        try:
            yield SessionProxy(egress.url, cut)
        finally:
            cut()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._wait())

    async def _wait(self) -> None:
        self._running.set_result(asyncio.get_running_loop())
        await self._stop.wait()


class _Cut:
    """Callable that closes a filtering proxy on its event loop without waiting: the connections end in the next
    iterations of the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, egress: Egress) -> None:
        self._loop = loop
        self._egress = egress
        self._closing: asyncio.Task[None] | None = None

    def __call__(self) -> None:
        with suppress(RuntimeError):  # the event loop is closed, and all connections with it
            self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        if self._closing is None:
            self._closing = spawn(self._egress.aclose(), name="close the proxy of a session")

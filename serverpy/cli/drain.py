"""The effect of signals in a serving process: it refuses new streams, lets running streams finish, then stops.

uvicorn alone would close its sockets immediately. Therefore this module installs a signal handler that runs before
uvicorn's. The handler tells the application to respond with 503 to `/ready` and to new streams. The handler passes the
signal on to uvicorn when no stream runs, or after DRAIN_SECONDS. A second SIGTERM or SIGINT (Ctrl+C twice) resets all
connections, and ends the process immediately.

A process of `--workers` handles only SIGTERM, and ignores SIGINT and SIGHUP: the terminal also sends them to its
supervisor (`supervisor.py`), which decides when to stop the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any, Protocol

from serverpy.tasks import spawn

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
CUTTING = (signal.SIGTERM, signal.SIGINT)


class Drainable(Protocol):
    """The part of the interface of `app.state.server` that this module uses."""

    aclose: Callable[[], Awaitable[None]]

    def drain(self) -> None: ...

    async def wait_idle(self) -> None: ...

    async def wait_sent(self) -> None: ...

    def end_streams(self) -> None: ...

    def reset_connections(self) -> None: ...


class Drain:
    """A signal handler that runs before uvicorn's. It stays installed until uvicorn ends: uvicorn then restores the
    handlers that were installed before its start. The caller creates the object in the main thread, in the running
    event loop. If `is_supervised` is true, the process ignores SIGINT and SIGHUP."""

    def __init__(self, server: Drainable, limit_seconds: float, *, is_supervised: bool = False) -> None:
        self._server = server
        self._limit_seconds = limit_seconds
        self._loop = asyncio.get_running_loop()
        self._end: Any = signal.getsignal(signal.SIGTERM)
        self._tasks: list[asyncio.Task[None]] = []
        self._begun = False
        self._ended = False
        for number in SIGNALS:
            is_ignored = is_supervised and number != signal.SIGTERM
            signal.signal(number, signal.SIG_IGN if is_ignored else self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if not self._begun:
            self._begun = True
            self._loop.call_soon_threadsafe(self._begin)
        elif number in CUTTING:
            self._loop.call_soon_threadsafe(self._cut)

    def _begin(self) -> None:
        self._tasks.append(spawn(self._finish(), name="drain"))

    async def _finish(self) -> None:
        self._server.drain()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limit_seconds):
                    await self._server.wait_idle()
                    await self._server.wait_sent()
        finally:
            self._stop()

    def _cut(self) -> None:
        self._server.end_streams()
        self._server.reset_connections()
        self._stop()

    def _stop(self) -> None:
        """Cut the streams that still run, and let uvicorn stop. Starts to close the engine at the same time, because
        the worker process needs a moment to end. Idempotent."""
        if self._ended:
            return
        self._ended = True
        self._server.end_streams()
        self._tasks.append(spawn(self._close(), name="close the server"))
        if callable(self._end):
            self._end(signal.SIGTERM, None)

    async def _close(self) -> None:
        await self._server.aclose()

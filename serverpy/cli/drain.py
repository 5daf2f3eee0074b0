"""The effect of SIGTERM and SIGINT in a serving process: the process refuses new streams, lets running streams finish,
then stops.

uvicorn alone would close its sockets at once. Therefore this module installs a signal handler that runs before
uvicorn's: it tells the application, which from then on responds with 503 to `/ready` and to new streams. The handler
passes the signal on to uvicorn when no stream runs, or after DRAIN_SECONDS. It passes a second SIGINT (Ctrl+C twice) on
at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from types import FrameType
from typing import Any, Protocol

from serverpy.tasks import spawn

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Drainable(Protocol):
    """The part of the interface of `app.state.server` that this module uses."""

    def drain(self) -> None: ...

    async def wait_idle(self) -> None: ...


class Drain:
    """Signal handler that runs before uvicorn's. It stays installed until uvicorn, when it ends, restores the handlers
    from before its start. The caller creates the object in the main thread, in the running event loop."""

    def __init__(self, server: Drainable, limit_seconds: float) -> None:
        self._server = server
        self._limit_seconds = limit_seconds
        self._loop = asyncio.get_running_loop()
        self._before: dict[int, Any] = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        self._begun = False
        self._task: asyncio.Task[None] | None = None

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if not self._begun:
            self._begun = True
            self._loop.call_soon_threadsafe(self._begin, number)
        elif number == signal.SIGINT:
            self._pass_on(number)

    def _begin(self, number: int) -> None:
        self._task = spawn(self._finish(number), name="drain")

    async def _finish(self, number: int) -> None:
        self._server.drain()
        try:
            await self._wait_idle()
        finally:
            self._pass_on(number)

    async def _wait_idle(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limit_seconds):
                await self._server.wait_idle()

    def _pass_on(self, number: int) -> None:
        handler = self._before[number]
        if callable(handler):
            handler(number, None)

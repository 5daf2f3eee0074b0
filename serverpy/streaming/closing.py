"""Closing that happens once and to its end, whoever asks, however often, and whatever happens to who asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from serverpy.tasks import spawn


class Closing:
    """`await closing()` runs `close` at the first call, in a task of its own; every caller waits for that task.

    A caller that is cancelled stops waiting; the closing goes on. `close` has to bound its own time.
    """

    def __init__(self, close: Callable[[], Coroutine[None, None, None]], name: str) -> None:
        self._close = close
        self._name = name
        self._task: asyncio.Task[None] | None = None

    async def __call__(self) -> None:
        if self._task is None:
            self._task = spawn(self._close(), name=self._name)
        await asyncio.shield(self._task)

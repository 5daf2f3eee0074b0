"""The queue of requests that wait for a free thread of the worker, served first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress


class WaitingQueue:
    """Queue of waiting requests, on one event loop. A woken request looks for a free thread, and goes back to the front
    of the queue if there is none."""

    def __init__(self) -> None:
        self._waiters: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._waiters)

    async def wait(self, *, first: bool = False) -> None:
        """Wait for the caller's turn, at the back of the queue or, if `first`, at its front. A caller that is cancelled
        after it got its turn passes the turn on."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if first:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.wake()  # the turn goes to the next request
            raise
        finally:
            with suppress(ValueError):
                self._waiters.remove(waiter)

    def wake(self) -> None:
        """Give the next request its turn: a thread may be free."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
                return

    def wake_all(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

"""The queue of requests that wait for a free thread of the worker, in the order of their arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress


class WaitingQueue:
    """The queue of waiting requests, in one event loop. A request that is woken checks for a free thread, and returns
    to the front of the queue if no thread is free."""

    def __init__(self) -> None:
        self._waiters: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._waiters)

    async def wait(self, *, first: bool = False) -> None:
        """Join the queue, at its end or, if `first` is true, at its front, and wait to be woken. If the caller is
        cancelled after it was woken, the next request is woken instead."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if first:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.wake()  # wake the next request instead of this one
            raise
        finally:
            with suppress(ValueError):
                self._waiters.remove(waiter)

    def wake(self) -> None:
        """Wake the next request, because a thread may be free."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
                return

    def wake_all(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

"""The number of streams that each account has open."""

from __future__ import annotations

import asyncio
import contextlib

FREE_SECONDS = 2.0
"""Seconds that a new stream waits for an open stream of its account to end. A player that seeks closes one connection
and opens the next at once, and the server may see the new one first."""


class Streams:
    """Counts of open streams by account, in one event loop. An account without streams has no entry, so MAX_STREAMS and
    the queue for a place bound the entries."""

    def __init__(self, free_seconds: float = FREE_SECONDS) -> None:
        self._free_seconds = free_seconds
        self._open: dict[str, int] = {}
        self._left: dict[str, asyncio.Event] = {}
        """For each account whose streams are waited for, the event that its next leaving stream sets."""

    def __len__(self) -> int:
        """Number of accounts that have streams open."""
        return len(self._open)

    async def enter(self, account: str, most: int) -> bool:
        """Count a stream of `account`. If `most` streams of the account are open, waits for one of them to end. Returns
        False if none of them ends in time; then the stream was not counted."""
        if self._count(account, most):
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._free_seconds):
                while not self._count(account, most):
                    await self._left.setdefault(account, asyncio.Event()).wait()
                return True
        return False

    def leave(self, account: str) -> None:
        """Count the end of a stream that `enter` has counted."""
        count = self._open.pop(account)
        if count > 1:
            self._open[account] = count - 1
        left = self._left.pop(account, None)
        if left is not None:
            left.set()

    def _count(self, account: str, most: int) -> bool:
        count = self._open.get(account, 0)
        if count >= most:
            return False
        self._open[account] = count + 1
        return True

"""Counters for the open streams of each account."""

from __future__ import annotations

import asyncio
import contextlib

FREE_SECONDS = 2.0
"""Seconds that a new stream waits for an open stream of its account to end. A player that seeks closes its connection
and immediately opens a new one, and the server may notice the new connection before the end of the old one."""


class Streams:
    """Counters of open streams by account, for one event loop. An account without open streams has no counter, so there
    are at most as many counters as streams that run or wait for admission."""

    def __init__(self, free_seconds: float = FREE_SECONDS) -> None:
        self._free_seconds = free_seconds
        self._open: dict[str, int] = {}
        self._left: dict[str, asyncio.Event] = {}
        """For each account with a waiting stream, the event that `leave` sets when a stream of the account ends."""

    def __len__(self) -> int:
        """Number of accounts with open streams."""
        return len(self._open)

    async def enter(self, account: str, most: int) -> bool:
        """Count a new stream of `account`, and return True. If `most` streams of the account are open, first waits for
        one of them to end. Returns False, without counting the new stream, if none ends in `free_seconds`."""
        if self._count(account, most):
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._free_seconds):
                while not self._count(account, most):
                    await self._left.setdefault(account, asyncio.Event()).wait()
                return True
        return False

    def leave(self, account: str) -> None:
        """Count the end of a stream of `account` for which `enter` has returned True."""
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

"""The sharing of live streams. All clients that watch the same live stream from its live edge share one upstream, a
read of the media server (`broadcast.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from serverpy.memory.room import Lender, Room
from serverpy.streaming.broadcast import Broadcast, Reader, SharedRead


@dataclass(slots=True)
class Turn:
    """The callers that wait to open the same upstream, one after the other. `is_unshared` becomes true if a caller has
    failed to open the upstream, or if the upstream cannot be shared: from then on, no caller needs to wait for another
    caller."""

    is_unshared: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    callers: int = 0


class Fanout:
    """The shared live upstreams (reads of media servers), by key. `budget` lends the memory that the upstreams hold
    beyond the reservations of their readers."""

    def __init__(self, budget: Lender) -> None:
        self._budget = budget
        self._broadcasts: dict[Hashable, Broadcast] = {}
        self._turns: dict[Hashable, Turn] = {}
        self.cuts = 0
        """Number of readers whose streams were aborted because they fell behind, since this object was created."""

    @property
    def upstreams(self) -> int:
        return len(self._broadcasts)

    @asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[Turn]:
        """Let only one caller for `key` at a time run the block, so that the first caller opens an upstream and the
        later callers can join it. If a caller is cancelled before its upstream is open, the next caller opens an
        upstream."""
        # This uses a lock instead of `single_flight.py`, because the callers do not always share the result: an error,
        # or an upstream that cannot be shared, concerns only the caller that opened the upstream. The other callers
        # wait only until it is known whether they can join.
        turn = self._turns.setdefault(key, Turn())
        turn.callers += 1
        try:
            async with turn.lock:
                yield turn
        finally:
            turn.callers -= 1
            if not turn.callers:
                del self._turns[key]

    def join(self, key: Hashable) -> Reader | None:
        """Add a reader to the upstream of `key`. Returns None if `key` has no upstream, or if no further reader can
        join it."""
        broadcast = self._broadcasts.get(key)
        return None if broadcast is None or not broadcast.has_room() else broadcast.join()

    def share(self, key: Hashable, upstream: SharedRead) -> Reader | None:
        """Make `upstream` the shared upstream of `key`, and return its first reader. Returns None, and leaves
        `upstream` to the caller, if `key` already has a shared upstream or if the budget cannot lend the memory."""
        room = Room(self._budget)
        if key in self._broadcasts or not upstream.move_to(room):
            return None
        broadcast = Broadcast(upstream, room, on_over=lambda: self._forget(key, broadcast), on_cut=self._count)
        self._broadcasts[key] = broadcast
        return broadcast.join()

    def _forget(self, key: Hashable, broadcast: Broadcast) -> None:
        if self._broadcasts.get(key) is broadcast:
            del self._broadcasts[key]

    def _count(self) -> None:
        self.cuts += 1

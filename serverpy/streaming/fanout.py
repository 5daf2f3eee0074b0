"""The choice of the clients that share a live upstream (`broadcast.py`): all that watch the same live stream from its
edge."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from serverpy.memory.room import Lender, Room
from serverpy.streaming.broadcast import Broadcast, Reader, SharedRead


@dataclass(slots=True)
class Turn:
    """The callers that would open the same upstream. `is_unshared` means that one caller's upstream failed to open or
    cannot be shared, so no caller needs to wait for another."""

    is_unshared: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    callers: int = 0


class Fanout:
    """The live upstreams that are shared, by key. `budget` lends the bytes that the upstreams hold beyond the
    reservations of their readers."""

    def __init__(self, budget: Lender) -> None:
        self._budget = budget
        self._broadcasts: dict[Hashable, Broadcast] = {}
        self._turns: dict[Hashable, Turn] = {}
        self.cuts = 0
        """Number of readers that fell behind and were cut since the start."""

    @property
    def upstreams(self) -> int:
        return len(self._broadcasts)

    @asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[Turn]:
        """Admit one caller of `key` at a time, so that the first caller opens an upstream and the others find it. If a
        caller leaves before its upstream is open, the next caller opens one."""
        # This is a lock, not a flight (`single_flight.py`), because the callers do not always share the result: an
        # error, or an upstream that cannot be shared, belongs to the first caller alone. The other callers wait only to
        # learn whether they can join.
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
        """Add a reader to the upstream of `key`. Returns None if there is no upstream, or if no reader can join it."""
        broadcast = self._broadcasts.get(key)
        return None if broadcast is None or not broadcast.has_room() else broadcast.join()

    def share(self, key: Hashable, upstream: SharedRead) -> Reader | None:
        """Share `upstream` from now on, and return its first reader. Returns None, and leaves `upstream` to the caller,
        if `key` already has an upstream or if the budget cannot spare the bytes."""
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

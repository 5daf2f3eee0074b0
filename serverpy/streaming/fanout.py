"""Who shares a live upstream: all clients that watch the same live stream from its edge (`broadcast.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from serverpy.memory.room import Lender, Room
from serverpy.streaming.broadcast import Broadcast, Reader, SharedRead


@dataclass(slots=True)
class Turn:
    """The callers that would open the same upstream. `is_vain` says that one of them has, and there was nothing to
    share: then none of them needs to wait for another any more."""

    is_vain: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    callers: int = 0


class Fanout:
    """The live upstreams that are shared, by key. `budget` lends what they hold beside the reservations of their
    readers."""

    def __init__(self, budget: Lender) -> None:
        self._budget = budget
        self._broadcasts: dict[Hashable, Broadcast] = {}
        self._turns: dict[Hashable, Turn] = {}
        self.cuts = 0
        """Readers that fell behind and were cut since the start."""

    @property
    def upstreams(self) -> int:
        return len(self._broadcasts)

    @asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[Turn]:
        """Let one caller of `key` in at a time, so that the first opens an upstream and the others find it; if the
        first leaves meanwhile, the next opens one."""
        # A lock, and not a flight (`single_flight.py`): there is no result that all callers could have. What the first
        # opens is its own if it cannot be shared; its failure is its own in any case; and the others wait only to learn
        # whether there is something to join.
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
        """Add a reader to the upstream of `key`. Returns None if there is no upstream that one more can join."""
        broadcast = self._broadcasts.get(key)
        return None if broadcast is None or not broadcast.has_room() else broadcast.join()

    def share(self, key: Hashable, upstream: SharedRead) -> Reader | None:
        """Give `upstream` to its readers, and return the first. Returns None, and the upstream stays its
        owner's, if there is one of that key already, or the budget cannot spare what it holds."""
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

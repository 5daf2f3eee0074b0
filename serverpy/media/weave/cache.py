"""The cache of the layouts of merged MP4s. All streams of the same pair of source files share one layout, whose memory
is charged to the budget.

    making ─▶ in use ◀─▶ idle ─▶ gone

- *Making*: the first stream that needs the layout makes it, and increases its own reservation by the memory for that.
  Other streams that need the layout wait.
- *In use*: at least one stream has a lease. The layout is charged once, whatever the number of streams is.
- *Idle*: no stream has a lease. The memory may be freed: this happens when a stream needs it (`Budget.add_reclaimer`)
  or when idle layouts exceed `max_idle_bytes`, the least recently used first.
- *Gone*: a discarded layout is not leased again, and its memory is freed when the last lease is released.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from serverpy.media.mp4.layout import Layout
from serverpy.memory.budget import Budget, Reservation
from serverpy.memory.room import Room
from serverpy.net.urls import Origin
from serverpy.single_flight import LedFlights
from serverpy.validators import strong_validator

Key = tuple[str, ...]
IDLE_SHARE = 8
"""Divisor of MEMORY_BUDGET: idle layouts may hold at most the budget divided by this number."""
FIXED_BYTES = 4096
"""Bytes of memory that a layout in the cache takes in addition to its header and arrays."""


@dataclass(frozen=True, slots=True)
class SourceVersion:
    """The length and validators of a source file, and the media server that stated them. If the length or a validator
    changes, a layout that was made for the source file is no longer valid."""

    total: int
    etag: str | None
    last_modified: str | None
    server: Origin | None = None

    @property
    def validator(self) -> str | None:
        """The validator for If-Range, which must be strong. None if the media server sent no strong validator."""
        return strong_validator(self.etag, self.last_modified)


@dataclass(frozen=True, slots=True)
class Woven:
    """A layout, the versions of the two source files for which it was made, and the ETag of the merged file."""

    layout: Layout
    versions: tuple[SourceVersion, SourceVersion]
    etag: str


class _Entry:
    """A layout in the cache, and the number of streams that lease it."""

    def __init__(self, key: Key, woven: Woven) -> None:
        self.key = key
        self.woven = woven
        self.nbytes = woven.layout.nbytes + FIXED_BYTES
        self.leases = 0
        self.is_idle = False


class Lease:
    """The use of a cached layout by one stream, which must release the lease at its end."""

    def __init__(self, layouts: Layouts, entry: _Entry) -> None:
        self._layouts = layouts
        self._entry = entry
        self._released = False
        self.woven = entry.woven

    def release(self) -> None:
        """Release the lease. Idempotent."""
        if not self._released:
            self._released = True
            self._layouts._release(self._entry)


class Layouts:
    """The cache of the layouts of merged files, in one event loop."""

    def __init__(self, budget: Budget, max_idle_bytes: int | None = None) -> None:
        self._budget = budget
        self._max_idle_bytes = budget.total_bytes // IDLE_SHARE if max_idle_bytes is None else max_idle_bytes
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._making = LedFlights[Key, None]()
        self._idle_bytes = 0
        budget.add_reclaimer(self._reclaim)

    async def lease(self, key: Key, reservation: Reservation, make: Callable[[Room], Awaitable[Woven]]) -> Lease:
        """Lease the layout of `key`. If the cache does not have the layout, awaits `make`, which makes the layout. The
        argument of `make` is a `Room` of `reservation`, to which `make` charges the memory that it needs. Other callers
        with the same `key` wait until the layout is made, and get the same layout or raise the same error. If the
        caller that makes the layout is cancelled, a waiting caller makes it."""
        while (entry := self._entries.get(key)) is None:
            await self._making.run(key, partial(self._make, key, reservation, make))
        return self._lend(entry)

    def lease_made(self, key: Key) -> Lease | None:
        """Lease the layout of `key` if the cache has it. Returns None otherwise."""
        entry = self._entries.get(key)
        return None if entry is None else self._lend(entry)

    def discard(self, key: Key, woven: Woven) -> None:
        """Remove the layout `woven` from the cache, so that no further stream leases this layout. Does nothing if
        `woven` is not in the cache."""
        entry = self._entries.get(key)
        if entry is None or entry.woven is not woven:
            return
        del self._entries[key]
        if entry.is_idle:
            self._use(entry)
            self._budget.shrink(entry.nbytes)

    async def _make(self, key: Key, reservation: Reservation, make: Callable[[Room], Awaitable[Woven]]) -> None:
        room = Room(reservation)
        try:
            entry = _Entry(key, await make(room))
            await room.settle(entry.nbytes)
            reservation.keep(room.leave_to_lender())
        finally:
            room.release()
        self._entries[key] = entry

    def _lend(self, entry: _Entry) -> Lease:
        self._entries.move_to_end(entry.key)
        if entry.is_idle:
            self._use(entry)
        entry.leases += 1
        return Lease(self, entry)

    def _use(self, entry: _Entry) -> None:
        entry.is_idle = False
        self._idle_bytes -= entry.nbytes
        self._budget.use(entry.nbytes)

    def _release(self, entry: _Entry) -> None:
        entry.leases -= 1
        if entry.leases:
            return
        if self._entries.get(entry.key) is not entry:
            self._budget.shrink(entry.nbytes)
            return
        entry.is_idle = True
        self._idle_bytes += entry.nbytes
        self._budget.spare(entry.nbytes)
        self._trim()

    def _trim(self) -> None:
        while self._idle_bytes > self._max_idle_bytes:
            oldest = next(entry for entry in self._entries.values() if entry.is_idle)
            self.discard(oldest.key, oldest.woven)

    def _reclaim(self, nbytes: int) -> int:
        """Remove idle layouts from the cache until `nbytes` bytes are free or no layout is idle. Returns the number of
        bytes that were freed."""
        freed = 0
        for entry in [each for each in self._entries.values() if each.is_idle]:
            if freed >= nbytes:
                break
            del self._entries[entry.key]
            freed += entry.nbytes
        self._idle_bytes -= freed
        return freed

"""The layouts of woven files, shared by all who ask for the same pair, and charged to the budget.

A layout is made once however many ask for it at the same moment, is held as long as a stream uses it, and stays
afterwards while there is room: the least recently used goes first, and at once where the budget is short.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from serverpy.errors import ServerPYError
from serverpy.media.mp4.layout import Layout
from serverpy.memory.budget import Budget, Reservation
from serverpy.validators import strong_validator

Key = tuple[str, ...]
IDLE_SHARE = 8
"""What nobody uses may hold one part in so many of the budget."""
FIXED_BYTES = 4096
"""The objects around a layout."""


@dataclass(frozen=True, slots=True)
class Version:
    """What tells whether a source is still the one that a layout was made for."""

    total: int
    etag: str | None
    last_modified: str | None

    @property
    def validator(self) -> str | None:
        """For If-Range."""
        return strong_validator(self.etag, self.last_modified)


@dataclass(frozen=True, slots=True)
class Woven:
    """A layout, what it was made from, and the validator of the whole."""

    layout: Layout
    versions: tuple[Version, Version]
    etag: str


class _Entry:
    def __init__(self, key: Key, woven: Woven) -> None:
        self.key = key
        self.woven = woven
        self.nbytes = woven.layout.nbytes + FIXED_BYTES
        self.users = 0
        self.is_idle = False


class Lease:
    """The use of a layout. Its owner releases it."""

    def __init__(self, layouts: Layouts, entry: _Entry) -> None:
        self._layouts = layouts
        self._entry = entry
        self._released = False
        self.woven = entry.woven

    def release(self) -> None:
        """Again is nothing."""
        if not self._released:
            self._released = True
            self._layouts._release(self._entry)


class Layouts:
    """For one event loop. What is in use cannot be let go of; what is idle is bounded by `max_idle_bytes`."""

    def __init__(self, budget: Budget, max_idle_bytes: int | None = None) -> None:
        self._budget = budget
        self._max_idle_bytes = budget.total_bytes // IDLE_SHARE if max_idle_bytes is None else max_idle_bytes
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._making: dict[Key, asyncio.Future[None]] = {}
        self._idle_bytes = 0
        budget.reclaim = self._reclaim

    def __len__(self) -> int:
        return len(self._entries)

    async def lease(self, key: Key, reservation: Reservation, make: Callable[[], Awaitable[Woven]]) -> Lease:
        """The layout of `key`, made if it is not there: then `make` has grown `reservation` by what the layout holds
        and FIXED_BYTES at least, and these bytes are kept. Who comes meanwhile gets the same layout, or the same
        error; where the maker was cancelled, the next one makes it."""
        while (entry := self._entries.get(key)) is None:
            making = self._making.get(key)
            if making is None:
                entry = await self._make(key, reservation, make)
                break
            await asyncio.shield(making)
        return self._lend(entry)

    def discard(self, key: Key, woven: Woven) -> None:
        """Give `woven` to nobody else."""
        entry = self._entries.get(key)
        if entry is None or entry.woven is not woven:
            return
        del self._entries[key]
        if entry.is_idle:
            self._use(entry)
            self._budget.forget(entry.nbytes)

    async def _make(self, key: Key, reservation: Reservation, make: Callable[[], Awaitable[Woven]]) -> _Entry:
        made = self._making[key] = asyncio.get_running_loop().create_future()
        try:
            entry = _Entry(key, await make())
            reservation.keep(entry.nbytes)
        except ServerPYError as error:
            made.set_exception(error)
            made.exception()  # maybe nobody else waits for it
            raise
        finally:
            del self._making[key]
            if not made.done():
                made.set_result(None)
        self._entries[key] = entry
        return entry

    def _lend(self, entry: _Entry) -> Lease:
        self._entries.move_to_end(entry.key)
        if entry.is_idle:
            self._use(entry)
        entry.users += 1
        return Lease(self, entry)

    def _use(self, entry: _Entry) -> None:
        entry.is_idle = False
        self._idle_bytes -= entry.nbytes
        self._budget.use(entry.nbytes)

    def _release(self, entry: _Entry) -> None:
        entry.users -= 1
        if entry.users:
            return
        if self._entries.get(entry.key) is not entry:
            self._budget.forget(entry.nbytes)
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
        """The budget's question: let go of idle layouts until `nbytes` are free; how many were."""
        freed = 0
        for entry in [each for each in self._entries.values() if each.is_idle]:
            if freed >= nbytes:
                break
            del self._entries[entry.key]
            freed += entry.nbytes
        self._idle_bytes -= freed
        return freed

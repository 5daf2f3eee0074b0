"""What the rest of the server asks for the media of a page: the cache, and one extraction for all who ask at once.

    extract(url) ─▶ cached? ─▶ under way? join ─▶ in line ─▶ Workers.extract

Failures are not cached. What was found is kept for `ttl` seconds, a live stream for a few; and never beyond the moment
at which its addresses expire by their own account.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from serverpy.errors import Busy, Draining
from serverpy.extraction.values import Media
from serverpy.tasks import spawn

MAX_CACHE_BYTES = 32 * 1024 * 1024
MAX_LINE = 64
LIVE_SECONDS = 5.0
EXPIRY_MARGIN = 10.0
"""An address that is about to expire is not worth handing out."""

_encoder = msgspec.json.Encoder()


class Source(Protocol):
    """`Workers`, for those who extract."""

    async def extract(self, url: str) -> Media: ...


@dataclass(frozen=True, slots=True)
class _Cached:
    media: Media
    size: int
    until: float
    """By the clock, in seconds since the epoch."""


class _Flight:
    """One extraction under way and the number of those who wait for it."""

    def __init__(self, task: asyncio.Task[Media]) -> None:
        self.task = task
        self.waiters = 0


class Cache:
    """The last extractions by URL: least recently used out first, bounded in number and in (encoded) bytes."""

    def __init__(self, *, ttl: float, size: int, max_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self._ttl = ttl
        self._size = size
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[str, _Cached] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, url: str) -> Media | None:
        found = self._entries.get(url)
        if found is None:
            return None
        if found.until <= self._clock():
            self.discard(url)
            return None
        self._entries.move_to_end(url)
        return found.media

    def put(self, url: str, media: Media) -> None:
        """Replaces what was there, also by nothing where `media` is not to be kept."""
        self.discard(url)
        until = self._until(media)
        size = len(_encoder.encode(media))
        if until <= self._clock() or size > self._max_bytes:
            return
        self._entries[url] = _Cached(media, size, until)
        self.bytes += size
        while len(self._entries) > self._size or self.bytes > self._max_bytes:
            self.discard(next(iter(self._entries)))

    def discard(self, url: str) -> None:
        found = self._entries.pop(url, None)
        if found is not None:
            self.bytes -= found.size

    def _until(self, media: Media) -> float:
        ttl = min(self._ttl, LIVE_SECONDS) if media.kind == "live" else self._ttl
        until = self._clock() + ttl
        return until if media.expires is None else min(until, media.expires - EXPIRY_MARGIN)


class Extractor:
    """The cache and the extractions under way, for one event loop. `workers` is not closed here."""

    def __init__(
        self,
        workers: Source,
        *,
        ttl: float = 300.0,
        size: int = 1000,
        max_bytes: int = MAX_CACHE_BYTES,
        max_line: int = MAX_LINE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._workers = workers
        self._cache = Cache(ttl=ttl, size=size, max_bytes=max_bytes, clock=clock)
        self._flights: dict[str, _Flight] = {}
        self._max_line = max_line

    @property
    def cache(self) -> Cache:
        """For metrics."""
        return self._cache

    async def extract(self, url: str, *, fresh: bool = False) -> Media:
        """What is behind `url`. With `fresh`, not from the cache, whose entry it replaces; an extraction that is under
        way is fresh enough. Raises a ServerPYError, Busy where the line is full. An extraction is cancelled when the
        last of those who wait for it has left."""
        if not fresh and (media := self._cache.get(url)) is not None:
            return media
        flight = self._flights.get(url) or self._take_off(url)
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if flight.task.cancelled() and task is not None and not task.cancelling():
                raise Draining("The server is stopping.") from None
            raise
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                self._flights.pop(url, None)
                flight.task.cancel()

    def _take_off(self, url: str) -> _Flight:
        if len(self._flights) >= self._max_line:
            raise Busy("Too many pages are waiting to be read.")
        flight = _Flight(spawn(self._fly(url), name="extraction"))
        self._flights[url] = flight
        flight.task.add_done_callback(lambda _: self._land(url, flight))
        return flight

    async def _fly(self, url: str) -> Media:
        media = await self._workers.extract(url)
        self._cache.put(url, media)
        return media

    def _land(self, url: str, flight: _Flight) -> None:
        if self._flights.get(url) is flight:
            del self._flights[url]
        if not flight.task.cancelled():
            flight.task.exception()  # each waiter has been given it; the last may have left just before

    async def aclose(self) -> None:
        """Cancel what is under way; who waits for it gets Draining."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

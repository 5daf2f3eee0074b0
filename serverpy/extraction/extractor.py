"""The extractor, which returns the media of a page to the rest of the server: from the cache, or from one extraction
that all callers for the same URL share.

    extract(url) ─▶ cached? ─▶ under way? join ─▶ queue full? Busy ─▶ grant pays ─▶ Workers.extract

Failures are not cached. An extraction is cached for `ttl` seconds (a live stream for at most `LIVE_SECONDS`), but not
beyond the time at which its URLs expire. With an extraction, the cache also keeps the containers of the tracks, once a
stream has identified them by the first bytes, and the beginnings of the files.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from serverpy.access.grant import UNLIMITED, Grant
from serverpy.containers import Container
from serverpy.errors import Busy
from serverpy.extraction.footprint import CONTAINER_BYTES, Holding, Ledger, footprint
from serverpy.extraction.values import Media, Track
from serverpy.single_flight import SharedFlights

MAX_CACHE_BYTES = 32 * 1024 * 1024
"""Maximum size of the cached extractions in bytes, if no `Ledger` (the memory budget) counts them."""
LEDGER_SHARE = 2
"""Divisor of MEMORY_BUDGET: cached extractions may hold at most the budget divided by this number."""
MAX_QUEUE = 64
LIVE_SECONDS = 5.0
START_BYTES = 32
"""Maximum number of bytes at the beginning of a file that the cache keeps."""
RECENT_SECONDS = 60.0
"""Maximum age, in seconds, of an extraction that is used instead of a new one when URLs have expired. The tracks of a
stream, and the streams of a page, find that their URLs have expired one after another, and one new extraction suffices
for all of them."""
EXPIRY_MARGIN = 10.0
"""Seconds before the expiry of an extraction's URLs at which the cache drops the extraction."""


Accepts = Callable[[Media], bool]
"""Type of a function that returns whether a recent extraction can be used instead of a new one."""


class PageReader(Protocol):
    """Interface of an object that extracts pages. `Workers` implements it."""

    async def extract(self, url: str, client: str = "") -> Media: ...


@dataclass(frozen=True, slots=True)
class Beginning:
    """The beginning of a file: its first bytes, START_BYTES at most, and its length in bytes. The length is None if no
    response has stated it. `by_range` states whether the media server has sent these bytes as a range."""

    start: bytes
    total: int | None
    by_range: bool = False

    @classmethod
    def of(cls, first: bytes, total: int | None, *, by_range: bool = False) -> Beginning:
        return cls(first[:START_BYTES], total, by_range)

    def agrees(self, other: Beginning) -> bool:
        """Return whether both may be beginnings of the same file."""
        known = min(len(self.start), len(other.start))
        is_as_long = None in (self.total, other.total) or self.total == other.total
        return is_as_long and self.start[:known] == other.start[:known]


@dataclass(slots=True)
class _Cached:
    media: Media
    size: int
    holding: Holding | None
    since: float
    until: float
    """Times at which the cache entry was stored and at which it expires, in seconds since the epoch."""
    containers: dict[tuple[str, str], Container] = field(default_factory=dict)
    """The known containers of tracks, by the id of the extraction and the id of the track."""
    beginnings: dict[tuple[str, str], Beginning] = field(default_factory=dict)
    """The known beginnings of the files of tracks, by the same ids."""


class Cache:
    """LRU cache of extractions by URL, bounded by the number of extractions and by the memory that they take."""

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

    def recent(self, url: str) -> Media | None:
        """Return the extraction of `url`, unless it is older than RECENT_SECONDS."""
        found = self.get(url)
        return None if found is None or self._entries[url].since < self._clock() - RECENT_SECONDS else found

    def put(self, url: str, media: Media, size: int, holding: Holding | None = None) -> None:
        """Store `media`, which takes `size` bytes, as the entry of `url`, in place of an older entry. If `media` has
        expired or is too large, only remove the older entry. `holding` is the memory charged for `media`, or None if no
        memory is charged."""
        self.discard(url)
        until = self._until(media)
        if until <= self._clock() or size > self._max_bytes or not self._size:
            if holding is not None:
                holding.use()
            return
        self._entries[url] = _Cached(media, size, holding, self._clock(), until)
        self.bytes += size
        self._trim()

    def discard(self, url: str) -> None:
        found = self._entries.pop(url, None)
        if found is not None:
            self.bytes -= found.size
            if found.holding is not None:
                found.holding.use()

    def reclaim(self, nbytes: int) -> int:
        """Drop the least recently used extractions until `nbytes` bytes are free, or until the cache is empty. Returns
        the number of bytes that were freed. An extraction that a stream still holds is dropped, but its bytes do not
        count as freed."""
        freed = 0
        while self._entries and freed < nbytes:
            _, dropped = self._entries.popitem(last=False)
            self.bytes -= dropped.size
            holding = dropped.holding
            del dropped
            freed += 0 if holding is None else holding.free()
        return freed

    def container(self, url: str, track: tuple[str, str]) -> Container | None:
        """Return the container that `keep_container` has stored for `track` of the page `url`. Returns None if the
        cache has no container for the track."""
        found = self._entries.get(url)
        return None if found is None else found.containers.get(track)

    def beginning(self, url: str, track: tuple[str, str]) -> Beginning | None:
        """Return the beginning of the file that `keep_container` has stored for `track` of the page `url`, or None."""
        found = self._entries.get(url)
        return None if found is None else found.beginnings.get(track)

    def keep_container(
        self, url: str, track: tuple[str, str], container: Container, beginning: Beginning | None = None
    ) -> None:
        """Store the container of `track`, a pair of extraction id and track id, and the beginning of its file if
        `beginning` is given. The cache drops both together with the extraction that listed the track. Does nothing if
        that extraction is no longer cached."""
        found = self._entries.get(url)
        # the extraction id of a playlist item is the id of the page's extraction, a dot and the item's number
        raw_id, _, _item = track[0].partition(".")
        if found is None or found.media.raw_id != raw_id:
            return
        if track not in found.containers:
            found.size += CONTAINER_BYTES
            self.bytes += CONTAINER_BYTES
        found.containers[track] = container
        if beginning is not None:
            found.beginnings[track] = beginning
        self._trim()

    def _trim(self) -> None:
        while len(self._entries) > self._size or self.bytes > self._max_bytes:
            self.discard(next(iter(self._entries)))

    def _until(self, media: Media) -> float:
        ttl = min(self._ttl, LIVE_SECONDS) if media.kind == "live" else self._ttl
        until = self._clock() + ttl
        return until if media.expires is None else min(until, media.expires - EXPIRY_MARGIN)


class Extractor:
    """The cache of extractions, and the extractions in progress, in one event loop. The extractor does not close
    `workers`; their owner does. `ledger` is charged with the memory of the extractions as long as they exist. If
    `ledger` is None, only the size of the cache is bounded."""

    def __init__(
        self,
        workers: PageReader,
        *,
        ttl: float = 300.0,
        size: int = 1000,
        ledger: Ledger | None = None,
        max_queue: int = MAX_QUEUE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._workers = workers
        self._ledger = ledger
        max_bytes = MAX_CACHE_BYTES if ledger is None else ledger.total_bytes // LEDGER_SHARE
        self._cache = Cache(ttl=ttl, size=size, max_bytes=max_bytes, clock=clock)
        if ledger is not None:
            ledger.add_reclaimer(self._cache.reclaim)
        self._flights = SharedFlights[str, Media]("extraction")
        self._max_queue = max_queue
        self._of_client = Counter[str]()
        self._payments = asyncio.Lock()

    async def extract(
        self, url: str, *, fresh: bool = False, accepts: Accepts | None = None, grant: Grant = UNLIMITED
    ) -> Media:
        """Return the media of the page `url`. `fresh` skips the cache and replaces the cached entry, but still joins an
        extraction in progress. If `accepts` is not None, `fresh` does not skip a recent extraction (RECENT_SECONDS) for
        which `accepts` returns True. A new extraction counts against the limits of the account of `grant`. Raises
        `Busy` if the queue is full or too little memory is free, `Draining` if the extractor is closed, and the error
        of the extraction if it fails. When the last caller that waits for an extraction is cancelled, the extraction is
        cancelled, too."""
        client = grant.account
        media = self._cached(url, fresh, accepts)
        if media is None and url not in self._flights:
            # the lock ensures that only one of several simultaneous callers for a page is charged for its extraction
            async with self._payments:
                media = self._cached(url, fresh, accepts)
                if media is None and url not in self._flights:
                    await self._pay(grant, client)
        return media or await self._flights.run(url, partial(self._extract, url, client))

    def _cached(self, url: str, fresh: bool, accepts: Accepts | None) -> Media | None:
        if not fresh:
            return self._cache.get(url)
        if accepts is None or (recent := self._cache.recent(url)) is None:
            return None
        return recent if accepts(recent) else None

    def container_of(self, url: str, media: Media, track: Track) -> Container | None:
        """Return the container of `track` of `media`, which is on the page `url`. Returns None if no stream has
        identified the container by the track's first bytes yet, or if the extraction is no longer cached."""
        return self._cache.container(url, (media.raw_id, track.id))

    def beginning_of(self, url: str, media: Media, track: Track) -> Beginning | None:
        """Return the beginning of the file of `track` of `media`, which is on the page `url`. Returns None if no stream
        has stored it, or if the extraction is no longer cached."""
        return self._cache.beginning(url, (media.raw_id, track.id))

    def keep_container(
        self, url: str, media: Media, track: Track, container: Container, beginning: Beginning | None = None
    ) -> None:
        """Store the container of `track`, and the beginning of its file if `beginning` is given, in the cache entry of
        `url`, if that entry still holds the extraction of `media`."""
        self._cache.keep_container(url, (media.raw_id, track.id), container, beginning)

    async def aclose(self) -> None:
        """Cancel every extraction in progress. The calls of `extract` that wait for one raise `Draining`.
        Idempotent."""
        await self._flights.aclose()

    async def _pay(self, grant: Grant, client: str) -> None:
        """Count an extraction that is about to start against the rate limit of `grant`. The shared extraction itself
        does not do this, because all callers that join it would then get the refusal. Raises `Busy` if the queue is
        full, or if the client of `grant` has half of the queue, and `RateLimited` if the rate limit is exceeded."""
        if len(self._flights) >= self._max_queue or (client and self._of_client[client] >= self._max_queue // 2):
            raise Busy("Too many extractions are in progress. Try again later.")
        await grant.pay_extraction()

    async def _extract(self, url: str, client: str) -> Media:
        self._of_client[client] += 1
        try:
            media = await self._workers.extract(url, client)
        finally:
            self._of_client[client] -= 1
            if not self._of_client[client]:
                del self._of_client[client]
        nbytes = await footprint(media)
        holding = None
        if self._ledger is not None:
            if not self._ledger.try_add_spare(nbytes):
                raise Busy("The page needs more memory than is free. Try again later.")
            holding = Holding(media, nbytes, self._ledger)
        self._cache.put(url, media, nbytes, holding)
        return media

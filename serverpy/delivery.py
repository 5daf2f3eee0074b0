"""The steps of one request, from admission to an open stream, in the order in which they run.

    check → enter → reserve → extract → plan → first plan that opens

`Stream.aclose` releases the reservation, and tells the grant that the stream has ended, exactly once, after the body is
closed.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

from serverpy.access.grant import UNLIMITED, Grant
from serverpy.body import Body, Opener, Source
from serverpy.errors import (
    Busy,
    DrmProtected,
    ExtractionFailed,
    FormatNotFound,
    GeoRestricted,
    KeyForbids,
    LoginRequired,
    MediaNotFound,
    QuotaExceeded,
    ServerPYError,
    TooLarge,
    UnsupportedConversion,
    shortage,
)
from serverpy.extraction.choice import item_of, pick_entry, playable_first
from serverpy.extraction.extractor import Extractor
from serverpy.extraction.values import Entry, Media
from serverpy.extraction.workers import Workers
from serverpy.fallback import Hosts, Pairs, pair_key, plans_after, plans_around
from serverpy.memory.budget import Budget, Reservation
from serverpy.net.guard import check_url
from serverpy.net.lookups import asking_client
from serverpy.plan import After, Capabilities, Plan, StreamRequest, check, needs_selection, plans, streamable
from serverpy.running import Record, unlisted
from serverpy.single_flight import LedFlights
from serverpy.tasks import in_thread

logger = logging.getLogger(__name__)
T = TypeVar("T")

FEW_TRACKS = 100
"""Maximum number of tracks of a page among which the event loop itself chooses. The choice among so many takes a
millisecond."""
MAX_TRIES = 5
"""Maximum number of items that are extracted to find the first that has media."""
PROBE_SECONDS = 5.0
"""Maximum number of seconds for which `Delivery.default` waits for a media server."""
_WITHOUT_MEDIA = (
    MediaNotFound,
    LoginRequired,
    GeoRestricted,
    DrmProtected,
    ExtractionFailed,
    UnsupportedConversion,
)
"""Errors that mean that one item of a playlist gives this server no media, although the next item may give some."""


class Stream:
    """An open body with its memory reservation. The owner of the stream closes it."""

    def __init__(
        self,
        body: Body,
        reservation: Reservation,
        record: Record,
        *,
        max_bytes: int | None,
        collect: bool,
        grant: Grant = UNLIMITED,
    ) -> None:
        self.head = body.head
        self.timings = body.head.timings
        """Durations in seconds of the phases of the request, for the `Server-Timing` header."""
        self.method = record.method or "-"
        self._body = body
        self._reservation = reservation
        self._left_bytes = math.inf if max_bytes is None else max_bytes
        self._collect = collect
        self._grant = grant
        self._spend = grant.spend if grant.counts_bytes else None
        self._exceeded: QuotaExceeded | None = None
        """The error of the next read, if the previous read returned the last bytes that the grant allows."""
        self._is_closed = False

    async def read(self) -> bytes:
        """Return the next bytes, or `b""` at the end of the stream. Raises the errors of the body, `TooLarge` if the
        stream exceeds MAX_BYTES, `QuotaExceeded` if the grant allows no more bytes, and RuntimeError if the stream is
        closed."""
        if self._is_closed:
            raise RuntimeError("the stream is closed: open a new stream to read again")
        if self._exceeded is not None:
            raise self._exceeded
        chunk = await self._body.read()
        self._left_bytes -= len(chunk)
        if self._left_bytes < 0:
            raise _too_large()
        return chunk if self._spend is None else self._spent(self._spend, chunk)

    def _spent(self, spend: Callable[[int], None], chunk: bytes) -> bytes:
        """Return the bytes of `chunk` that the grant allows. Raises `QuotaExceeded` if it allows none of them."""
        try:
            spend(len(chunk))
        except QuotaExceeded as error:
            if not error.left:
                raise
            self._exceeded = error
            return chunk[: error.left]
        return chunk

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> bytes:
        if chunk := await self.read():
            return chunk
        raise StopAsyncIteration

    @property
    def loss(self) -> ServerPYError | None:
        """The error with which the stream was lost between two reads, or None if the stream is not lost
        (`Body.loss`)."""
        return self._body.loss

    def when_lost(self, tell: Callable[[], None]) -> None:
        """Register `tell`, which the body calls when the stream is lost between two reads (`Body.when_lost`)."""
        self._body.when_lost(tell)

    async def aclose(self) -> None:
        """Close the body, release the reservation, and tell the grant that the stream has ended. Idempotent."""
        was_closed, self._is_closed = self._is_closed, True
        try:
            await self._body.aclose()
        finally:
            self._reservation.release()
            if not was_closed:
                self._grant.leave()
        if self._collect:
            gc.collect()


@dataclass(slots=True)
class Clock:
    """A stopwatch of the phases of a request. `seconds` maps each phase to its duration, for the `Server-Timing`
    header."""

    seconds: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.monotonic)

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = now - self._since
        self._since = now


class Delivery:
    """The steps from a request to an open stream. `openers` maps the opener names in the plans of `capabilities` to the
    openers."""

    def __init__(
        self,
        *,
        budget: Budget,
        extractor: Extractor,
        selector: Workers,
        openers: Mapping[str, Opener],
        capabilities: Capabilities,
        max_bytes: int | None,
        collect: bool,
    ) -> None:
        self.capabilities = capabilities
        self._budget = budget
        self._extractor = extractor
        self._selector = selector
        self._openers = openers
        self._max_bytes = max_bytes
        self._collect = collect
        self._hosts = Hosts()
        self._pairs = Pairs()
        self._probes = LedFlights[bytes, ServerPYError | None]()
        self._many_tracks = asyncio.Semaphore(1)
        self.fallbacks = 0
        """Number of times that `auto` tried `embedded` because the HTTP client of `relay` failed."""

    async def open(self, request: StreamRequest, record: Record | None = None, grant: Grant = UNLIMITED) -> Stream:
        """Open the stream that `request` asks for and `grant` allows, read its first bytes, and describe the stream in
        `record`. Raises a `ServerPYError` if the stream cannot be opened. Releases all resources if it raises an
        error or is cancelled."""
        record, clock = record or unlisted(), Clock()
        url = check_url(request.url)
        if url != request.url:
            request = replace(request, url=url)
        record.host, record.account = urlsplit(request.url).netloc, grant.account
        asking_client.set(None if grant.is_local else grant.account)
        check(request)
        allowed = self.capabilities.allowed_for(request).restricted_to(grant.methods)
        await grant.enter(head_only=request.head_only)
        reservation = None
        try:
            reservation = await self._budget.reserve(allowed.admission_bytes)
            record.is_admitted = True
            clock.lap("wait")
            source = await self._locate(request, allowed, grant)
            request = await self._select(source.media, request, allowed)
            found = await self.by_tracks(source.media, partial(plans, source.media, request, allowed))
            planned = plans_around(self._pairs.openable(found), request, self._hosts)
            record.site = None if source.media is None else source.media.extractor
            clock.lap("extract")
            body = await self._open_first(planned, source, reservation, record)
        except BaseException as error:
            if reservation is not None:
                reservation.release()
            grant.leave()
            if (busy := _shortage(error)) is not None:
                raise busy from error
            raise
        stream = Stream(body, reservation, record, max_bytes=self._max_bytes, collect=self._collect, grant=grant)
        grant.settle()
        stream.timings = {**clock.seconds, **body.head.timings}
        if self._max_bytes is not None and max(stream.head.total or 0, stream.head.length or 0) > self._max_bytes:
            await stream.aclose()
            raise _too_large()
        return stream

    async def info(self, url: str, grant: Grant = UNLIMITED) -> Media:
        """Extract the page at `url`. Raises a `ServerPYError` if the extraction fails, or if `grant` does not allow the
        site."""
        asking_client.set(None if grant.is_local else grant.account)
        try:
            media = await self._extractor.extract(check_url(url), grant=grant)
        except Exception as error:
            if (busy := _shortage(error)) is not None:
                raise busy from error
            raise
        grant.check_site(media.extractor)
        return media

    async def default(self, url: str, media: Media, grant: Grant = UNLIMITED) -> Plan | None:
        """Return the plan by which a request for `media`, the page at `url`, is served if it names no format. Returns
        None if such a request would be refused, or if `media` is a playlist. If only the segments of the best tracks
        show whether these tracks can be merged, requests the first segment of each; the call may then take
        PROBE_SECONDS. `url` must be valid."""
        request = StreamRequest(url=check_url(url), head_only=True)
        try:
            allowed = self.capabilities.allowed_for(request).restricted_to(grant.methods)
            found = await self.by_tracks(media, partial(plans, media, request, allowed))
        except ServerPYError:
            return None
        if not self._pairs.are_uncertain(found):
            return self._pairs.openable(found)[0]
        first, source = found[0], _source(request, media, None, grant)
        try:
            error = await self._probes.run(pair_key(first), lambda: self._probe(first, source))
        except Exception as failure:
            if (busy := _shortage(failure)) is not None:
                raise busy from failure
            raise
        left = () if error is None else plans_after(error, found[1:])
        return left[0] if left else first

    async def _probe(self, plan: Plan, source: Source) -> ServerPYError | None:
        """Try to open a stream of `plan`. Returns the error if the stream cannot be opened. Returns None if it can be
        opened, or if the attempt takes longer than PROBE_SECONDS. If the attempt does not show whether the pair of
        `plan` can be merged, no further attempt is made for REST_SECONDS."""
        asking_client.set(None if source.grant.is_local else source.grant.account)
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await source.grant.enter(head_only=True)
                try:
                    await self._open_and_close(plan, source)
                finally:
                    source.grant.leave()
        except ServerPYError as error:
            self._pairs.rest(plan)
            return error
        except TimeoutError:
            self._pairs.rest(plan)
        return None

    async def _open_and_close(self, plan: Plan, source: Source) -> None:
        reservation = await self._budget.reserve(plan.nbytes)
        try:
            body = await self._open(plan, source, reservation, unlisted())
            await body.aclose()
        finally:
            reservation.release()

    async def by_tracks(self, media: Media | None, work: Callable[[], T]) -> T:
        """Return the result of `work`, whose time grows with the number of tracks of `media`. If there are more than
        FEW_TRACKS, runs `work` in a thread, so that the event loop can run other tasks meanwhile. Only one such thread
        runs at a time, because `work` holds the interpreter lock."""
        if media is None or len(media.tracks) <= FEW_TRACKS:
            return work()
        async with self._many_tracks:
            return await in_thread(work, name="many tracks")

    async def _locate(self, request: StreamRequest, allowed: Capabilities, grant: Grant) -> Source:
        """Extract the page of `request`, or its item with the number `request.item`, and return the result as a
        `Source`. Extracts nothing if the only allowed method extracts the page itself."""
        if allowed.extracts:
            if grant.limits_sites:
                raise KeyForbids(
                    f"This API key allows only certain sites, and the method {allowed.methods[0]} cannot check the "
                    "site: choose another method."
                )
            await grant.pay_extraction()
            source = _source(request, None, request.item, grant)
            return replace(source, wish=allowed.wish_of(request))
        media = await self._extractor.extract(request.url, grant=grant)
        grant.check_site(media.extractor)
        entry = pick_entry(media, request.item)
        if entry is None:
            return _source(request, media, None, grant)
        if request.item is not None:
            return await self._item(request, entry, request.item, grant)
        return await self._first_item(request, playable_first(media), grant)

    async def _first_item(self, request: StreamRequest, entries: Sequence[tuple[int, Entry]], grant: Grant) -> Source:
        """Find the first of `entries`, each with its 1-based number, that has media. Raises the error of the first
        entry if none has media, or if none of the first MAX_TRIES entries that must be extracted has any."""
        failures: list[ServerPYError] = []
        tries = 0
        for number, entry in entries:
            tries += entry.media is None and entry.url is not None
            if tries > MAX_TRIES:
                break
            try:
                return await self._item(request, entry, number, grant)
            except _WITHOUT_MEDIA as error:
                failures.append(error)
        raise failures[0]

    async def _item(self, request: StreamRequest, entry: Entry, number: int, grant: Grant) -> Source:
        """Return the media of `entry`, which is the item `number` of its page, as a `Source`."""
        if entry.media is not None:
            if not entry.media.tracks:
                raise MediaNotFound("This item of the page has no media: choose another `item`.")
            return _source(request, entry.media, number, grant)
        if entry.url is None:
            raise MediaNotFound("Yt-dlp found no URL for this item of the page: choose another `item`.")
        # an address that comes from an extraction may contain data that yt-dlp smuggled into it, or be an `OwnAddress`
        media = await self._extractor.extract(entry.url, grant=grant)
        grant.check_site(media.extractor)
        if media.entries and not media.tracks:
            raise UnsupportedConversion("This item is a playlist itself: request its own URL.")
        if not media.tracks:
            raise MediaNotFound("This item of the page has no media: choose another `item`.")
        return replace(_source(request, media, None, grant), url=entry.url)

    async def _select(self, media: Media | None, request: StreamRequest, allowed: Capabilities) -> StreamRequest:
        """Have yt-dlp apply the format selector of `request`, if the request has a selector. Returns `request` with the
        ids of the selected tracks. Raises `FormatNotFound` if the selector matches no tracks."""
        if media is None or request.format is None or not needs_selection(media, request, self.capabilities):
            return request
        able = streamable(media)
        try:
            kinds = await self.by_tracks(media, partial(allowed.kinds_of, able.tracks))
            selections = await self._selector.select(able, request.format, kinds)
        except FormatNotFound:
            if able is media:
                raise
            # select among all tracks: the plan then states why the selected track cannot be streamed
            selections = await self._selector.select(media, request.format)
        return replace(request, selections=selections)

    async def _open_first(
        self, planned: tuple[Plan, ...], source: Source, reservation: Reservation, record: Record
    ) -> Body:
        """Open the first of `planned` that can be opened. Raises the error of a plan if no further plan is worth
        trying."""
        plan, *rest = planned
        try:
            return await self._open(plan, source, reservation, record)
        except ServerPYError as error:
            left = plans_after(error, tuple(rest))
            if not left:
                raise
            ids = "+".join(track.id for track in plan.tracks)
            logger.info(
                "the tracks %s cannot be opened by the method %s, so the server tries the method %s: %s",
                ids,
                plan.method,
                left[0].method,
                error.detail,
            )
        if left[0].after is After.TRANSPORT:
            return await self._fall_back(plan, left, source, reservation, record)
        self._hosts.discard(plan)
        return await self._open_first(left, source, reservation, record)

    async def _fall_back(
        self, failed: Plan, left: tuple[Plan, ...], source: Source, reservation: Reservation, record: Record
    ) -> Body:
        """Open the media of the plan `failed` by the plans `left`, which use yt-dlp's HTTP client. Uses the latest
        extraction, because the failed plan may have renewed the extraction. If one of the plans `left` opens the media,
        remembers the media server, so that later requests begin with such a plan."""
        self.fallbacks += 1
        latest = item_of(await self._extractor.extract(source.url, grant=source.grant), source.item)
        body = await self._open_first(left, replace(source, media=latest), reservation, record)
        self._hosts.add(failed)
        return body

    async def _open(self, plan: Plan, source: Source, reservation: Reservation, record: Record) -> Body:
        record.plan = plan.without_lists()
        await _hold(reservation, plan.nbytes)
        try:
            body = await self._openers[plan.opener].open(plan, source, reservation)
        except ServerPYError as error:
            self._pairs.add(plan, error)
            raise
        self._pairs.add(plan)
        return body


def _source(request: StreamRequest, media: Media | None, item: int | None, grant: Grant) -> Source:
    return Source(
        url=request.url,
        media=media,
        format=request.format,
        item=item,
        range=None if request.head_only else request.range,
        if_range=None if request.head_only else request.if_range,
        start=request.start,
        head_only=request.head_only,
        grant=grant,
    )


async def _hold(reservation: Reservation, nbytes: int) -> None:
    """Grow or shrink `reservation` to exactly `nbytes`, the number of bytes that the next body may hold."""
    if reservation.nbytes > nbytes:
        reservation.shrink(reservation.nbytes - nbytes)
    await reservation.grow(nbytes - reservation.nbytes)


def _shortage(error: BaseException) -> Busy | None:
    """Return the error for the client, and log `error`, if `error` shows that the system has run out of a resource.
    Returns None if `error` has another cause."""
    busy = shortage(error)
    if busy is not None:
        logger.warning("a request was refused because the system has run out of a resource: %s", error)
    return busy


def _too_large() -> TooLarge:
    return TooLarge("The media is larger than this server allows: choose a smaller format.")

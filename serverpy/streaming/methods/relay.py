"""The method `relay`, which reads media from the media server with this server's own HTTP client, in the event loop,
and passes the bytes to the client. The requests have the cookies and headers of the extraction."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import Protocol

from serverpy import containers
from serverpy.body import SESSION_BYTES, UNBOUNDED, Body, Head, HeadOnly, Source
from serverpy.containers import Container
from serverpy.errors import (
    InvalidParameter,
    NotMedia,
    RangeNotSatisfiable,
    RateLimited,
    ServerPYError,
    UpstreamFailed,
)
from serverpy.extraction.choice import duration_of
from serverpy.extraction.extractor import Beginning, Extractor
from serverpy.extraction.values import DASH_PROTOCOL, HLS_PROTOCOLS, Media, Track
from serverpy.memory.room import NO_ROOM, Lender
from serverpy.net.client import Client, Response
from serverpy.net.connection import LARGE_STEP, SMALL_STEP
from serverpy.net.http1 import Headers
from serverpy.net.resume import OVERLAP_BYTES, Extent, ResumingRead, open_resuming
from serverpy.options import Identity, Timeouts
from serverpy.plan import UNCUT, Capability, Plan
from serverpy.ranges import ByteRange
from serverpy.streaming.deadline import FirstByteWithin
from serverpy.streaming.fanout import Fanout, Turn
from serverpy.streaming.first_bytes import NoMedia, brings_beginning, first_chunks, read_beginning
from serverpy.streaming.pace import Pace
from serverpy.streaming.segments.manifest import PLAYLIST_BYTES
from serverpy.streaming.segments.segmented import SegmentedRead, open_segmented
from serverpy.streaming.track_source import TrackSource, extract_anew, is_same_address
from serverpy.tasks import Interruptible

TAIL_BYTES = 1024
"""Number of bytes by which the last read of a body may exceed the usual step. A body of 64 KiB then takes two reads
instead of three, because the first read also contains the response head."""


class Read(Protocol):
    """An open read of any kind: of a file (`ResumingRead`), of the segments of a playlist (`SegmentedRead`), or of a
    live stream that several clients share (`Reader`)."""

    extent: Extent
    partial: bool
    honoured: bool
    headers: Headers
    connect_seconds: float
    is_live: bool
    """Whether this object reads a live stream that has not ended."""
    takes_large_steps: bool
    """Whether `read` can return more bytes at once if its argument `most` is larger."""

    @property
    def loss(self) -> ServerPYError | None: ...

    def when_lost(self, tell: Callable[[], None]) -> None: ...

    async def read(self, most: int = SMALL_STEP) -> bytes: ...

    async def aclose(self) -> None: ...


class Relay:
    """The opener of media over http(s): plain files, HLS and DASH. The opener supports ranges if the media server
    supports them, and resumes a read if the media server cuts the connection (`net/resume.py`)."""

    stream_bytes = SESSION_BYTES + OVERLAP_BYTES + 2 * SMALL_STEP + TAIL_BYTES

    def __init__(
        self,
        client: Client,
        extractor: Extractor,
        fanout: Fanout,
        timeouts: Timeouts = Timeouts(),
        identity: Identity = Identity(),
    ) -> None:
        self._client = client
        self._extractor = extractor
        self._fanout = fanout
        self._wait_seconds = timeouts.wait
        self.stall_timeout = client.stall_timeout
        """Maximum number of seconds for which a media server may send no byte, before or during a stream."""
        self._impersonate = identity.impersonate is not None
        self.capability = Capability(
            opener="relay",
            method="relay",
            stream_bytes=self.stream_bytes,
            carries=self.carries,
            bytes_for=_bytes_for,
            seeks=True,
            starts_live=True,
        )

    def carries(self, track: Track) -> bool:
        """Return whether this method can open the track: a file over http(s), HLS, or DASH that is not live. Tracks
        that need browser impersonation are left to yt-dlp (curl_cffi), and so are tracks for which the extractor has
        set a Range header of its own."""
        return (
            (_is_plain(track) or _is_segmented(track))
            and not (track.has_drm or track.refusal or track.needs_ytdlp or track.fragments_dynamic)
            and track.impersonate is None
            and not self._impersonate
            and not any(name.lower() == "range" for name in track.headers)
        )

    async def open(self, plan: Plan, source: Source, reservation: Lender) -> Body:
        """Open `plan` as `body.py::Opener` specifies. `plan.container` is the container of the file, or None if the
        caller does not know it."""
        (track,) = plan.tracks
        if source.start is not None and not _is_segmented(track):
            raise InvalidParameter(UNCUT)
        await self._until_available(track)
        begun = time.monotonic()
        with FirstByteWithin(self.stall_timeout):
            try:
                return await self._open_media(plan, source, track, reservation, begun)
            except (NotMedia, NoMedia) as error:
                source, track = await self._extract_anew(source, track, error)
                return await self._open_media(plan, source, track, reservation, begun)

    async def _open_media(self, plan: Plan, source: Source, track: Track, lender: Lender, begun: float) -> Body:
        """Open a read of the bytes that `source` requests, identify the container by the first bytes of the file, and
        return the body. Raises `NotMedia` or `NoMedia` if the file is not media."""
        read, address = None, TrackSource(self._client, self._extractor, source, _media(source), track)
        if source.head_only and _is_plain(track):
            return await self._open_head(source, address, begun)
        try:
            container = plan.container or self._extractor.container_of(source.url, _media(source), track)
            beginning = self._extractor.beginning_of(source.url, _media(source), track)
            is_suffix = source.range is not None and source.range.first is None
            total = None if beginning is None or is_suffix else beginning.total
            if container is None and _needs_beginning(source, track):
                container, beginning = await self._sniff(source, address)
                total = beginning.total
            if beginning is not None and beginning.by_range:
                source = replace(source, needs_range=True)
            read = await self._open_read(source, track, address, lender, total)
            first = await first_chunks(read.read)
            joined = b"".join(first)
            if plan.container is None and _is_doubtful(read, joined, source, beginning):
                await read.aclose()
                read = await self._open_whole(address)
                first = await first_chunks(read.read)
                joined = b"".join(first)
            if plan.container is None and _has_other_length(read, beginning):
                container = None  # the file has changed, or the URL has expired and leads to a page
            container = await self._container(read, joined, container, source, address)
        except BaseException:
            if read is not None:
                await read.aclose()
            raise
        head = _head(read, read.extent, container, source, track, begun)
        if source.head_only:
            await read.aclose()
            return HeadOnly(head)
        return RelayBody(read, head, first, Pace(lender if read.takes_large_steps else NO_ROOM))

    async def _extract_anew(self, source: Source, track: Track, error: ServerPYError) -> tuple[Source, Track]:
        """Extract the page again, and return the source and the track with a fresh URL. The old URL may have expired:
        `error` is the error of the response to the request for it, because a media server may answer such a request
        with a web page or without a body. Raises `error` if the new URL is the same as the old URL, or if the
        extraction fails, and `RateLimited` if the client may not extract more pages now."""
        try:
            media, fresh = await extract_anew(
                self._extractor, source.url, source.item, track, source.grant, partial(_differs, source, track)
            )
        except RateLimited:
            raise
        except ServerPYError as failure:
            raise error from failure
        if not _differs(source, track, media, fresh):
            raise error
        await self._until_available(fresh)
        return replace(source, media=media), fresh

    async def _open_head(self, source: Source, address: TrackSource, begun: float) -> HeadOnly:
        """Read the first bytes of a file to identify its container. Returns a body without bytes, whose head describes
        the whole file."""
        try:
            read, first = await read_beginning(partial(self._open_file, address))
        except RangeNotSatisfiable:  # this server chose the range, so the client must not get status 416
            raise UpstreamFailed("The media is empty.") from None
        container = self._identify(source, address.track, first, read)
        whole = Extent(0, read.extent.total, read.extent.total)
        return HeadOnly(replace(_head(read, whole, container, source, address.track, begun), partial=False))

    async def _sniff(self, source: Source, address: TrackSource) -> tuple[Container, Beginning]:
        """Identify the container of a file by its first bytes, which a separate request fetches. Returns the container
        and the beginning of the file."""
        read, first = await read_beginning(partial(self._open_file, address))
        container = self._identify(source, address.track, first, read)
        return container, Beginning.of(first, read.extent.total, by_range=read.partial)

    async def _container(
        self, read: Read, first: bytes, known: Container | None, source: Source, address: TrackSource
    ) -> Container:
        """Return the container of the file whose bytes `read` returns, beginning with `first`. If `first` is the
        beginning of the file and long enough, identifies the container by `first`. Otherwise returns `known` or, if
        `known` is None, requests the first bytes of the file and identifies the container by them."""
        extent = read.extent
        if extent.first == 0 and (len(first) >= containers.enough_bytes(first) or extent.end == extent.total):
            return self._identify(source, address.track, first, read)
        if known is not None:
            return known
        if isinstance(read, SegmentedRead):
            return self._identify(source, address.track, await read.beginning(), read)
        container, _ = await self._sniff(source, address)
        return container

    def _identify(self, source: Source, track: Track, first: bytes, read: Read) -> Container:
        """Identify the container of the file of `read` by its first bytes, and store the container and the beginning of
        the file in the cache together with the extraction. Raises `NotMedia` if the file is not media."""
        declared_type = read.headers.get("content-type")
        container = containers.identify(first, declared_type, track.file_ext, is_audio=track.is_audio)
        beginning = Beginning.of(first, read.extent.total, by_range=read.partial) if _is_plain(track) else None
        self._extractor.keep_container(source.url, _media(source), track, container, beginning)
        return container

    async def _open_read(
        self, source: Source, track: Track, address: TrackSource, lender: Lender, total: int | None
    ) -> Read:
        """Open the media of `track`. All clients of a live stream that begin at its live edge share one read; any other
        stream gets a read for this client alone. `total` is the length of the file in bytes, or None if it is
        unknown."""
        if source.start is not None or track.protocol not in HLS_PROTOCOLS:
            return await self._open_own(source, track, address, lender, total)
        key = (source.url, source.item, _media(source).id, track.id, track.ext)
        async with self._fanout.turn(key) as turn:
            if (reader := self._fanout.join(key)) is not None:
                return reader
            if not turn.is_unshared:
                return await self._open_first(key, turn, source, track, address, lender)
        return await self._join_after_all(key, await self._open_own(source, track, address, lender))

    async def _open_first(
        self, key: Hashable, turn: Turn, source: Source, track: Track, address: TrackSource, lender: Lender
    ) -> Read:
        """Open the upstream as the first caller, and share it if it is a live stream. Until the upstream is open, the
        other callers wait, because only the playlist shows whether the stream is live."""
        try:
            own = await self._open_own(source, track, address, lender)
        except ServerPYError:
            turn.is_unshared = True
            raise
        reader = None
        if isinstance(own, SegmentedRead) and own.follows_edge:
            reader = self._fanout.share(key, own)
        turn.is_unshared = reader is None
        return reader or own

    async def _join_after_all(self, key: Hashable, own: ResumingRead | SegmentedRead) -> Read:
        """Make the live stream `own` the shared upstream. If another caller has already shared an upstream of the same
        stream, closes `own` and joins that upstream. Returns `own` unchanged if it is not a live stream, or cannot be
        shared."""
        if not isinstance(own, SegmentedRead) or not own.follows_edge:
            return own
        reader = self._fanout.join(key)
        if reader is None:
            return self._fanout.share(key, own) or own
        try:
            await own.aclose()
        except BaseException:
            await reader.aclose()
            raise
        return reader

    async def _open_own(
        self, source: Source, track: Track, address: TrackSource, lender: Lender, total: int | None = None
    ) -> ResumingRead | SegmentedRead:
        """Open a read of the bytes that `source` requests, for this client alone."""
        if _is_segmented(track):
            # The segments have no common validator that could match If-Range, so a request with If-Range gets the whole
            # file.
            asked = source.range if source.if_range is None else None
            return await self._open_segments(source, address, lender, asked)
        return await self._open_file(
            address,
            source.range,
            source.if_range,
            total,
            continues=source.continues,
            expects_range=source.needs_range,
        )

    async def open_segments(self, source: Source, track: Track, lender: Lender) -> SegmentedRead:
        """Open a read of all segments of `track`, with unchanged bytes, for one client alone. Raises the errors of
        `open_segmented`."""
        await self._until_available(track)
        address = TrackSource(self._client, self._extractor, source, _media(source), track)
        return await self._open_segments(source, address, lender, None, completes=False)

    async def _open_segments(
        self, source: Source, address: TrackSource, lender: Lender, asked: ByteRange | None, *, completes: bool = True
    ) -> SegmentedRead:
        return await open_segmented(
            address,
            lender,
            asked,
            wait_seconds=self._wait_seconds,
            patience=self.stall_timeout,
            start=source.start,
            duration=duration_of(_media(source), address.track),
            completes=completes,
        )

    async def _open_file(
        self,
        address: TrackSource,
        asked: ByteRange | None,
        if_range: str | None = None,
        total: int | None = None,
        *,
        continues: bool = False,
        expects_range: bool = False,
    ) -> ResumingRead:
        track = address.track
        return await open_resuming(
            FileSource(address, self._until_available),
            asked,
            if_range,
            ranges=_has_ranges(track),
            window_bytes=track.http_chunk_size,
            wait_seconds=self._wait_seconds,
            renewals=1,
            total=total,
            continues=continues,
            expects_range=expects_range,
        )

    async def _open_whole(self, address: TrackSource) -> ResumingRead:
        """Open the whole file by a request without Range."""
        return await open_resuming(
            FileSource(address, self._until_available), ranges=False, wait_seconds=self._wait_seconds, renewals=1
        )

    async def _until_available(self, track: Track) -> None:
        """Wait until the media server accepts the URL of the track: on some sites, a URL works only some seconds after
        the extraction (YouTube: 5 seconds)."""
        seconds = (track.available_at or 0) - time.time()
        if seconds > self._wait_seconds:
            raise UpstreamFailed("The media is not available yet. Try again later.")
        if seconds > 0:
            await asyncio.sleep(seconds + 0.01)  # 10 ms longer, because a timer may fire some milliseconds early


class RelayBody:
    """An open stream of the method `relay`. The caller must not call `read` after `aclose`."""

    def __init__(self, read: Read, head: Head, first: list[bytes], pace: Pace) -> None:
        self.head = head
        self._read = read
        self._first = deque(first)
        self._pace = pace
        self._left = head.length
        self._reads = Interruptible()

    async def read(self, most: int = UNBOUNDED) -> bytes:
        if self._first:
            chunk = self._first.popleft()
        else:
            chunk = await self._reads.run(self._read.read(min(self._step(), most)))
            self._pace.hand(len(chunk), time.monotonic())
        if self._left is not None:
            self._left -= len(chunk)
        return chunk

    def _step(self) -> int:
        step = self._pace.step(time.monotonic())
        if self._left is None or self._left > step + TAIL_BYTES:
            return step
        return min(step + TAIL_BYTES, LARGE_STEP)

    @property
    def loss(self) -> ServerPYError | None:
        return self._read.loss

    def when_lost(self, tell: Callable[[], None]) -> None:
        self._read.when_lost(tell)

    async def aclose(self) -> None:
        await self._reads.interrupt()
        try:
            await self._read.aclose()
        finally:
            self._pace.release()


def _bytes_for(tracks: tuple[Track, ...]) -> int:
    return Relay.stream_bytes + (PLAYLIST_BYTES if any(map(_is_segmented, tracks)) else 0)


def _is_plain(track: Track) -> bool:
    return track.protocol in ("http", "https") and not track.fragments


def _has_ranges(track: Track) -> bool:
    return track.request_data is None and not track.no_resume


def _needs_beginning(source: Source, track: Track) -> bool:
    """Return whether the first bytes of the file must be requested separately: the range that `source` requests does
    not contain them, and a range request can get them."""
    return _is_plain(track) and _has_ranges(track) and not brings_beginning(source.range)


def _is_doubtful(read: Read, first: bytes, source: Source, beginning: Beginning | None) -> bool:
    """Return whether `read`, which begins with the bytes `first`, may return only the requested range instead of the
    whole file: the media server has responded to the range request as if it ignored ranges, but the response does not
    agree with the known beginning of the file."""
    if source.range is None or source.if_range is not None or read.honoured or beginning is None:
        return False
    return not beginning.agrees(Beginning.of(first, read.extent.total))


def _has_other_length(read: Read, beginning: Beginning | None) -> bool:
    """Return whether the file of `read` is not as long as the file whose `beginning` is known."""
    totals = {read.extent.total, None if beginning is None else beginning.total}
    return None not in totals and len(totals) > 1


def _is_segmented(track: Track) -> bool:
    """Return whether this method reads the track as segments: HLS, finished or live, or DASH that is not live and whose
    fragments the extraction lists. Returns False for segmented subtitles, because only yt-dlp can reassemble them."""
    if track.is_from_start or track.ext == "vtt":
        return False
    if track.protocol == DASH_PROTOCOL:
        return bool(track.fragments) and not track.is_live
    return track.protocol in HLS_PROTOCOLS


def _head(read: Read, extent: Extent, container: Container, source: Source, track: Track, begun: float) -> Head:
    return Head(
        content_type=container.content_type,
        ext=container.ext if container.ext != "bin" else track.file_ext,
        length=None if extent.end is None else extent.end - extent.first,
        start=extent.first,
        total=extent.total,
        partial=read.honoured,
        seekable=read.partial,
        is_live=read.is_live or track.is_live,
        duration=_duration(read, source, track),
        estimate=None if extent.end is not None else track.size,
        etag=read.headers.get("etag"),
        last_modified=read.headers.get("last-modified"),
        title=_media(source).title,
        address=read.url if isinstance(read, ResumingRead) else None,
        timings={"connect": read.connect_seconds, "first-byte": time.monotonic() - begun},
    )


def _duration(read: Read, source: Source, track: Track) -> float | None:
    if isinstance(read, SegmentedRead):
        return read.duration
    return None if read.is_live else duration_of(_media(source), track)


def _media(source: Source) -> Media:
    assert source.media is not None
    return source.media


def _differs(source: Source, track: Track, media: Media, other: Track) -> bool:
    """Return whether the requests for `other` of `media` are different from those for `track` of `source`."""
    return not is_same_address(_media(source), track, media, other)


class FileSource:
    """The source of the range requests for a track that is one file (`net/range_requests.py::RangeSource`).
    `until_available` is a function that waits until the media server accepts the URL of a track."""

    def __init__(self, address: TrackSource, until_available: Callable[[Track], Awaitable[None]]) -> None:
        self._address = address
        self._until_available = until_available

    async def open(self, headers: dict[str, str]) -> Response:
        return await self._address.open_media(self._address.track.url, headers)

    async def renew(self) -> bool:
        is_fresh = await self._address.renew()
        if is_fresh:
            await self._until_available(self._address.track)
        return is_fresh

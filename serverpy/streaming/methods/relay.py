"""`relay`: carries the media's bytes from its server to the client, on the event loop, in the extraction's own
session."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Protocol

from serverpy import containers
from serverpy.body import SESSION_BYTES, UNBOUNDED, Head, Source
from serverpy.errors import InvalidParameter, ServerPYError, UpstreamFailed
from serverpy.extraction.extractor import Extractor
from serverpy.extraction.values import DASH_PROTOCOL, HLS_PROTOCOLS, Media, Track
from serverpy.memory.room import NO_ROOM, Lender
from serverpy.net.client import Client, Response
from serverpy.net.connection import SMALL_STEP
from serverpy.net.http1 import Headers
from serverpy.net.resume import OVERLAP_BYTES, Extent, ResumingRead, open_resuming
from serverpy.options import Identity, Timeouts
from serverpy.plan import UNCUT, Capability, Plan
from serverpy.streaming.deadline import first_byte_within
from serverpy.streaming.fanout import Fanout, Turn
from serverpy.streaming.first_bytes import first_chunks
from serverpy.streaming.pace import Pace
from serverpy.streaming.segments.manifest import PLAYLIST_BYTES
from serverpy.streaming.segments.segmented import SegmentedRead, open_segmented
from serverpy.streaming.track_source import TrackSource
from serverpy.tasks import Interruptible


class Read(Protocol):
    """An open read of any kind: of one file (`ResumingRead`), of segments (`SegmentedRead`), or of a shared live stream
    (`Reader`)."""

    extent: Extent
    partial: bool
    honoured: bool
    headers: Headers
    connect_seconds: float
    takes_large_steps: bool
    """Whether a larger step makes it read more at once."""

    @property
    def loss(self) -> ServerPYError | None: ...

    def when_lost(self, tell: Callable[[], None]) -> None: ...

    async def read(self, most: int = SMALL_STEP) -> bytes: ...

    async def aclose(self) -> None: ...


class Relay:
    """Media over http(s): plain files, HLS and DASH. Supports ranges wherever the source does, and heals
    (`net/resume.py`)."""

    stream_bytes = SESSION_BYTES + OVERLAP_BYTES + 2 * SMALL_STEP

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
        """Return whether the track is a plain http(s) file, HLS, or DASH that is not live. Only yt-dlp (curl_cffi) can
        make a request look like a browser's, and only yt-dlp applies a Range header that the extractor itself has
        set."""
        return (
            (_is_plain(track) or _is_segmented(track))
            and not (track.has_drm or track.refusal or track.needs_ytdlp or track.fragments_dynamic)
            and track.impersonate is None
            and not self._impersonate
            and not any(name.lower() == "range" for name in track.headers)
        )

    async def open(self, plan: Plan, source: Source, reservation: Lender) -> RelayBody:
        assert source.media is not None
        (track,) = plan.tracks
        await self._until_available(track)
        begun, read = time.monotonic(), None
        try:
            async with first_byte_within(self._client.stall_timeout):
                read = await self._open_read(source, source.media, track, reservation)
                first = await first_chunks(read.read, containers.SNIFF_BYTES)
            head = _head(read, b"".join(first), source.media, track)
        except BaseException:
            if read is not None:
                await read.aclose()
            raise
        timings = {"connect": read.connect_seconds, "first-byte": time.monotonic() - begun}
        pace = Pace(reservation if read.takes_large_steps else NO_ROOM)
        return RelayBody(read, replace(head, timings=timings), first, pace)

    async def _open_read(self, source: Source, media: Media, track: Track, lender: Lender) -> Read:
        """Open a live stream at its edge together with all clients that watch it there; anything else for this client
        alone."""
        if source.start is not None or track.protocol not in HLS_PROTOCOLS:
            return await self._open_own(source, media, track, lender)
        key = (source.url, source.item, media.id, track.id, track.ext)
        async with self._fanout.turn(key) as turn:
            if (reader := self._fanout.join(key)) is not None:
                return reader
            if not turn.is_unshared:
                return await self._open_first(key, turn, source, media, track, lender)
        return await self._join_after_all(key, await self._open_own(source, media, track, lender))

    async def _open_first(
        self, key: Hashable, turn: Turn, source: Source, media: Media, track: Track, lender: Lender
    ) -> Read:
        """Open the upstream while other callers wait to know whether it is live, which only its playlist tells."""
        try:
            own = await self._open_own(source, media, track, lender)
        except ServerPYError:
            turn.is_unshared = True
            raise
        reader = None
        if isinstance(own, SegmentedRead) and own.follows_edge:
            reader = self._fanout.share(key, own)
        turn.is_unshared = reader is None
        return reader or own

    async def _join_after_all(self, key: Hashable, own: ResumingRead | SegmentedRead) -> Read:
        """Share `own`, or join a shared upstream instead of it: the first caller may have failed where a later one does
        not."""
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
        self, source: Source, media: Media, track: Track, lender: Lender
    ) -> ResumingRead | SegmentedRead:
        """Open a read of the bytes that `source` asks for."""
        address = TrackSource(self._client, self._extractor, source, media, track)
        if _is_segmented(track):
            return await open_segmented(
                address,
                lender,
                # Segments have no common validator to compare an If-Range with, so it asks for the whole.
                source.range if source.if_range is None else None,
                wait_seconds=self._wait_seconds,
                patience=self._client.stall_timeout,
                start=source.start,
            )
        if source.start is not None:
            raise InvalidParameter(UNCUT)
        return await open_resuming(
            FileSource(address),
            source.range,
            source.if_range,
            ranges=track.request_data is None and not track.no_resume,
            window_bytes=track.http_chunk_size,
            wait_seconds=self._wait_seconds,
        )

    async def _until_available(self, track: Track) -> None:
        """Wait until the media server accepts the track's URL: some sites give URLs that work only after some seconds
        (YouTube: 5)."""
        seconds = (track.available_at or 0) - time.time()
        if seconds > self._wait_seconds:
            raise UpstreamFailed("The media is not available yet.")
        await asyncio.sleep(seconds + 0.01 if seconds > 0 else 0)  # a timer may fire some milliseconds early


class RelayBody:
    """An open relay. The caller must not call `read` after `aclose`."""

    def __init__(self, read: Read, head: Head, first: list[bytes], pace: Pace) -> None:
        self.head = head
        self._read = read
        self._first = deque(first)
        self._pace = pace
        self._reads = Interruptible()

    async def read(self, most: int = UNBOUNDED) -> bytes:
        if self._first:
            return self._first.popleft()
        chunk = await self._reads.run(self._read.read(min(self._pace.step(time.monotonic()), most)))
        self._pace.hand(len(chunk), time.monotonic())
        return chunk

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


def _is_segmented(track: Track) -> bool:
    """Return whether the track is HLS, finished or live, or DASH whose fragments are known. Segmented subtitles must be
    reassembled, which is left to yt-dlp."""
    if track.is_from_start or track.ext == "vtt":
        return False
    if track.protocol == DASH_PROTOCOL:
        return bool(track.fragments) and not track.is_live
    return track.protocol in HLS_PROTOCOLS


def _head(read: Read, first: bytes, media: Media, track: Track) -> Head:
    extent = read.extent
    declared_type = read.headers.get("content-type")
    if extent.first == 0:
        container = containers.identify(first[: containers.SNIFF_BYTES], declared_type, track.file_ext)
    elif _is_segmented(track):  # many are MPEG-TS, whatever their extension says
        container = containers.by_type(declared_type) or containers.declared(declared_type, track.file_ext)
    else:
        container = containers.declared(declared_type, track.file_ext)
    return Head(
        content_type=container.content_type,
        ext=container.ext if container.ext != "bin" else track.file_ext,
        length=None if extent.end is None else extent.end - extent.first,
        start=extent.first,
        total=extent.total,
        partial=read.honoured,
        seekable=read.partial,
        estimate=None if extent.end is not None else track.size,
        etag=read.headers.get("etag"),
        last_modified=read.headers.get("last-modified"),
        title=media.title,
    )


class FileSource:
    """The media of a track that is one file (`net/range_requests.py::RangeSource`)."""

    def __init__(self, address: TrackSource) -> None:
        self._address = address
        self.renew = address.renew

    async def open(self, headers: dict[str, str]) -> Response:
        return await self._address.open_media(self._address.track.url, headers)

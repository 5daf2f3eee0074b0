"""`relay`: the media's bytes from its server to the client, on the event loop, in the extraction's own session."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from serverpy.errors import ExtractionFailed, UpstreamFailed
from serverpy.extraction.extractor import Extractor
from serverpy.extraction.formats import by_id, pick_entry
from serverpy.extraction.info import Media, Track
from serverpy.media import containers
from serverpy.net.client import Client, Response
from serverpy.net.connection import SMALL_STEP
from serverpy.net.resume import OVERLAP_BYTES, ResumingRead
from serverpy.net.session import Session
from serverpy.streaming.body import SESSION_BYTES, ByteRange, Head, Source
from serverpy.streaming.deadline import first_byte_within
from serverpy.streaming.pace import Pace


class Relay:
    """Progressive media over http(s). Gives ranges wherever the source can, and heals (`net/resume.py`)."""

    name = "relay"
    stream_bytes = SESSION_BYTES + OVERLAP_BYTES + 2 * SMALL_STEP

    def __init__(self, client: Client, extractor: Extractor, *, wait_seconds: float, impersonate: bool) -> None:
        self._client = client
        self._extractor = extractor
        self._wait_seconds = wait_seconds
        self._impersonate = impersonate

    def carries(self, track: Track) -> bool:
        """Plain http(s) files. A request that must look like a browser's is yt-dlp's (curl_cffi) to make, and so is a
        window that the extractor set by a Range header of its own."""
        return (
            track.protocol in ("http", "https")
            and not (track.has_drm or track.needs_ytdlp or track.fragments or track.fragments_dynamic)
            and track.impersonate is None
            and not self._impersonate
            and not any(name.lower() == "range" for name in track.headers)
        )

    async def open(self, source: Source) -> RelayBody:
        assert source.media is not None
        assert source.track is not None
        upstream = _Upstream(self._client, self._extractor, source, source.media, source.track)
        read = ResumingRead(
            upstream,
            window_bytes=source.track.http_chunk_size,
            wait_seconds=self._wait_seconds,
        )
        try:
            return await self._open(read, source, source.media, source.track)
        except BaseException:
            read.close()
            raise

    async def _open(self, read: ResumingRead, source: Source, media: Media, track: Track) -> RelayBody:
        await self._until_available(track)
        begun = time.monotonic()
        asked = source.range or ByteRange(None, None)
        ranges = track.request_data is None and not track.no_resume
        async with first_byte_within(self._client.stall_timeout):
            await read.open(asked.first, asked.last, source.if_range, ranges=ranges)
            first = await read.read()
        if not first:
            raise UpstreamFailed("The media is empty.")
        head = _head(read, first, media, track)
        timings = {"connect": read.connect_seconds, "first-byte": time.monotonic() - begun}
        return RelayBody(read, replace(head, timings=timings), first, Pace(source.room))

    async def _until_available(self, track: Track) -> None:
        """Some sites give addresses that are good in a few seconds only (YouTube: 5)."""
        seconds = (track.available_at or 0) - time.time()
        if seconds > self._wait_seconds:
            raise UpstreamFailed("The media is not available yet.")
        await asyncio.sleep(max(0.0, seconds))


class RelayBody:
    """An open relay. `read` after `aclose` is an error of the caller."""

    def __init__(self, read: ResumingRead, head: Head, first: bytes, pace: Pace) -> None:
        self.head = head
        self._read = read
        self._first = first
        self._pace = pace

    async def read(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        self._read.set_step(self._pace.step(time.monotonic()))
        chunk = await self._read.read()
        self._pace.hand(len(chunk), time.monotonic())
        return chunk

    async def aclose(self) -> None:
        self._read.close()


def _head(read: ResumingRead, first: bytes, media: Media, track: Track) -> Head:
    span = read.span
    declared_type = read.headers.get("content-type")
    if span.first == 0:
        container = containers.identify(first[: containers.SNIFF_BYTES], declared_type, track.file_ext)
    else:
        container = containers.declared(declared_type, track.file_ext)
    return Head(
        content_type=container.content_type,
        ext=container.ext if container.ext != "bin" else track.file_ext,
        length=None if span.end is None else span.end - span.first,
        start=span.first,
        total=span.total,
        partial=read.honoured,
        seekable=read.partial,
        estimate=None if span.end is not None else track.size,
        etag=read.headers.get("etag"),
        last_modified=read.headers.get("last-modified"),
        title=media.title,
    )


class _Upstream:
    """The track's address of the moment, and how to find a fresh one."""

    def __init__(self, client: Client, extractor: Extractor, source: Source, media: Media, track: Track) -> None:
        self._client = client
        self._extractor = extractor
        self._source = source
        self._media = media
        self._track = track
        self._session = Session(client, track.headers, media.cookies)

    async def open(self, headers: dict[str, str]) -> Response:
        body = self._track.request_data
        return await self._session.open(self._track.url, headers, None if body is None else body.encode("latin-1"))

    async def renew(self) -> bool:
        """Extract again; the same format of the same item, or nothing. Raises what an extraction raises."""
        media = await self._extractor.extract(self._source.url, fresh=True)
        if self._source.item is not None:
            entry = pick_entry(media, self._source.item)
            media = entry.media if entry is not None and entry.media is not None else media
        track = by_id(media.tracks, self._track.id)
        if track is None or track.ext != self._track.ext:
            raise ExtractionFailed("The page no longer offers the format that was being streamed.")
        if (track.url, track.headers, media.cookies) == (self._track.url, self._track.headers, self._media.cookies):
            return False
        self._media, self._track = media, track
        self._session = Session(self._client, track.headers, media.cookies)
        return True

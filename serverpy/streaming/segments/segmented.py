"""The read of the segments of a track as one file. The segments are read in order, each over the connection of the
previous segment. If the reader would otherwise have to wait, the next segment is opened in advance. If a segment cannot
be read, the whole read fails. Segments are left out only if the playlist itself marks them as missing (EXT-X-GAP), or
if only the duration that a DASH manifest states suggests that they exist, and the media server does not have them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import TypeGuard

from serverpy.containers import SNIFF_BYTES
from serverpy.errors import InvalidParameter, SourceError, UpstreamFailed
from serverpy.extraction.choice import believed_duration
from serverpy.extraction.values import DASH_PROTOCOL
from serverpy.memory.room import Lender, Room
from serverpy.net.connection import SMALL_STEP
from serverpy.net.http1 import Headers
from serverpy.net.resume import Extent
from serverpy.plan import UNCUT
from serverpy.ranges import ByteRange, resolve_range
from serverpy.segment_kinds import Judge
from serverpy.streaming.first_bytes import first_chunks
from serverpy.streaming.segments.completion import Completion
from serverpy.streaming.segments.cursor import Cursor, FinishedCursor, Load, PlaylistChanged
from serverpy.streaming.segments.keys import Keys
from serverpy.streaming.segments.live import LiveCursor
from serverpy.streaming.segments.manifest import DashManifest, HlsManifest, Manifest, load, playlist_room
from serverpy.streaming.segments.prefetch import AFTER_BYTES, Prefetch, Waits
from serverpy.streaming.segments.retries import AbsentSegment, ShortFile
from serverpy.streaming.segments.segment import Segment
from serverpy.streaming.segments.segment_read import Opening, RangedFile, SegmentRead, open_segment
from serverpy.streaming.track_source import TrackSource
from serverpy.tasks import Unlosable

log = logging.getLogger(__name__)


async def open_segmented(
    source: TrackSource,
    lender: Lender,
    asked: ByteRange | None = None,
    *,
    wait_seconds: float,
    patience: float,
    start: float | None = None,
    duration: float | None = None,
    completes: bool = True,
) -> SegmentedRead:
    """Open a read of the range `asked`, or of the whole file if `asked` is None or the length of a segment is unknown.
    `start` is the time in a live stream, in seconds, at which to begin (`live.py::LiveCursor`). `patience` is the
    number of seconds for which a live playlist may list no new segment. `duration` is the duration of the media in
    seconds, for a playlist that does not state it. `completes` states whether the duration is written into
    initialization sections that do not state it (`completion.py`). Raises the errors of `SegmentedRead.read` and of
    `load`, `RangeNotSatisfiable` if the range contains no byte of the file, and `InvalidParameter` if `start` is not
    None and the track is not live. If the call raises an error or is cancelled, it leaves no read open.
    """
    room = Room(lender)
    try:
        return await _open(source, room, asked, wait_seconds, patience, start, duration, completes=completes)
    except BaseException:
        room.release()
        raise


async def _open(
    source: TrackSource,
    room: Room,
    asked: ByteRange | None,
    wait_seconds: float,
    patience: float,
    start: float | None,
    duration: float | None,
    *,
    completes: bool,
) -> SegmentedRead:
    reload = partial(load, source, playlist_room(room), wait_seconds=wait_seconds)
    excess = 0
    kept: Manifest | None = None
    while True:
        manifest = kept or await reload()
        if not manifest.count and not _is_growing(manifest):
            raise UpstreamFailed("The media's playlist has no segments.")
        cursor = _cursor_along(manifest, reload, patience, start, is_live=source.track.is_live)
        total = None if start is not None or manifest.length is None else manifest.length - excess
        first, end = (0, None) if total is None else resolve_range(asked, total)
        is_live = _is_growing(manifest)
        seconds = None if is_live or source.track.is_live else believed_duration(manifest.duration, duration)
        completion = None if seconds is None or not completes else Completion(seconds, keeps_places=total is not None)
        follows_edge = start is None and _is_growing(manifest) and manifest.begins_at_edge
        last = manifest.last if total is not None and not excess else None
        # an extraction brings its list only once; without `last`, `_excess` returns 0, so the list is not needed again
        kept = manifest if isinstance(manifest, DashManifest) and last is not None else None
        del manifest  # the cursor holds the manifest, and memory must never hold two manifests
        segments = _Segments(
            source, cursor, Prefetch(room), skip=first, wait_seconds=wait_seconds, completion=completion
        )
        try:
            await segments.advance(None if end is None else end - first)
            excess = _excess(last, *segments.file)
        except ShortFile as error:
            excess = _excess(last, error.url, error.total)
            if not excess:
                raise
        if not excess:
            honoured = asked is not None and total is not None
            extent = Extent(first, end, total)
            return SegmentedRead(
                segments,
                room,
                extent,
                honoured=honoured,
                is_live=is_live,
                follows_edge=follows_edge,
                duration=seconds,
            )
        await segments.aclose()


def _excess(last: Segment | None, url: str | None, total: int | None) -> int:
    """Return the number of bytes by which the byte range of the last segment extends beyond the file at `url`, which
    has `total` bytes. The caller subtracts this number from the length of the track according to the playlist, because
    the file does not contain these bytes."""
    if last is None or last.end is None or total is None or last.url != url or last.first >= total:
        return 0
    return max(0, last.end - total)


class SegmentedRead(Unlosable):
    """An open read of the range `extent` of a segmented track. A `SegmentedRead` has the interface of a `ResumingRead`.
    Before the owner closes it, the owner must cancel a call of `read` in progress."""

    takes_large_steps = True

    def __init__(
        self,
        segments: _Segments,
        room: Room,
        extent: Extent,
        *,
        honoured: bool,
        is_live: bool,
        follows_edge: bool,
        duration: float | None,
    ) -> None:
        self._segments = segments
        self._room = room
        self._waits = Waits()
        self._given_bytes = 0
        self._left = None if extent.end is None else extent.end - extent.first
        first = segments.current
        self._is_over = first is None
        self.extent = extent
        self.partial = extent.end is not None
        """Whether a client can request ranges of this file, because its length is known."""
        self.honoured = honoured
        """Whether the client requested a range. If so, `extent` is that range."""
        self.headers = _type_of(first)
        """The Content-Type header of the first response. The other headers, such as the validators, are left out,
        because they apply only to one segment and not to the whole file."""
        self.connect_seconds = 0.0 if first is None else first.connect_seconds
        self.is_live = is_live
        """Whether the playlist was a live playlist, to which segments were still added, when the read was opened."""
        self.follows_edge = follows_edge
        """Whether the stream is live, and is read from its live edge."""
        self.duration = duration
        """Duration of the track in seconds; None if it is unknown, or if the stream is live."""
        self.segment: Segment | None = None
        """The segment that contains the bytes that `read` returned last; None before the first bytes."""
        self.states_length = False
        """Whether the media server stated the length of the file that contains `segment`, so that a truncated segment
        is detected."""

    async def read(self, most: int = SMALL_STEP) -> bytes:
        """Return the next bytes, or `b""` at the end. `most` is the maximum number of bytes to read from the socket at
        once. Raises `UpstreamFailed` if the read fails, `UpstreamTimeout` if the media server sends nothing in time,
        and the error of a new extraction if that fails."""
        self._waits.asked()
        while not self._is_over and self._left != 0:
            current = self._segments.current
            if current is None:
                # an earlier call has failed, so the rest of its segment would be missing
                raise UpstreamFailed("The media cannot be read further, because an earlier read failed.")
            chunk = await current.read(most)
            if chunk:
                self._waits.given()
                self._given_bytes += len(chunk)
                if self.segment is not current.segment:
                    self.segment, self.states_length = current.segment, current.total is not None
                return self._accept(chunk)
            await self._advance()
        return b""

    async def beginning(self) -> bytes:
        """Return the first bytes of the whole file (at most SNIFF_BYTES of the first segment), even if this read is of
        a range that begins later. Sends a separate request for these bytes. Raises the error if the segment cannot be
        opened or read."""
        return await self._segments.beginning()

    async def listed(self) -> AsyncIterator[Segment]:
        """Yield the segments that the playlist lists. Yields none if the stream is live."""
        async for segment in self._segments.listed():
            yield segment

    def move_to(self, lender: Lender) -> bool:
        """Borrow the memory that the stream takes beyond its reservation from `lender` instead of the present lender.
        Returns False if `lender` cannot spare the memory."""
        return self._room.move_to(lender)

    async def aclose(self) -> None:
        """Close the open segment and the prefetched segment, and release the memory. Idempotent."""
        try:
            await self._segments.aclose()
        finally:
            self._room.release()

    def _accept(self, chunk: bytes) -> bytes:
        if self._left is not None:
            chunk = chunk[: self._left]
            self._left -= len(chunk)
        return chunk

    async def _advance(self) -> None:
        """Open the next segment. If the reader would otherwise have to wait for the segment after that one, start to
        open it in advance. A read of a range opens no segment in advance, because it may need only a part of that
        segment."""
        self._is_over = not await self._segments.advance(self._left)
        if self._is_over or not self._waits.reader_waited_more():
            return
        if self._given_bytes > AFTER_BYTES and self._left is None:
            self._segments.look_ahead()


class _Segments:
    """The opener of the segments of a track, one after the other. `current` is the open segment. `current` is None
    before the first segment, after the last segment, and after a segment that could not be opened. If a segment's URL
    has expired, the opener loads the playlist again and, if that does not help, extracts the page again. The new
    playlist must list the same segments."""

    def __init__(
        self,
        source: TrackSource,
        cursor: Cursor,
        prefetch: Prefetch,
        *,
        skip: int,
        wait_seconds: float,
        completion: Completion | None,
    ) -> None:
        self._source = source
        self._cursor = cursor
        self._prefetch = prefetch
        self._skip = skip
        self._opening = Opening(
            source=source,
            keys=Keys(),
            judge=Judge(strict=source.track.protocol != DASH_PROTOCOL),
            wait_seconds=wait_seconds,
            retry_seconds=lambda: cursor.retry_seconds,
            file=RangedFile(grows=not isinstance(cursor, FinishedCursor)),
            completion=completion,
        )
        self._has_skipped = False
        self.current: SegmentRead | None = None

    @property
    def file(self) -> tuple[str | None, int | None]:
        """The URL and the length, in bytes, of the file that contains the current segment. Both are None if no segment
        is open. The length is also None if the media server does not state it."""
        return (None, None) if self.current is None else (self.current.segment.url, self.current.total)

    async def advance(self, most_bytes: int | None) -> bool:
        """Close the current segment, and open the next segment, of which at most `most_bytes` bytes are needed. Returns
        False after the last segment."""
        self._close()
        is_ahead = self._prefetch.is_under_way
        self.current = await (self._prefetch.take() if is_ahead else self._open_next(most_bytes))
        return self.current is not None

    def look_ahead(self) -> None:
        """Start to open the next segment in advance. Does nothing for a live stream, because the next segment of a live
        stream may not exist yet."""
        if isinstance(self._cursor, FinishedCursor):
            self._prefetch.begin(lambda: self._open_next(None))

    async def listed(self) -> AsyncIterator[Segment]:
        if isinstance(self._cursor, FinishedCursor):
            async for segment in self._cursor.listed():
                yield segment

    async def beginning(self) -> bytes:
        segment = await self._cursor.first() if isinstance(self._cursor, FinishedCursor) else None
        if segment is None:
            return b""
        # The current segment was just opened with a URL from the same playlist, so the URLs in it have not expired.
        opening = replace(self._opening, judge=Judge(strict=False), completion=None)
        read = await open_segment(opening, segment, _never, most_bytes=SNIFF_BYTES)
        try:
            return b"".join(await first_chunks(read.read))[:SNIFF_BYTES]
        finally:
            read.close()

    async def aclose(self) -> None:
        self._close()
        await self._prefetch.drop()

    def _close(self) -> None:
        current, self.current = self.current, None
        if current is not None:
            current.close()

    async def _open_next(self, most_bytes: int | None) -> SegmentRead | None:
        """Open the next segment that exists and contains bytes of the extent. Returns None after the last segment."""
        while (segment := await self._next_segment()) is not None:
            skip, self._skip = self._skip, 0
            try:
                return await open_segment(self._opening, segment, self._renew, skip=skip, most_bytes=most_bytes)
            except AbsentSegment:
                log.info(
                    "The media ends before the last segment that the manifest describes, so the stream ends there."
                )
        return None

    async def _next_segment(self) -> Segment | None:
        """Return the next segment that contains bytes of the extent, or None after the last segment. Skips segments
        that the playlist marks as missing."""
        while (segment := await self._cursor.next()) is not None:
            if segment.gap:
                self._log_gap()
            elif self._skip == 0 or segment.length is None or segment.length > self._skip:
                return segment
            else:
                self._skip -= segment.length
        return None

    def _log_gap(self) -> None:
        if not self._has_skipped:
            self._has_skipped = True
            log.info(
                "The playlist marks segments as missing (EXT-X-GAP): the server skips these segments, as players do."
            )

    async def _renew(self, segment: Segment, nth: int) -> Segment | None:
        """Return `segment` with a fresh URL. `nth` is the number of this call since the last new byte, counted from 1:
        the first call loads the playlist again, and the second call extracts the page again. Later calls, and calls
        that fail, return None. The caller then requests the segment at its present URL."""
        if self.current is not None and self.current.is_of(segment):
            await self._prefetch.drop()
            # Move the cursor to just after this segment, because the segments opened in advance have been dropped. The
            # current playlist may already list the segment with a new URL: try that URL before the playlist is loaded
            # again.
            fresh = await self._cursor.back(segment)
            if fresh is not None and _asked(fresh) != _asked(segment):
                return fresh
        try:
            return await self._find_again(segment, nth)
        except PlaylistChanged:
            raise
        except SourceError as error:
            log.debug(
                "The URL of a segment could not be renewed, so the server requests the present URL again: %s", error
            )
            return None

    async def _find_again(self, segment: Segment, nth: int) -> Segment | None:
        step = nth + self._source.brings_list
        if step == 1:
            fresh = await self._cursor.again(segment)
            return fresh if _asked(fresh) != _asked(segment) else None
        if step == 2 and await self._source.renew():
            return await self._cursor.again(segment)
        return None


def _cursor_along(manifest: Manifest, reload: Load, patience: float, start: float | None, *, is_live: bool) -> Cursor:
    if _is_growing(manifest):
        return LiveCursor(manifest, reload, patience=patience, start=start)
    if start is None:
        return FinishedCursor(manifest, reload)
    if not (isinstance(manifest, HlsManifest) and is_live):
        raise InvalidParameter(UNCUT)
    return LiveCursor(manifest, reload, patience=patience, start=start)  # the live stream ended after the extraction


def _is_growing(manifest: Manifest) -> TypeGuard[HlsManifest]:
    return isinstance(manifest, HlsManifest) and not manifest.is_complete


async def _never(_segment: Segment, _nth: int) -> Segment | None:
    return None


def _asked(segment: Segment) -> tuple[str, str | None]:
    """Return the URL of the segment and the URL of its key."""
    return segment.url, None if segment.encryption is None else segment.encryption.uri


def _type_of(first: SegmentRead | None) -> Headers:
    declared = None if first is None else first.headers.get("content-type")
    return Headers(() if declared is None else (("content-type", declared),))

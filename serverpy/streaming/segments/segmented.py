"""A track's segments as one file: fetched in order, each over the connection that the one before has left; to a
reader who would wait for it, the next is opened ahead. A segment that cannot be had is the end: there are no holes."""

from __future__ import annotations

from serverpy.errors import InvalidParameter, RangeNotSatisfiable, UpstreamFailed
from serverpy.memory.room import Lender, Room
from serverpy.net.connection import SMALL_STEP
from serverpy.net.http1 import Headers
from serverpy.net.resume import Span
from serverpy.plan import UNCUT
from serverpy.streaming.segments.cursor import Cursor, FinishedCursor
from serverpy.streaming.segments.keys import Keys
from serverpy.streaming.segments.live import LiveCursor
from serverpy.streaming.segments.manifest import HlsManifest, Manifest, load, playlist_room
from serverpy.streaming.segments.prefetch import AFTER_BYTES, Prefetch, Waits
from serverpy.streaming.segments.segment import Segment
from serverpy.streaming.segments.segment_read import Renew, SegmentRead
from serverpy.streaming.track_source import TrackSource


class SegmentedRead:
    """An open read of `span`, like a `ResumingRead`. Closed by its owner.

    `start` is where in a live stream to begin (`live.py`), `patience` how many seconds it may list nothing new. Where a
    segment's address has expired, the playlist is read again, and if that does not help the page: what is listed then
    must be the same segments."""

    def __init__(
        self, address: TrackSource, lender: Lender, *, wait_seconds: float, patience: float, start: float | None = None
    ) -> None:
        self._address = address
        self._wait_seconds = wait_seconds
        self._patience = patience
        self._start = start
        self._room = Room(lender)
        self._playlist_room = playlist_room(self._room)
        self._keys = Keys()
        self._cursor: Cursor | None = None
        self._prefetch = Prefetch(self._room)
        self._waits = Waits()
        self._given_bytes = 0
        self._current: SegmentRead | None = None
        self._is_over = False
        self._skip = 0
        self._left: int | None = None
        self._step = SMALL_STEP
        self.span = Span(0, None, None)
        self.partial = False
        """Whether ranges of these bytes can be asked for."""
        self.honoured = False
        """Whether `span` is a range that was asked for."""
        self.headers = Headers(())
        """The type that the first answer has; its validators are not those of the whole."""
        self.connect_seconds = 0.0
        self.follows_edge = False
        """Whether the stream is live, and read from its edge."""
        self.segment: Segment | None = None
        """Whose bytes `read` gave last."""

    async def open(self, first: int | None, last: int | None) -> None:
        """Begin with the bytes asked (as in `Range`; `None, None` is the whole), or with the whole where not all
        lengths are known. Raises what reading raises, what `load` raises, `RangeNotSatisfiable`, and
        `InvalidParameter` for a `start` in what is not live."""
        listing = await self._load()
        self._cursor = self._cursor_along(listing)
        total = None if self._start is not None else listing.length
        if total is not None:
            begin, end = _within(first, last, total)
            self.span, self.partial = Span(begin, end, total), True
            self.honoured = (first, last) != (None, None)
            self._skip, self._left = begin, end - begin
        self._current = await self._next_read(self._step)
        self._is_over = self._current is None
        if self._current is not None:
            declared = self._current.headers.get("content-type")
            self.headers = Headers(() if declared is None else (("content-type", declared),))
            self.connect_seconds = self._current.connect_seconds

    async def read(self) -> bytes:
        """The next bytes; `b""` when the span is complete. Raises `UpstreamFailed`, `UpstreamTimeout`, and what an
        extraction raises."""
        self._waits.asked()
        while not self._is_over and self._left != 0:
            if self._current is None:
                raise UpstreamFailed("The media has failed before.")  # to go on would leave a hole
            chunk = await self._current.read()
            if chunk:
                self._waits.given()
                self._given_bytes += len(chunk)
                self.segment = self._current.segment
                return self._accept(chunk)
            await self._turn_to_next()
        return b""

    def move_to(self, lender: Lender) -> bool:
        """Charge what the stream holds beyond its reserved bytes to `lender` from now on; False if that cannot spare
        as much."""
        return self._room.move_to(lender)

    def set_step(self, nbytes: int) -> None:
        """How much is read at once, also of the segments to come."""
        self._step = nbytes
        if self._current is not None:
            self._current.set_step(nbytes)

    def close(self) -> None:
        """End what `open` began. `aclose` also ends what reading began besides."""
        piece, self._current = self._current, None
        if piece is not None:
            piece.close()

    async def aclose(self) -> None:
        """Idempotent."""
        self.close()
        try:
            await self._prefetch.drop()
        finally:
            self._room.release()

    def _accept(self, chunk: bytes) -> bytes:
        if self._left is not None:
            chunk = chunk[: self._left]
            self._left -= len(chunk)
        return chunk

    async def _turn_to_next(self) -> None:
        """From a piece that is over to the next, and to the one after that if the reader would have to wait for it."""
        self.close()
        self._current = await (self._prefetch.take() if self._prefetch.is_under_way else self._next_read(self._step))
        if self._current is None:
            self._is_over = True
            return
        self._current.set_step(self._step)
        if self._waits.reader_waited_more() and self._may_look_ahead():
            self._prefetch.begin(lambda: self._next_read(SMALL_STEP))

    def _may_look_ahead(self) -> bool:
        """Not for a range, of which the pieces are cut to measure, and not beyond the edge of a live stream."""
        return self._given_bytes > AFTER_BYTES and self._left is None and isinstance(self._cursor, FinishedCursor)

    async def _next_read(self, step: int) -> SegmentRead | None:
        """The next segment that has bytes to give, open; None after the last."""
        segment = await self._next_segment()
        if segment is None:
            return None
        skip, self._skip = self._skip, 0
        piece = SegmentRead(self._address, segment, self._keys, self._renewing(), wait_seconds=self._wait_seconds)
        try:
            await piece.open(skip, self._left, step)
        except BaseException:
            piece.close()
            raise
        return piece

    async def _next_segment(self) -> Segment | None:
        """The next one that has bytes of the span."""
        assert self._cursor is not None
        while (segment := await self._cursor.next()) is not None:
            if self._skip == 0 or segment.length is None or segment.length > self._skip:
                return segment
            self._skip -= segment.length
        return None

    # Expired addresses

    def _renewing(self) -> Renew:
        """How one piece finds its segment again: in the playlist, the first time, else on the page."""
        is_first = not self._address.brings_list

        async def renew(segment: Segment) -> Segment | None:
            nonlocal is_first
            assert self._cursor is not None
            if self._current is not None and self._current.is_of(segment):
                await self._prefetch.drop()
                fresh = await self._cursor.back(
                    segment
                )  # the way goes on from here, and the address may be new already
                if fresh is not None and _asked(fresh) != _asked(segment):
                    return fresh
            if is_first:
                is_first = False
                fresh = await self._cursor.again(segment)
                if _asked(fresh) != _asked(segment):
                    return fresh
            if not await self._address.renew():
                return None
            return await self._cursor.again(segment)

        return renew

    async def _load(self) -> Manifest:
        return await load(self._address, self._playlist_room, wait_seconds=self._wait_seconds)

    def _cursor_along(self, listing: Manifest) -> Cursor:
        if isinstance(listing, HlsManifest) and not listing.is_complete:
            self.follows_edge = self._start is None and listing.begins_at_edge
            return LiveCursor(listing, self._load, patience=self._patience, start=self._start)
        if self._start is None:
            return FinishedCursor(listing, self._load)
        if not (isinstance(listing, HlsManifest) and self._address.track.is_live):
            raise InvalidParameter(UNCUT)
        return LiveCursor(listing, self._load, patience=self._patience, start=self._start)  # it has just ended


def _asked(segment: Segment) -> tuple[str, str | None]:
    """What of a segment goes into requests."""
    return segment.url, None if segment.encryption is None else segment.encryption.uri


def _within(first: int | None, last: int | None, total: int) -> tuple[int, int]:
    """The first byte and the end of a range as asked (RFC 9110 §14.1.2). Raises `RangeNotSatisfiable`."""
    if first is None:
        begin, end = (0, total) if last is None else (max(0, total - last), total)
    else:
        begin, end = first, total if last is None else min(last + 1, total)
    if begin >= end:
        raise RangeNotSatisfiable("The range lies beyond the end.", total)
    return begin, end

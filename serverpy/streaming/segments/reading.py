"""A track's segments as one file: fetched in order, each over the connection that the one before has left, with
nothing held in between. A segment that cannot be had is the end: there are no holes."""

from __future__ import annotations

import asyncio

from serverpy.errors import RangeNotSatisfiable
from serverpy.net.connection import SMALL_STEP
from serverpy.net.http1 import Headers
from serverpy.net.resume import Span
from serverpy.streaming.address import Address
from serverpy.streaming.body import Room
from serverpy.streaming.segments.keys import Keys
from serverpy.streaming.segments.listing import STRIDE, HlsListing, Holding, Listing, load
from serverpy.streaming.segments.live import LiveWalk
from serverpy.streaming.segments.piece import Piece
from serverpy.streaming.segments.sequence import Segment
from serverpy.streaming.segments.walk import FinishedWalk, Walk


class SegmentedRead:
    """An open read of `span`, like a `ResumingRead`. Closed by its owner.

    `patience` is how many seconds a live stream may list nothing new. Where a segment's address has expired, the
    playlist is read again, and if that does not help the page: what is listed then must be the same segments."""

    def __init__(self, address: Address, room: Room, *, wait_seconds: float, patience: float) -> None:
        self._address = address
        self._wait_seconds = wait_seconds
        self._patience = patience
        self._holding = Holding(room)
        self._keys = Keys()
        self._walk: Walk | None = None
        self._renewals = 0
        self._piece: Piece | None = None
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

    async def open(self, first: int | None, last: int | None) -> None:
        """Begin with the bytes asked (as in `Range`; `None, None` is the whole), or with the whole where not all
        lengths are known. Raises what reading raises, what `load` raises, and `RangeNotSatisfiable`."""
        listing = await self._load()
        self._walk = self._walk_along(listing)
        total = listing.length
        if total is not None:
            begin, end = _within(first, last, total)
            self.span, self.partial = Span(begin, end, total), True
            self.honoured = (first, last) != (None, None)
            self._skip, self._left = begin, end - begin
        self._piece = await self._next_piece()
        if self._piece is not None:
            declared = self._piece.headers.get("content-type")
            self.headers = Headers(() if declared is None else (("content-type", declared),))
            self.connect_seconds = self._piece.connect_seconds

    async def read(self) -> bytes:
        """The next bytes; `b""` when the span is complete. Raises `UpstreamFailed`, `UpstreamTimeout`, and what an
        extraction raises."""
        while self._piece is not None and self._left != 0:
            chunk = await self._piece.read()
            if chunk:
                return self._accept(chunk)
            self._piece.close()
            self._piece = await self._next_piece()
        return b""

    def set_step(self, nbytes: int) -> None:
        """How much is read at once, also of the segments to come."""
        self._step = nbytes
        if self._piece is not None:
            self._piece.set_step(nbytes)

    def close(self) -> None:
        piece, self._piece = self._piece, None
        if piece is not None:
            piece.close()

    def _accept(self, chunk: bytes) -> bytes:
        if self._left is not None:
            chunk = chunk[: self._left]
            self._left -= len(chunk)
        return chunk

    async def _next_piece(self) -> Piece | None:
        """The next segment that has bytes to give, open; None after the last."""
        self._piece = None
        segment = await self._next_segment()
        if segment is None:
            return None
        self._renewals = 0
        skip, self._skip = self._skip, 0
        piece = Piece(self._address, segment, self._keys, self._renew, wait_seconds=self._wait_seconds)
        try:
            await piece.open(skip, self._left, self._step)
        except BaseException:
            piece.close()
            raise
        return piece

    async def _next_segment(self) -> Segment | None:
        """The next one that has bytes of the span."""
        assert self._walk is not None
        passed = 0
        while (segment := await self._walk.next()) is not None:
            if self._skip == 0 or segment.length is None or segment.length > self._skip:
                return segment
            self._skip -= segment.length
            passed += 1
            if passed % STRIDE == 0:
                await asyncio.sleep(0)
        return None

    # Expired addresses

    async def _renew(self, segment: Segment) -> Segment | None:
        """The segment of the moment under a fresh address: from the playlist, the first time, else from the page."""
        self._renewals += 1
        assert self._walk is not None
        if self._renewals == 1 and not self._address.brings_list:
            fresh = await self._walk.again(segment)
            if _asked(fresh) != _asked(segment):
                return fresh
        if not await self._address.renew():
            return None
        return await self._walk.again(segment)

    async def _load(self) -> Listing:
        return await load(self._address, self._holding, wait_seconds=self._wait_seconds)

    def _walk_along(self, listing: Listing) -> Walk:
        if isinstance(listing, HlsListing) and not listing.is_complete:
            return LiveWalk(listing, self._load, patience=self._patience)
        return FinishedWalk(listing, self._load)


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

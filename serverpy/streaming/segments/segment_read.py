"""One segment while it is read: located, fetched, decrypted, checked. It heals like any read (`net/resume.py`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from serverpy import containers
from serverpy.aes import Decryption
from serverpy.errors import RangeNotSatisfiable, UpstreamFailed
from serverpy.net.client import Response
from serverpy.net.connection import SMALL_STEP
from serverpy.net.http1 import Headers
from serverpy.net.resume import ResumingRead, open_resuming
from serverpy.ranges import ByteRange
from serverpy.streaming.segments.keys import MAX_KEY_BYTES, Keys
from serverpy.streaming.segments.segment import Segment
from serverpy.streaming.track_source import TrackSource

_TELLING_BYTES = 64
"""Fewer bytes may look like text by chance."""

Renew = Callable[[Segment], Awaitable[Segment | None]]
"""Finds the same segment at a fresh URL. Returns None if there is none but the current one."""


class _Place:
    """The current location of a segment and its key."""

    def __init__(self, source: TrackSource, segment: Segment, renew: Renew) -> None:
        self.source = source
        self.segment = segment
        self._renew = renew

    async def renew(self) -> bool:
        fresh = await self._renew(self.segment)
        if fresh is None:
            return False
        self.segment = fresh
        return True


class SegmentSource:
    """The segment's bytes (`net/range_requests.py::RangeSource`)."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        self.renew = place.renew

    async def open(self, headers: dict[str, str]) -> Response:
        return await self._place.source.open_media(self._place.segment.url, headers)


class KeySource:
    """The bytes of the segment's key (`net/range_requests.py::RangeSource`)."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        self.renew = place.renew

    async def open(self, headers: dict[str, str]) -> Response:
        encryption = self._place.segment.encryption
        if encryption is None:
            raise UpstreamFailed("The media's playlist changed while it was read.")
        return await self._place.source.open(encryption.uri, headers)


async def open_segment(
    source: TrackSource,
    segment: Segment,
    keys: Keys,
    renew: Renew,
    *,
    skip: int = 0,
    most_bytes: int | None = None,
    wait_seconds: float,
) -> SegmentRead:
    """Open a read of `segment`, from `skip` bytes on, of no more than `most_bytes`. Raises what `open_resuming` raises,
    and `UpstreamFailed` if the server does not return the ranges that the playlist specifies, or if the key is invalid;
    leaves nothing open when it raises or is cancelled."""
    place = _Place(source, segment, renew)
    decryption = None
    if segment.encryption is not None:
        key = await keys.get(segment.encryption, lambda: _fetch_key(place, wait_seconds))
        decryption = Decryption(key, segment.encryption.iv)
    if segment.end is None:
        read = await open_resuming(SegmentSource(place), ranges=False, wait_seconds=wait_seconds)
    else:
        first, end = segment.first + skip, segment.end
        end = end if most_bytes is None else min(end, first + most_bytes)
        read = await _open_range(place, first, end, wait_seconds)
    return SegmentRead(segment, place, read, decryption, is_from_start=skip == 0)


async def _open_range(place: _Place, first: int, end: int, wait_seconds: float) -> ResumingRead:
    try:
        read = await open_resuming(SegmentSource(place), ByteRange(first, end - 1), wait_seconds=wait_seconds)
    except RangeNotSatisfiable as error:
        raise UpstreamFailed("The media is shorter than its playlist says.") from error
    if (read.extent.first, read.extent.end) != (first, end):
        read.close()
        raise UpstreamFailed("The media server does not return the byte ranges that the playlist specifies.")
    return read


async def _fetch_key(place: _Place, wait_seconds: float) -> bytes:
    read = await open_resuming(KeySource(place), ranges=False, wait_seconds=wait_seconds)
    try:
        key = b""
        while chunk := await read.read():
            key += chunk
            if len(key) > MAX_KEY_BYTES:
                raise UpstreamFailed("The media has an invalid decryption key.")
        return key
    finally:
        read.close()


class SegmentRead:
    """An open read of a segment. Holds what a `ResumingRead` holds. Closed by its owner."""

    def __init__(
        self,
        segment: Segment,
        place: _Place,
        read: ResumingRead,
        decryption: Decryption | None,
        *,
        is_from_start: bool,
    ) -> None:
        self.segment = segment
        """The segment as it was first listed."""
        self._place = place
        self._read = read
        self._decryption = decryption
        self._is_from_start = is_from_start
        self._is_empty = True
        self._is_over = False

    @property
    def headers(self) -> Headers:
        return self._read.headers

    @property
    def connect_seconds(self) -> float:
        return self._read.connect_seconds

    def is_of(self, segment: Segment) -> bool:
        return self._place.segment is segment

    async def read(self, most: int = SMALL_STEP) -> bytes:
        """Read the next bytes, `b""` at the end; `most` is what is asked of the socket at once. Raises
        `UpstreamFailed`, `UpstreamTimeout`, and `NotMedia` if a page comes instead of the segment: some servers send
        error pages with status 200."""
        while not self._is_over:
            chunk = await self._read.read(most)
            self._is_over = not chunk
            if self._decryption is not None:
                chunk = self._decryption.add(chunk) if chunk else self._decryption.finish()
            if chunk:
                if self._is_empty and self._is_from_start and len(chunk) >= _TELLING_BYTES:
                    containers.identify(chunk[: containers.SNIFF_BYTES])
                self._is_empty = False
                return chunk
        if self._is_empty:
            raise UpstreamFailed("A segment of the media is empty.")
        return b""

    def close(self) -> None:
        self._read.close()

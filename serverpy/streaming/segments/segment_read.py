"""One segment while it is read: found, fetched, decrypted, checked. It heals like any read (`net/resume.py`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from serverpy import containers
from serverpy.aes import Decryption
from serverpy.errors import RangeNotSatisfiable, UpstreamFailed
from serverpy.net.client import Response
from serverpy.net.http1 import Headers
from serverpy.net.resume import ResumingRead
from serverpy.streaming.segments.keys import MAX_KEY_BYTES, Keys
from serverpy.streaming.segments.segment import Encryption, Segment
from serverpy.streaming.track_source import TrackSource

_TELLING_BYTES = 64
"""Fewer bytes may look like text by chance."""

Renew = Callable[[Segment], Awaitable[Segment | None]]
"""Finds the same segment under a fresh address; None if there is none but the one we had."""


class _Place:
    """Where a segment and its key are at the moment."""

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


class _Bytes:
    """The segment's bytes, as `net/resume.py::Upstream` asks for them."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        self.renew = place.renew

    async def open(self, headers: dict[str, str]) -> Response:
        return await self._place.source.open_media(self._place.segment.url, headers)


class _Key:
    """The segment's key, likewise."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        self.renew = place.renew

    async def open(self, headers: dict[str, str]) -> Response:
        encryption = self._place.segment.encryption
        if encryption is None:
            raise UpstreamFailed("The media's playlist changed while it was read.")
        return await self._place.source.open(encryption.uri, headers)


class SegmentRead:
    """A segment from `skip` bytes on. Holds what a `ResumingRead` holds. Closed by its owner."""

    def __init__(self, source: TrackSource, segment: Segment, keys: Keys, renew: Renew, *, wait_seconds: float) -> None:
        self._segment = segment
        self._place = _Place(source, segment, renew)
        self._keys = keys
        self._wait_seconds = wait_seconds
        self._read = self._reading(_Bytes(self._place))
        self._decryption: Decryption | None = None
        self._is_from_start = True
        self._is_empty = True
        self._is_over = False

    @property
    def headers(self) -> Headers:
        return self._read.headers

    @property
    def connect_seconds(self) -> float:
        return self._read.connect_seconds

    @property
    def segment(self) -> Segment:
        """As it was listed first."""
        return self._segment

    def is_of(self, segment: Segment) -> bool:
        return self._place.segment is segment

    async def open(self, skip: int, most: int | None, step: int) -> None:
        """Ask for no more than `most` bytes. Raises what `ResumingRead.open` raises, and `UpstreamFailed` for a server
        that gives no ranges where the playlist names some, or a key that is none."""
        segment = self._place.segment
        self._is_from_start = skip == 0
        if segment.encryption is not None:
            self._decryption = Decryption(await self._key(segment.encryption), segment.encryption.iv)
        self._read.set_step(step)
        if segment.end is None:
            await self._read.open(None, None, None, ranges=False)
        else:
            first = segment.first + skip
            await self._open_range(first, segment.end if most is None else min(segment.end, first + most))

    async def _open_range(self, first: int, end: int) -> None:
        try:
            await self._read.open(first, end - 1, None, ranges=True)
        except RangeNotSatisfiable as error:
            raise UpstreamFailed("The media is shorter than its playlist says.") from error
        if (self._read.span.first, self._read.span.end) != (first, end):
            raise UpstreamFailed("The media server does not give the ranges that the playlist names.")

    async def read(self) -> bytes:
        """The next bytes, `b""` at the end. Raises `UpstreamFailed`, `UpstreamTimeout`, and `NotMedia` for a page in
        place of the segment: some servers excuse themselves with a 200."""
        while not self._is_over:
            chunk = await self._read.read()
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

    def set_step(self, nbytes: int) -> None:
        self._read.set_step(nbytes)

    def close(self) -> None:
        self._read.close()

    async def _key(self, encryption: Encryption) -> bytes:
        return await self._keys.get(encryption, self._fetch_key)

    async def _fetch_key(self) -> bytes:
        read = self._reading(_Key(self._place))
        try:
            await read.open(None, None, None, ranges=False)
            key = b""
            while chunk := await read.read():
                key += chunk
                if len(key) > MAX_KEY_BYTES:
                    raise UpstreamFailed("The media's key is not one.")
            return key
        finally:
            read.close()

    def _reading(self, upstream: _Bytes | _Key) -> ResumingRead:
        return ResumingRead(upstream, window_bytes=None, wait_seconds=self._wait_seconds)

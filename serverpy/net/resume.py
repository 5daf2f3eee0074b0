"""A ranged read that heals: it returns the bytes of one resource, in order, across cut connections, stalls and expired
addresses.

After a failure, a new request begins a little before the byte reached. The bytes that come again are compared with
those already returned, so that wrong bytes never pass. After three retries without a new byte, the read fails. The
rules: RFC 9110 §13.1.5 (If-Range), §14 (ranges), §15.3.7 (206), §15.5.17 (416).
"""

from __future__ import annotations

from dataclasses import dataclass

from serverpy.errors import RangeNotSatisfiable, UpstreamFailed, UpstreamTimeout
from serverpy.net.client import Response
from serverpy.net.connection import SMALL_STEP
from serverpy.net.http1 import Headers
from serverpy.net.range_requests import RangeRequests, RangeSource, Refused, Unhealable
from serverpy.ranges import ByteRange, ContentRange, parse_length, resolve_range, total_of
from serverpy.tasks import Unlosable
from serverpy.validators import same_validator, strong_validator

OVERLAP_BYTES = 4096
"""How many of the bytes already returned are fetched again and compared."""
_WHOLE = ByteRange(0, None)


@dataclass(frozen=True, slots=True)
class Extent:
    """The bytes that a read returns: from `first` to before `end`, of `total`; None where that is unknown."""

    first: int
    end: int | None
    total: int | None


async def open_resuming(
    source: RangeSource,
    asked: ByteRange | None = None,
    if_range: str | None = None,
    *,
    ranges: bool = True,
    window_bytes: int | None = None,
    wait_seconds: float,
) -> ResumingRead:
    """Open a read of the bytes `asked`, None for the whole. The read is of the whole if `ranges` is False, if the
    server does not support ranges, or if `if_range` no longer holds. No request asks for more than `window_bytes`; no
    retry waits longer than `wait_seconds` because the server says so.

    Raises `RangeNotSatisfiable`, `SourceError` or what `source` raises; leaves nothing open when it raises or is
    cancelled.
    """
    requests = RangeRequests(source, window_bytes, wait_seconds)
    while True:
        try:
            return await _open_once(requests, asked, if_range, ranges=ranges)
        except (UpstreamFailed, UpstreamTimeout) as error:
            await requests.before_retry(error)


class ResumingRead(Unlosable):
    """An open read of `extent`. Holds OVERLAP_BYTES in addition to what its response holds. Its owner closes it, after
    cancelling any read that is under way."""

    is_live = False
    takes_large_steps = True

    def __init__(
        self, requests: RangeRequests, response: Response, extent: Extent, *, partial: bool, honoured: bool
    ) -> None:
        self._requests = requests
        self._response: Response | None = response
        self._position = extent.first
        self._tail = b""
        self._discard = 0
        self._expected = b""
        self._gained = False
        self.extent = extent
        self.partial = partial
        """Whether the server honours ranges."""
        self.honoured = honoured
        """Whether `extent` is a range that was asked for."""
        self.url = response.url
        """The URL of the first response, after redirects."""
        self.headers = response.headers
        """The headers of the first response."""
        self.connect_seconds = response.connect_seconds

    async def read(self, most: int = SMALL_STEP) -> bytes:
        """Read the next bytes, `b""` when the extent is complete. `most` is how many bytes are asked of the socket at
        once. Raises `UpstreamFailed`, `UpstreamTimeout` if healing failed."""
        while True:
            try:
                chunk = await self._read_once(most)
            except (UpstreamFailed, UpstreamTimeout) as error:
                self.close()
                await self._requests.before_retry(error)
            else:
                if chunk is not None:
                    return chunk

    def close(self) -> None:
        """Idempotent."""
        response, self._response = self._response, None
        if response is not None:
            response.close()

    async def aclose(self) -> None:
        """The same as `close`, for owners that await the closing of other kinds of read."""
        self.close()

    # Reading

    async def _read_once(self, most: int) -> bytes | None:
        """Read once. Returns bytes for the reader, `b""` at the end, or None if this step brought no new bytes."""
        if self._response is None:
            self._response = await self._reopen()
        chunk = await self._response.read(most)
        if chunk:
            return self._accept(chunk)
        end = self.extent.end
        if end is None or self._position >= end:
            if self._expected or self._discard:
                raise Unhealable("The media became shorter while it was read.")
            return b""
        if not self._gained:
            raise UpstreamFailed("The media server sent no more bytes.")
        self.close()
        return None  # a response may cover less than its request (RFC 9110 §15.3.7): request the rest

    def _accept(self, chunk: bytes) -> bytes | None:
        """Drop the bytes before the overlap, compare the overlap, and count the rest."""
        if self._discard:
            dropped = min(self._discard, len(chunk))
            self._discard -= dropped
            chunk = chunk[dropped:]
        if self._expected and chunk:
            known = min(len(self._expected), len(chunk))
            if chunk[:known] != self._expected[:known]:
                raise Unhealable("The media changed while it was read.")
            self._expected = self._expected[known:]
            chunk = chunk[known:]
        if self.extent.end is not None:
            chunk = chunk[: self.extent.end - self._position]
        if not chunk:
            return None
        self._position += len(chunk)
        self._gained = True
        self._tail = chunk[-OVERLAP_BYTES:] if len(chunk) >= OVERLAP_BYTES else (self._tail + chunk)[-OVERLAP_BYTES:]
        self._requests.tries = 0
        return chunk

    async def _reopen(self) -> Response:
        """Send a new request from the byte reached, or a little before it, and prepare the comparison."""
        overlap = len(self._tail) if self._requests.tries else 0
        begin = self._position - overlap
        asked = ByteRange(begin, None if self.extent.end is None else self.extent.end - 1)
        etag = None if self._requests.renewed else strong_validator(self.headers.get("etag"), None)
        response = await self._requests.send(asked, etag)
        try:
            self._discard = self._resume_at(begin, response)
        except BaseException:
            response.close()
            raise
        self._gained = False
        self._expected = self._tail[len(self._tail) - overlap :]
        return response

    def _resume_at(self, begin: int, response: Response) -> int:
        """Return how many bytes of `response` come before `begin`. Raises `Unhealable` if they are bytes of another
        resource."""
        if response.status == 416:
            raise Unhealable("The media became shorter while it was read.")
        if response.status == 206:
            given = _content_range(response.headers)
            found, total, discard = given.first, given.total, 0
        else:
            found, total, discard = begin, _length(response.headers), begin
        known = self.extent.total
        if found != begin or (total is not None and known is not None and total != known):
            raise Unhealable("The media changed while it was read.")
        if self.extent.end is None and total is not None:  # the first response did not tell the total
            self.extent = Extent(self.extent.first, total, total)
        return discard


# Opening


async def _open_once(
    requests: RangeRequests, asked: ByteRange | None, if_range: str | None, *, ranges: bool
) -> ResumingRead:
    if asked is not None and asked.first is None and requests.window_bytes is not None:
        asked = await _without_suffix(requests, asked)
    if asked is None:
        if_range = None
    response = await requests.send((asked or _WHOLE) if ranges else None, if_range)
    try:
        if asked is not None and response.status == 416:
            raise RangeNotSatisfiable("The range lies beyond the end.", total_of(response.headers.get("content-range")))
        if if_range is None or _holds(if_range, response):
            extent, partial = _extent(requests, response, asked)
            return ResumingRead(requests, response, extent, partial=partial, honoured=asked is not None and partial)
    except BaseException:
        response.close()
        raise
    response.close()  # `if_range` no longer holds: read the whole, still by ranges if need be
    return await _open_once(requests, None, None, ranges=ranges)


def _holds(if_range: str, response: Response) -> bool:
    etag, last_modified = response.headers.get("etag"), response.headers.get("last-modified")
    return response.status == 206 and same_validator(if_range, etag, last_modified)


async def _without_suffix(requests: RangeRequests, asked: ByteRange) -> ByteRange:
    """Turn a suffix range into one with a first byte: a server that requires bounded ranges is asked for the length
    first."""
    probe = await requests.send(ByteRange(0, 0))
    probe.close()
    if probe.status == 416:
        raise Refused(probe.status, None)
    total = total_of(probe.headers.get("content-range"))
    if total is None:
        raise Unhealable("The media server does not report the length of the media.")
    return ByteRange(max(0, total - (asked.last or 0)), None)


def _extent(requests: RangeRequests, response: Response, asked: ByteRange | None) -> tuple[Extent, bool]:
    """Return which bytes are read, and whether the server honours ranges, according to the first response."""
    if response.status == 206:
        given = _content_range(response.headers)
        if requests.window_bytes is not None or not _ignores_range(given, asked):
            return _requested(given, asked), True
        return Extent(0, given.total, given.total), False
    if response.status == 416:
        raise Unhealable("The media is empty.")
    requests.window_bytes = None
    length = _length(response.headers)
    return Extent(0, length, length), False


def _content_range(headers: Headers) -> ContentRange:
    """Return the Content-Range of a 206. Raises `Unhealable` if it is invalid, or if there are several parts."""
    given = ContentRange.parse(headers.get("content-range"))
    if given is None:
        raise Unhealable("The media server sent a missing or invalid Content-Range.")
    return given


def _ignores_range(given: ContentRange, asked: ByteRange | None) -> bool:
    """Return whether a 206 carries the whole although a part was requested: such a server ignores ranges, but says
    206."""
    if asked is None or given.total is None or (given.first, given.last) != (0, given.total - 1):
        return False
    if asked.first is None:
        return asked.last is not None and asked.last < given.total
    return asked.first > 0 or (asked.last is not None and asked.last < given.last)


def _requested(given: ContentRange, asked: ByteRange | None) -> Extent:
    """Return the requested extent. Raises `Unhealable` if the response does not begin with it."""
    if given.total is None:
        raise Unhealable("The media server does not report the length of the media.")
    mismatch = Unhealable("The media server sent a different range than requested.")
    try:
        first, end = resolve_range(asked or _WHOLE, given.total)
    except RangeNotSatisfiable:
        raise mismatch from None
    if given.first != first:
        raise mismatch
    return Extent(first, end, given.total)


def _length(headers: Headers) -> int | None:
    """Return the Content-Length if it frames the body (RFC 9112 §6.3)."""
    return None if headers.get("transfer-encoding") is not None else parse_length(headers.get("content-length"))

"""The read of one segment, which requests the segment, decrypts it, and checks its first bytes. The read resumes after
the connection is aborted (`net/resume.py`), and requests the segment again after the failures that `retries.py`
lists."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from serverpy.aes import Decryption, InvalidKey
from serverpy.errors import RangeNotSatisfiable, SourceError, UpstreamFailed
from serverpy.extraction.values import ABSENT
from serverpy.net.client import Response
from serverpy.net.connection import SMALL_STEP
from serverpy.net.http1 import Headers
from serverpy.net.representation import Representation
from serverpy.net.resume import ResumingRead, open_resuming
from serverpy.ranges import ByteRange
from serverpy.segment_kinds import INITIAL_BYTES, JUDGED_BYTES, Judge, refuse_markup
from serverpy.streaming.segments.completion import Completion
from serverpy.streaming.segments.keys import KEY_BYTES, Keys
from serverpy.streaming.segments.retries import AbsentSegment, EmptySegment, Retries, ShortFile
from serverpy.streaming.segments.segment import Segment
from serverpy.streaming.track_source import TrackSource

MOST_SKIPPED_BYTES = 64 * 1024 * 1024
"""Maximum number of bytes before a segment that a read receives and discards, if the segment is a byte range of a file
and the media server ignores ranges. Players also discard these bytes. The limit bounds the traffic, because the media
server sends them again for each segment."""

Renew = Callable[[Segment, int], Awaitable[Segment | None]]
"""The type of a function that returns a segment with a fresh URL, or None if no other URL is known. The second argument
is the number of this call since the last new byte arrived, counted from 1."""


class RangedFile:
    """The facts that the responses have stated about one file, if the latest segments are byte ranges of that file. By
    these facts, ServerPY detects ranges that come from different versions of the file. The file of a live stream may
    still grow, so no facts about such a file are kept."""

    def __init__(self, *, grows: bool) -> None:
        self._grows = grows
        self._url = ""
        self._known = Representation()
        self.honours_ranges = False
        """Whether the media server has sent a range of the file."""

    def at(self, url: str) -> Representation:
        """Return the known facts about the file at `url`. No facts are known unless the previous segment was a range of
        this file."""
        self.honours_ranges = self.honours_ranges and url == self._url
        if self._grows or url != self._url:
            self._url, self._known = url, Representation()
        return self._known

    def move(self, url: str, fresh_url: str) -> None:
        """Keep the known facts about the file at `url` for the same file at `fresh_url`. Forgets the ETags, because
        they may differ at the fresh URL."""
        if url == self._url != fresh_url:
            self._url = fresh_url
            self._known.forget_etags()


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The objects with which all segments of a stream are opened. `retry_seconds` returns the argument `seconds` of
    `retries.py::Retries`. `completion` is None if the bytes of segments are sent unchanged."""

    source: TrackSource
    keys: Keys
    judge: Judge
    wait_seconds: float
    retry_seconds: Callable[[], float | None]
    file: RangedFile
    completion: Completion | None = None


class _Place:
    """The current URLs of a segment and of its key."""

    def __init__(self, opening: Opening, segment: Segment, renew: Renew) -> None:
        self.source = opening.source
        self.segment = segment
        self._file = opening.file
        self.renewals = 0
        """Number of times that `renew` was called since the last new byte."""
        self.may_be_absent = segment.may_be_absent
        """Whether the segment possibly does not exist: no response has shown yet that it exists."""
        self._renew = renew

    async def renew(self) -> bool:
        self.renewals += 1
        fresh = await self._renew(self.segment, self.renewals)
        if fresh is None:
            return False
        self._file.move(self.segment.url, fresh.url)
        self.segment = fresh
        return True


class SegmentSource:
    """The source of the range requests for a segment (`net/range_requests.py::RangeSource`)."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        self.renew = place.renew

    async def open(self, headers: dict[str, str]) -> Response:
        response = await self._place.source.open_media(self._place.segment.url, headers)
        if self._place.may_be_absent:
            if response.status in ABSENT:
                response.close()
                raise AbsentSegment("The last segment of the media does not exist.")
            self._place.may_be_absent = response.status >= 400
        return response


class KeySource:
    """The source of the requests for the key of a segment (`net/range_requests.py::RangeSource`)."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        self.renew = place.renew

    async def open(self, headers: dict[str, str]) -> Response:
        encryption = self._place.segment.encryption
        if encryption is None:
            raise UpstreamFailed("The media's playlist changed while it was read.")
        return await self._place.source.open(encryption.uri, headers)


async def open_segment(
    opening: Opening, segment: Segment, renew: Renew, *, skip: int = 0, most_bytes: int | None = None
) -> SegmentRead:
    """Open a read of at most `most_bytes` bytes of `segment`, without the first `skip` bytes. When the call returns,
    the first bytes have arrived, and `Judge` has accepted their format. Raises the errors of `open_resuming` and
    `Judge`, and `UpstreamFailed` if the media server does not return the byte ranges that the playlist specifies or if
    the key is invalid. Raises `AbsentSegment` if the segment may be absent and does not exist. If the call raises an
    error or is cancelled, it leaves no read open."""
    place = _Place(opening, segment, renew)
    left_out = 0
    if opening.completion is not None and opening.completion.needs_all_of(segment):
        left_out, skip, most_bytes = skip, 0, None
    retries = Retries(opening.retry_seconds())
    while True:
        read = None
        try:
            read = await _open_once(opening, segment, place, skip, most_bytes)
            # a read shows the format of a segment only if it begins at the first byte and contains enough bytes
            is_judged = skip == 0 and (most_bytes is None or most_bytes >= JUDGED_BYTES)
            await read.begin(opening.judge, is_judged=is_judged)
            if opening.completion is not None and skip == 0:
                read.complete(opening.completion, left_out)
        except SourceError as error:
            if read is not None:
                read.close()
            if await _is_empty(error, retries, place):
                assert read is not None
                return read
            opening.keys.forget(segment.encryption)
        except BaseException:
            if read is not None:
                read.close()
            raise
        else:
            return read


async def _is_empty(error: SourceError, retries: Retries, place: _Place) -> bool:
    """Wait until the segment may be requested again after `error`. Returns True if the segment is empty, because the
    response to a second request had no bytes either. Raises `error` if the segment must not be requested again."""
    try:
        await retries.wait(error)
    except EmptySegment:
        return True
    if retries.count > 1 and place.renewals < retries.count - 1:
        # renew the URL here: `net/range_requests.py` does not do that if the media server sends a web page with status
        # 200 in response to a request for an expired URL
        await place.renew()
    return False


async def _open_once(
    opening: Opening, segment: Segment, place: _Place, skip: int, most_bytes: int | None
) -> SegmentRead:
    decryption = None
    if segment.encryption is not None:
        key = await opening.keys.get(segment.encryption, lambda: _fetch_key(place, opening.wait_seconds))
        decryption = Decryption(key, segment.encryption.iv)
    if segment.end is None:
        read = await open_resuming(SegmentSource(place), ranges=False, wait_seconds=opening.wait_seconds)
    else:
        first, end = segment.first + skip, segment.end
        end = end if most_bytes is None else min(end, first + most_bytes)
        read = await _open_range(opening, place, first, end)
    return SegmentRead(opening, segment, place, read, decryption)


async def _open_range(opening: Opening, place: _Place, first: int, end: int) -> ResumingRead:
    """Open the bytes `first` to `end - 1` of the file that contains the segment. If the file ends within this range,
    open the bytes up to the end of the file, as players do. If the media server ignores ranges, read past the bytes
    before the range. Raises `ShortFile` if the file ends before the range begins."""
    asked, known = ByteRange(first, end - 1), opening.file.at(place.segment.url)
    try:
        read = await open_resuming(
            SegmentSource(place),
            asked,
            wait_seconds=opening.wait_seconds,
            known=known,
            most_skipped=MOST_SKIPPED_BYTES,
            expects_range=opening.file.honours_ranges,
        )
    except RangeNotSatisfiable as error:
        raise ShortFile(place.segment.url, error.size) from error
    opening.file.honours_ranges = read.partial
    given = read.extent
    is_rest = read.honoured and given.end == given.total
    if given.first != first or not (given.end == end or is_rest):
        read.close()
        raise UpstreamFailed("The media server does not return the byte ranges that the playlist specifies.")
    return read


async def _fetch_key(place: _Place, wait_seconds: float) -> bytes:
    read = await open_resuming(KeySource(place), ranges=False, wait_seconds=wait_seconds)
    try:
        key = b""
        while len(key) <= max(KEY_BYTES) and (chunk := await read.read()):
            key += chunk
        if len(key) not in KEY_BYTES:
            raise InvalidKey
        return key
    finally:
        read.close()


class SegmentRead:
    """An open read of a segment. A `SegmentRead` takes as much memory as a `ResumingRead`. The owner must close it."""

    def __init__(
        self, opening: Opening, segment: Segment, place: _Place, read: ResumingRead, decryption: Decryption | None
    ) -> None:
        self.segment = segment
        """The segment as the playlist listed it when this read was opened."""
        self._opening = opening
        self._place = place
        self._read = read
        self._decryption = decryption
        self._first = b""
        self._has_bytes = False
        self._is_over = False

    @property
    def headers(self) -> Headers:
        return self._read.headers

    @property
    def connect_seconds(self) -> float:
        return self._read.connect_seconds

    @property
    def total(self) -> int | None:
        """The length, in bytes, of the file that contains the segment. None if the media server does not state it."""
        return self._read.extent.total

    def is_of(self, segment: Segment) -> bool:
        return self._place.segment is segment

    async def begin(self, judge: Judge, *, is_judged: bool) -> None:
        """Read enough bytes to identify the format of the segment; `read` later returns these bytes first. Raises
        `EmptySegment` if the segment has no bytes, and the errors of `read`. If `is_judged` is true, raises the error
        of `judge` if the bytes do not fit the earlier segments."""
        wanted = INITIAL_BYTES if self.segment.initial else JUDGED_BYTES
        first = await self._next(SMALL_STEP)
        if 0 < len(first) < wanted:
            first = await self._filled(first, wanted)
        if not first:
            raise EmptySegment("A segment of the media is empty.")
        if is_judged:
            judge.check(first, encrypted=self.segment.encryption is not None, initial=self.segment.initial)
        self._first = first

    def complete(self, completion: Completion, left_out: int) -> None:
        """Apply `completion` to the bytes that `begin` has read, and leave out the first `left_out` bytes of the
        result."""
        self._first = completion.apply(self.segment, self._first)[left_out:]

    async def _filled(self, first: bytes, wanted: int) -> bytes:
        """Return `first` and the bytes that follow it in the segment, together at most `wanted` bytes."""
        filled = bytearray(first)
        while len(filled) < wanted and (chunk := await self._next(wanted - len(filled))):
            filled += chunk
        return bytes(filled)

    async def read(self, most: int = SMALL_STEP) -> bytes:
        """Return the next bytes, or `b""` at the end. `most` is the maximum number of bytes to read from the socket at
        once. Raises `UpstreamFailed` if the read fails, and `UpstreamTimeout` if the media server sends nothing in
        time."""
        if self._first:
            first, self._first = self._first, b""
            return first
        return await self._next(most)

    async def _next(self, most: int) -> bytes:
        """Return the next bytes from the media server after decryption, or `b""` at the end. If a read fails, the rest
        of the segment is requested again by the same rules (`retries.py`) as after a failure before the first byte."""
        retries = None
        while not self._is_over:
            try:
                chunk = await self._read.read(most)
            except SourceError as error:
                retries = retries or Retries(self._opening.retry_seconds())
                await retries.wait(error)
                self._read.allow_retries()
                continue
            self._is_over = not chunk
            if self._decryption is not None:
                chunk = self._decrypted(chunk, self._decryption)
            if chunk:
                self._place.renewals = 0
                return chunk
        return b""

    def _decrypted(self, chunk: bytes, decryption: Decryption) -> bytes:
        if not chunk:
            return decryption.finish() if self._has_bytes else b""
        if not self._has_bytes:
            refuse_markup(chunk)  # check before decryption, because decrypting a web page would result in random bytes
        self._has_bytes = True
        return decryption.add(chunk)

    def close(self) -> None:
        self._is_over = True
        self._read.close()

"""A ranged read that recovers from failures: it returns the bytes of one resource in order, even if connections are
cut, servers stall or URLs expire.

Each further request begins at most OVERLAP_BYTES before the current position, whether the previous response failed or
only contained less than requested. The read compares the repeated bytes with the bytes that it has already returned, so
that it never returns wrong bytes. It also compares the head of each response with all known facts about the file
(`representation.py`). After three retries without a new byte, the read fails. The rules are those of RFC 9110 §13.1.5
(If-Range), §14 (ranges), §15.3.7 (206) and §15.5.17 (416).
"""

from __future__ import annotations

from serverpy.errors import UpstreamFailed, UpstreamTimeout
from serverpy.net.client import Response
from serverpy.net.connection import SMALL_STEP
from serverpy.net.opening import UNSTATED, Extent, Opened, Opening
from serverpy.net.range_requests import BACK_OFF_SECONDS, RangeRequests, RangeSource
from serverpy.net.representation import Mismatch, Part, Representation, Unusable, may_be_range, part_of
from serverpy.ranges import ByteRange, total_of
from serverpy.tasks import Unlosable

__all__ = ["OVERLAP_BYTES", "Extent", "ResumingRead", "open_resuming"]

OVERLAP_BYTES = 4096
"""Maximum number of bytes before the current position that a read requests again after a failure, to compare them with
the bytes that it has returned."""
START_BYTES = 64
"""Maximum number of bytes at the beginning of a file that the read compares if a server sends the file again from its
beginning. An internet radio stream never sends the same bytes again, so this comparison detects such a stream at once.
Otherwise the read would first drop as many bytes as it has returned."""
_SHORTER = "The media became shorter while it was read."
_CHANGED = "The media changed while it was read."


async def open_resuming(
    source: RangeSource,
    asked: ByteRange | None = None,
    if_range: str | None = None,
    *,
    ranges: bool = True,
    window_bytes: int | None = None,
    wait_seconds: float,
    renewals: int = len(BACK_OFF_SECONDS),
    total: int | None = None,
    known: Representation | None = None,
    most_skipped: int | None = None,
    continues: bool = False,
    expects_range: bool = False,
) -> ResumingRead:
    """Open a read of the bytes `asked` (None: the whole file). The read returns the whole file if `ranges` is False, if
    the media server does not support ranges, or if the file no longer matches `if_range`. If `most_skipped` is given,
    the read returns the range even if the media server does not support ranges: it discards the bytes before the range,
    and fails if there are more than `most_skipped` of them. No request asks for more than `window_bytes`. If the media
    server's Retry-After is longer than `wait_seconds`, the read fails instead of waiting. The read renews the URL of
    `source` at most `renewals` times without a new byte. `total` is the length of the file in bytes, or None if the
    caller does not know it. If `total` is known, a suffix range is requested by the offset of its first byte. `total`
    may be wrong, because a length in a response takes precedence. `known` contains the facts about the file that
    earlier reads have found; the responses must not contradict these facts. `continues` states that an earlier read got
    ranges of the file, so that a refusal may be temporary, and is not blamed on Range. `expects_range` states that the
    media server probably honours ranges, or that the caller has no use for the whole file: if a range is refused but
    the whole file is not, the range is requested once more.

    Raises `RangeNotSatisfiable` if the range contains no byte of the file, `SourceError` if the media server fails, and
    the errors of `source`. If the call raises an error or is cancelled, it leaves no response open.
    """
    requests = RangeRequests(
        source, window_bytes, wait_seconds, renewals, known, continues=continues, expects_range=expects_range
    )
    opening = Opening(requests, asked, if_range, total, ranges=ranges, most_skipped=most_skipped)
    while True:
        try:
            return ResumingRead(requests, await opening.once())
        except (UpstreamFailed, UpstreamTimeout) as error:
            await requests.before_retry(error)


class ResumingRead(Unlosable):
    """An open read of `extent`. Besides the memory of its response, it holds up to OVERLAP_BYTES bytes that it has
    returned. The owner must close the read, and must cancel a `read` in progress before that."""

    is_live = False
    takes_large_steps = True

    def __init__(self, requests: RangeRequests, opened: Opened) -> None:
        response = opened.response
        self._requests = requests
        self._response: Response | None = response
        self._position, self._begun = opened.extent.first, opened.begun
        self._promised = _lesser(opened.end, opened.extent.end)
        self._gained = False
        self._start = b""
        self._tail = b""
        self._overlap_bytes = _overlap_within(requests.window_bytes)
        self._discard = opened.extent.first - opened.begun
        self._compares = bool(self._discard)
        self._is_range = opened.partial
        self._expected = b""
        self.extent = opened.extent
        self.partial = opened.partial
        """Whether the media server honours ranges."""
        self.honoured = opened.honoured
        """Whether `extent` is the requested range."""
        self.url = response.url
        """The URL of the first response, after redirects."""
        self.headers = response.headers
        """The headers of the first response."""
        self.is_framed = response.is_framed
        """Whether the end of the body of the first response is certain."""
        self.connect_seconds = response.connect_seconds

    async def read(self, most: int = SMALL_STEP) -> bytes:
        """Return the next bytes, or `b""` when the extent is complete. `most` is the maximum number of bytes to request
        from the socket at once. Raises `UpstreamFailed` or `UpstreamTimeout` if no retry helps, and the error of a new
        extraction if the URL has expired and the extraction fails."""
        while True:
            try:
                chunk = await self._read_once(most)
            except (UpstreamFailed, UpstreamTimeout) as error:
                self.close()
                await self._requests.before_retry(error)
            else:
                if chunk is not None:
                    return chunk

    def allow_retries(self) -> None:
        """Allow all retries and renewals of the URL again, as after a new byte. A caller that calls `read` again after
        an error calls this method first."""
        self._requests.progress()

    def close(self) -> None:
        """Close the current response. Idempotent."""
        response, self._response = self._response, None
        if response is not None:
            response.close()

    async def aclose(self) -> None:
        """Close the current response: the asynchronous form of `close`, for owners that await the closing of a read.
        Idempotent."""
        self.close()

    # Methods that `read` calls

    async def _read_once(self, most: int) -> bytes | None:
        """Read one chunk. Returns new bytes for the reader, `b""` at the end, or None if the chunk contained no new
        bytes."""
        if self._position == self._promised and not self._compares:
            return self._end_response()
        if self._response is None:
            self._response = await self._reopen()
        chunk = await self._response.read(most)
        return self._accept(chunk) if chunk else self._end_response()

    def _end_response(self) -> bytes | None:
        """Handle the clean end of a response. The response may have contained less than requested (RFC 9110 §15.3.7).
        Returns `b""` if the read is complete, and None if a new request must follow."""
        if self._compares:
            raise self._mismatch(_SHORTER)
        if self._may_be_cut_short():
            raise Unusable(UNSTATED)
        if self.extent.end is None or self._position == self.extent.end:
            # Close the response at once, not at the next call: while a slow client takes the last bytes, a media server
            # that sends more than the extent then fills no buffer, and other reads can use the connection of a complete
            # response.
            self.close()
            self._promised = self._position
            return b""
        if self._position == self.extent.end - 1:
            self._requests.asks_one_more = True
        if not self._gained:
            raise UpstreamFailed("The media server stopped sending bytes before the end of the media.")
        self._overlap_bytes = min(self._overlap_bytes, _overlap_within(self._position - self._begun))
        self._promised = None
        self.close()
        return None

    def _accept(self, chunk: bytes) -> bytes | None:
        """Return the bytes of `chunk` that the read has not returned yet, or None if there are none. Compares the
        repeated bytes with the bytes that the read has returned."""
        if self._compares:
            chunk = self._compare(chunk)
        reached = self._position + len(chunk)
        if self._promised is not None and reached > self._promised:
            chunk = chunk[: max(0, self._promised - self._position)]
            reached = self._position + len(chunk)
        if not chunk:
            return None
        self._position = reached
        if len(chunk) >= OVERLAP_BYTES:
            self._tail = chunk[-OVERLAP_BYTES:]
        else:
            self._tail = (self._tail + chunk)[-OVERLAP_BYTES:]
        if not self._gained:
            self._note_progress(chunk)
        if reached == self._promised:
            self._end_response()
        return chunk

    def _may_be_cut_short(self) -> bool:
        """Return whether the response that has just ended may contain only the requested range: the response is exactly
        as long as the range, and its head states neither a range nor a length."""
        sent = self._requests.sent
        if self._is_range or self.extent.end is not None or sent is None or sent.last is None:
            return False
        return sent.first == 0 and self._position == sent.last + 1

    def _note_progress(self, chunk: bytes) -> None:
        """Record that the current response has delivered its first new byte."""
        self._gained = True
        self._start = self._start or chunk[:START_BYTES]
        self._requests.progress()

    def _compare(self, chunk: bytes) -> bytes:
        """Return `chunk` without the repeated bytes at its beginning. Raises the error of `_mismatch` if the repeated
        bytes differ from the bytes that the read has already returned."""
        is_beginning = self._discard == self._begun and not self.extent.first  # `chunk` begins with the first byte
        if is_beginning and not _agree(chunk, self._start):
            raise self._mismatch(_CHANGED)
        dropped = min(self._discard, len(chunk))
        self._discard -= dropped
        chunk = chunk[dropped:]
        if not _agree(chunk, self._expected):
            raise self._mismatch(_CHANGED)
        known = min(len(self._expected), len(chunk))
        self._expected = self._expected[known:]
        self._compares = bool(self._discard or self._expected)
        return chunk[known:]

    def _mismatch(self, message: str) -> Mismatch | Unusable:
        """Return the error for a response whose bytes differ from those that the read has returned. If the head of the
        response states no range, the response may contain the requested range instead of the whole file, and a request
        without Range may help."""
        error = Unusable("The media server sent other bytes than requested.")
        is_doubtful = not self._is_range and self._requests.may_blame_range(error)
        return error if is_doubtful else Mismatch(message)

    async def _reopen(self) -> Response:
        """Send a new request that begins up to `_overlap_bytes` before the current position, and prepare the comparison
        of the repeated bytes."""
        overlap = min(len(self._tail), self._overlap_bytes)
        begin, end = self._position - overlap, self.extent.end
        response, part = await self._ask_again(ByteRange(begin, None if end is None else end - 1), begin)
        self._begun, self._discard = begin, begin - part.first
        self._expected = self._tail[len(self._tail) - overlap :]
        self._compares = bool(self._discard or self._expected)
        if end is None and part.total is not None:  # the first response did not state the total length
            self.extent = Extent(self.extent.first, part.total, part.total)
        self._promised = _lesser(part.end, self.extent.end)
        self._gained, self._is_range = False, part.is_range
        return response

    async def _ask_again(self, asked: ByteRange, begin: int) -> tuple[Response, Part]:
        """Send a request that continues the read. A redirect may lead to another server of the same file, whose ETag
        differs from the ETag in If-Range. In this case, send the request again with the ETag of that other server."""
        known = self._requests.known
        for is_last in (False, True):
            validator = known.if_range
            response = await self._requests.send(asked, validator)
            try:
                part = self._continued(response, begin)
            except BaseException:
                response.close()
                raise
            if is_last or part.is_range or validator is None or validator == known.if_range:
                return response, part
            response.close()
        raise AssertionError("unreachable: the second attempt returns or raises")

    def _continued(self, response: Response, begin: int) -> Part:
        """Return the part of the file that `response` contains. Raises `Unusable`, `Mismatch` or `UpstreamFailed` if
        the response does not continue the read at offset `begin`."""
        if response.status == 416:
            total = total_of(response.headers.get("content-range"))
            refused = Unusable("The media server refused the range (HTTP 416).", total)
            if total and total < self._position and not self._requests.may_blame_range(refused):
                raise Mismatch(_SHORTER)
            raise refused
        part = part_of(response.status, response.headers)
        if not self._is_trusted(part, begin):
            raise Unusable(UNSTATED)
        if part.total is not None and part.total < self._position:
            raise Mismatch(_SHORTER)
        if part.first > begin or (part.end is not None and part.end <= begin):
            raise Unusable("The media server sent a different range than requested.", part.total)
        self._requests.accept(response, part)
        if part.end is not None and part.end <= self._position and part.end != part.total:
            self._overlap_bytes = min(self._overlap_bytes, _overlap_within(part.end - begin))
            raise UpstreamFailed("The media server stopped sending bytes before the end of the media.")
        return part

    def _is_trusted(self, part: Part, begin: int) -> bool:
        """Return whether the head of a response leaves no doubt that the response contains `part`. Without a total
        length, the end of an open range is unknown. A response to a range request that claims to be the whole file may
        be the range, unless its length or repeated bytes show that it is not."""
        known = self._requests.known.total
        if part.is_range:
            return not (part.total is None and known is None and self.extent.end is None)
        if may_be_range(part, self._requests.sent, known):
            return False
        is_confirmed = begin < self._position if part.total is None else known is not None
        return not self._requests.sent_range or begin == 0 or is_confirmed


def _agree(chunk: bytes, expected: bytes) -> bool:
    known = min(len(chunk), len(expected))
    return chunk[:known] == expected[:known]


def _overlap_within(window_bytes: int | None) -> int:
    """Return how many bytes to request again and compare. If `window_bytes` is the maximum length of a response, at
    least half of the bytes of a response are new."""
    return OVERLAP_BYTES if window_bytes is None else max(1, min(OVERLAP_BYTES, window_bytes // 2))


def _lesser(one: int | None, other: int | None) -> int | None:
    known = [end for end in (one, other) if end is not None]
    return min(known, default=None)

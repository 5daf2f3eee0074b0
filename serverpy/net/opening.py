"""The first response of a ranged read: which bytes the response contains, and whether these are the requested bytes.

If a media server does not support a suffix range, or does not state which range it has sent, `Opening` requests the
same bytes by the offset of the first byte. For that, `Opening` needs the length of the file. It takes the length from a
previous response or, if none stated the length, from the response to a request for one byte.

If a media server does not support ranges, the read returns the whole file or, if the caller allows that, discards the
bytes before the requested range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

from serverpy.errors import RangeNotSatisfiable
from serverpy.net.client import Response
from serverpy.net.range_requests import RangeRequests, Refused, Unhealable
from serverpy.net.representation import Part, Unusable, may_be_range, part_of
from serverpy.ranges import ByteRange, body_length, resolve_range, total_of, with_first
from serverpy.validators import same_validator

WHOLE = ByteRange(0, None)


@dataclass(frozen=True, slots=True)
class Extent:
    """The bytes that a read returns: from offset `first` up to, but not including, offset `end`, of a file of `total`
    bytes. `end` and `total` are None if unknown."""

    first: int
    end: int | None
    total: int | None


@dataclass(frozen=True, slots=True)
class Opened:
    """A response that contains the bytes of the file from offset `begun`, which is not after the first byte of
    `extent`, up to, but not including, offset `end` (None: up to the end of the response). `partial` states whether the
    media server honours ranges. `honoured` states whether `extent` is the requested range."""

    response: Response
    extent: Extent
    begun: int
    end: int | None
    partial: bool
    honoured: bool


class Opening:
    """Opener of a ranged read of the bytes `asked` (None: the whole file). If the file no longer matches `if_range`,
    the opener opens the whole file instead. `total` is the length of the file in bytes, or None if the caller does not
    know it; a length in a response takes precedence. If a response contains the whole file, and the requested range
    begins at offset `most_skipped` or before, the opener opens the range in this response. If an attempt fails, the
    opener keeps the facts about the file that the responses stated."""

    def __init__(
        self,
        requests: RangeRequests,
        asked: ByteRange | None,
        if_range: str | None,
        total: int | None,
        *,
        ranges: bool,
        most_skipped: int | None = None,
    ) -> None:
        self._requests = requests
        self._asked = asked
        self._if_range = None if asked is None else if_range
        self._total = total
        self._ranges = ranges
        self._most_skipped = most_skipped

    async def once(self) -> Opened:
        """Try once to open the requested bytes. Raises `RangeNotSatisfiable` if the range contains no byte of the file,
        `Unusable` if the response does not contain the requested bytes, and the errors of `RangeRequests.send`."""
        asked = self._asked
        if not _is_suffix(asked) or not self._ranges or self._requests.without_range:
            return await self._open(asked)
        total = None
        if self._total is not None or self._requests.window_bytes is None:
            try:
                return await self._open(asked if self._total is None else with_first(asked, self._total))
            except (Unusable, Refused) as error:
                if not self._requests.may_blame_range(error):
                    raise
                total = error.total if isinstance(error, Unusable) else None
        self._total = await self._ask_total() if total is None else total
        return await self._open(with_first(asked, self._total))

    async def _ask_total(self) -> int:
        """Return the length of the file in bytes, from the response to a request for one byte. Raises `Unusable` if the
        response does not state the length."""
        probe = await self._requests.send(ByteRange(0, 0))
        probe.close()
        if probe.status in (206, 416):
            total = total_of(probe.headers.get("content-range"))
        else:
            total = body_length(probe.headers.get("content-length"))
            total = None if total == 1 else total  # the response may contain only the requested byte
        if total is None:
            raise Unusable("The media server does not report the length of the media.")
        return total

    async def _open(self, asked: ByteRange | None) -> Opened:
        response = await self._requests.send((asked or WHOLE) if self._ranges else None, self._if_range)
        try:
            if response.status == 416:
                raise self._beyond(response)
            if self._if_range is None or self._holds(response):
                part = part_of(response.status, response.headers)
                opened = self._opened(response, part, asked if self._requests.sent_range else None)
                self._requests.accept(response, part)
                return opened
        except BaseException:
            response.close()
            raise
        response.close()  # the file does not match `if_range`: read the whole file, still by ranges if necessary
        self._asked = self._if_range = None
        return await self._open(None)

    def _holds(self, response: Response) -> bool:
        etag, last_modified = response.headers.get("etag"), response.headers.get("last-modified")
        is_same = self._if_range is not None and same_validator(self._if_range, etag, last_modified)
        return response.status == 206 and is_same

    def _opened(self, response: Response, part: Part, asked: ByteRange | None) -> Opened:
        """Return `response` as an `Opened`. `part` states which bytes the response contains, and `asked` which bytes
        were requested. Raises `Unusable` if the part does not begin with the requested bytes."""
        requests, is_ranged = self._requests, part.is_range and self._requests.sent_range
        known = self._total if requests.known.total is None else requests.known.total
        if is_ranged and (requests.window_bytes is not None or not _ignores_range(part, asked)):
            if _is_suffix(self._asked) and self._total not in (None, part.total):
                raise Unusable(_OTHER_RANGE, part.total)
            extent = _requested(part, asked, known)
            return Opened(response, extent, part.first, part.end, partial=True, honoured=asked is not None)
        if not part.is_whole or _may_be_translated(asked, part, response):
            raise Unusable(_OTHER_RANGE, part.total)
        if may_be_range(part, requests.sent, known) or _is_unconfirmed(part, requests.sent, known):
            raise Unusable(UNSTATED)  # a request without Range will get the whole file
        if requests.without_range and _is_beyond(self._asked, part.total):
            raise RangeNotSatisfiable(_BEYOND, part.total)
        requests.window_bytes = None
        if self._asked is not None and self._most_skipped is not None:
            if requests.sent_range and (part.total is None or part.total != requests.known.total):
                raise Unusable(UNSTATED)
            return Opened(response, self._within(part, self._asked), 0, part.end, partial=False, honoured=True)
        return Opened(response, Extent(0, part.end, part.total), 0, part.end, partial=False, honoured=False)

    def _within(self, whole: Part, asked: ByteRange) -> Extent:
        """Return the range `asked` of the file `whole`. Raises `RangeNotSatisfiable` if the range contains no byte of
        the file, and `Unhealable` if too many bytes precede the range."""
        if whole.total is not None:
            first, end = resolve_range(asked, whole.total)
            extent = Extent(first, end, whole.total)
        elif asked.first is not None:
            extent = Extent(asked.first, None if asked.last is None else asked.last + 1, None)
        else:
            raise Unusable(_OTHER_RANGE)
        if extent.first > (self._most_skipped or 0):
            raise Unhealable(_IGNORES_RANGES)
        return extent

    def _beyond(self, response: Response) -> RangeNotSatisfiable | Unusable:
        """Return the error for a response with status 416: a `RangeNotSatisfiable` if the response states the length of
        the file and the range contains no byte of the file, and an `Unusable` otherwise. A length of 0, or one that
        contradicts the known length, is not trusted, because some servers respond so to every range."""
        total = total_of(response.headers.get("content-range"))
        if total and _is_beyond(self._asked, total) and (self._total is None or _is_beyond(self._asked, self._total)):
            return RangeNotSatisfiable(_BEYOND, total)
        return Unusable("The media server refused the range (HTTP 416).", total or None)


UNSTATED = "The media server did not state which part of the media it sent."
_IGNORES_RANGES = (
    "The media is a byte range far from the beginning of a file, but the media server ignores Range requests."
)
_OTHER_RANGE = "The media server sent a different range than requested."
_BEYOND = "The range lies beyond the end."


def _is_suffix(asked: ByteRange | None) -> TypeGuard[ByteRange]:
    return asked is not None and asked.first is None


def _is_beyond(asked: ByteRange | None, total: int | None) -> bool:
    """Return whether a file of `total` bytes has no byte in the range `asked`. An empty file has no byte in any
    range."""
    if asked is None or total is None:
        return False
    return total == 0 or (asked.first is not None and asked.first >= total)


def _may_be_translated(asked: ByteRange | None, part: Part, response: Response) -> bool:
    """Return whether a media server that has responded to the suffix range `asked` with the whole file may still honour
    a range that states the first byte."""
    if not _is_suffix(asked) or part.total is None:
        return False
    return (asked.last or 0) < part.total and response.headers.get("accept-ranges") != "none"


def _ignores_range(part: Part, asked: ByteRange | None) -> bool:
    """Return whether a 206 contains the whole file although only a part was requested. A media server that sends such a
    206 ignores ranges."""
    if asked is None or part.total is None or not part.is_whole:
        return False
    if asked.first is None:
        return (asked.last or 0) < part.total
    return asked.first > 0 or (asked.last is not None and asked.last < part.total - 1)


def _is_unconfirmed(part: Part, sent: ByteRange | None, known: int | None) -> bool:
    """Return whether nothing shows that a response to the range `sent`, which does not begin at byte 0, is the whole
    file: the response states no length, has no byte, or is not as long as the file is known to be."""
    if sent is None or part.is_range or sent.first == 0:
        return False
    return not part.total or (known is not None and part.total != known)


def _requested(part: Part, asked: ByteRange | None, known: int | None) -> Extent:
    """Return the part of the file that the request `asked` covers. `known` is the length of the file in bytes, or None
    if it is unknown; it counts only if the response states no length (`*`). Raises `Unusable` if the response does not
    begin with the first byte of that part, or if the end of that part is unknown."""
    if part.total is None:
        return _requested_before(part, asked or WHOLE, known)
    try:
        first, end = resolve_range(asked or WHOLE, part.total)
    except RangeNotSatisfiable:
        raise Unusable(_OTHER_RANGE, part.total) from None
    if part.first != first:
        raise Unusable(_OTHER_RANGE, part.total)
    return Extent(first, end, part.total)


def _requested_before(part: Part, asked: ByteRange, known: int | None) -> Extent:
    """Return the part of a file that the request `asked` covers, if the response does not state the length of the file.
    The other arguments and errors are those of `_requested`."""
    assert part.end is not None
    total = None if known is None or known < part.end else known
    if part.first != asked.first or (asked.last is None and part.end != total):
        raise Unusable(UNSTATED)
    end = part.end if asked.last is None else asked.last + 1
    return Extent(part.first, end if total is None else min(end, total), total)

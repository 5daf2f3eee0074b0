"""The bytes that a response contains according to its head, and the check whether these bytes belong to the file that
is being read.

`resume.py` examines every response by both rules. It never joins two responses that differ in their total length or
Last-Modified date. It does not join two responses from the same server and extraction either if their strong ETags
differ, or if their weak ETags differ and no date and length confirm the file. Only the ETags of different servers may
differ for the same file. The rules are those of RFC 9110 §8.8 (validators), §14.4 (Content-Range) and §15.3.7 (206).
The module does no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass

from serverpy.errors import UpstreamFailed
from serverpy.net.http1 import MAX_VALIDATOR, Headers
from serverpy.net.urls import Origin
from serverpy.ranges import NO_FILE_BYTES, ByteRange, ContentRange, body_length, is_endless, total_of
from serverpy.validators import dates_differ, etags_differ, is_strong, opaque_tags_differ, strong_validator

MAX_SERVERS = 4
"""Maximum number of media servers for which a read of one file remembers the ETag."""


class Unusable(UpstreamFailed):
    """Error: a response to a range request does not state which bytes it contains, contradicts itself, or contains
    different bytes than requested. `total` is the length of the file in bytes, or None if the response does not state
    it."""

    def __init__(self, message: str, total: int | None = None) -> None:
        super().__init__(message)
        self.total = total


class Mismatch(UpstreamFailed):
    """Error: a response contains bytes of a different file than the file that is being read. `by_etag` is True if only
    the ETag differs. In this case a fresh URL does not help, because the ETag of a response from a fresh URL may differ
    even for the same file."""

    def __init__(self, message: str = "The media changed while it was read.", *, by_etag: bool = False) -> None:
        super().__init__(message)
        self.by_etag = by_etag


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes that a response contains: from offset `first` up to, but not including, offset `end`, out of a file of
    `total` bytes. `end` and `total` are None if the response does not state them."""

    first: int
    end: int | None
    total: int | None
    is_range: bool
    """Whether the media server has responded with a range. If it has not, the part is the whole file."""

    @property
    def is_whole(self) -> bool:
        return self.first == 0 and self.end == self.total


def part_of(status: int, headers: Headers) -> Part:
    """Return the part of the file that a response with a status of 200, 203 or 206 contains. Raises `Unusable` if the
    head does not state which part that is, or contradicts itself."""
    text = _content_range(headers)
    length = None if headers.get("transfer-encoding") is not None else body_length(headers.get("content-length"))
    given = ContentRange.parse(text)
    if is_endless(text) and (status != 206 or length is None):
        return Part(0, length, length, is_range=False)
    if status != 206 and given is None:
        return _whole(length, total_of(text))
    if given is None or (given.total or 0) >= NO_FILE_BYTES or _is_multipart(headers):
        raise Unusable("The media server sent a missing or invalid Content-Range.", total_of(text))
    return _ranged(status, given, length)


def _ranged(status: int, given: ContentRange, length: int | None) -> Part:
    """Return the part of the file that the Content-Range `given` states. If the last byte of the range lies beyond the
    end of the file, the part ends at the end of the file. If the status is not 206 and the body is as long as the file,
    the part is the whole file. Raises `Unusable` if the body is longer than the range, or if the status is not 206 and
    the length of the file is not stated, or the length of the body is unknown or differs from that of the range."""
    total = given.total
    end = given.last + 1 if total is None else min(given.last + 1, total)
    if status != 206 and total is None:
        raise Unusable("The media server sent a missing or invalid Content-Range.")
    if status != 206 and (length == total or (length is None and (given.first, end) == (0, total))):
        return Part(0, total, total, is_range=False)
    has_other_length = length is None or length != end - given.first
    if given.first >= end or (length or 0) > end - given.first or (status != 206 and has_other_length):
        raise Unusable("The media server sent a Content-Range that contradicts the response.", total)
    return Part(given.first, end, total, is_range=True)


def _whole(length: int | None, total: int | None) -> Part:
    """Return the whole file as a part. Raises `Unusable` if the response has an invalid Content-Range whose total
    differs from the length of the body, because such a response contains a range although its status is not 206."""
    if total is not None and total != length:
        raise Unusable("The media server sent a missing or invalid Content-Range.", total)
    return Part(0, length, length, is_range=False)


def may_be_range(part: Part, sent: ByteRange | None, total: int | None) -> bool:
    """Return whether a response that claims to contain the whole file may contain only the requested range: whether its
    body is exactly as long as the range `sent`. `total` is the length of the file as far as it is known; a body of this
    length is the whole file. `sent` is None if the request had no Range header."""
    if sent is None or part.is_range or part.total is None or part.total == total:
        return False
    if sent.first is None:
        return part.total == sent.last
    if sent.last is not None and part.total == sent.last + 1 - sent.first:
        return True
    return total is not None and 0 < sent.first < total and part.total == total - sent.first


def _content_range(headers: Headers) -> str | None:
    """Return the value of the Content-Range field. Returns an invalid value if the response has several Content-Range
    fields with different values, and None if it has no such field."""
    values = set(headers.all("content-range"))
    return ", ".join(values) if values else None


def _is_multipart(headers: Headers) -> bool:
    return (headers.get("content-type") or "").strip().lower().startswith("multipart/")


class Representation:
    """The facts about the file that is being read, as the responses that have been accepted state them."""

    def __init__(self) -> None:
        self.total: int | None = None
        self._modified: str | None = None
        self._etag: str | None = None
        self._etags: dict[Origin, str] = {}

    @property
    def if_range(self) -> str | None:
        """The validator for If-Range: the latest strong ETag, otherwise the Last-Modified date. None if no response has
        stated either."""
        return strong_validator(self._etag, self._modified)

    def learn(self, total: int | None, headers: Headers, origin: Origin) -> None:
        """Add the facts that a response from the media server `origin` states. Raises `Mismatch` if the response
        contradicts the known facts."""
        modified, etag = _kept(headers.get("last-modified")), _kept(headers.get("etag"))
        known = self._etags.get(origin)
        if total is not None and self.total is not None and total != self.total:
            raise Mismatch()
        if dates_differ(self._modified, modified):
            raise Mismatch()
        # Some servers make a new weak ETag for each node or response, so another weak ETag alone does not prove a
        # change (RFC 9110 §8.8.1) if the date and the length, which differ after nearly every change, are the same.
        is_confirmed = None not in (self._modified, modified, self.total, total)
        if etags_differ(known, etag) or (opaque_tags_differ(known, etag) and not is_confirmed):
            raise Mismatch(by_etag=True)
        self.total = total if self.total is None else self.total
        self._modified = self._modified or modified
        self._etag = etag or known
        if etag and not is_strong(known) and (known is not None or len(self._etags) < MAX_SERVERS):
            self._etags[origin] = etag

    def forget_etags(self) -> None:
        """Forget the ETags, because the media servers to which the URLs of a new extraction lead may have different
        ETags for the same bytes."""
        self._etag = None
        self._etags.clear()


def _kept(validator: str | None) -> str | None:
    """Return `validator` if it has at most MAX_VALIDATOR characters. Returns None otherwise, because no reservation
    covers the memory of a longer validator."""
    return None if validator is None or len(validator) > MAX_VALIDATOR else validator

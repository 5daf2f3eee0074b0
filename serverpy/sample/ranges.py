"""The server's side of range requests (RFC 9110 §13.1.5 and §14): which bytes of the content to send. Pure
functions."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SINGLE = re.compile(r"bytes[ \t]*=[ \t]*(\d*)-(\d*)[ \t]*")


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes from `start` up to `stop`. An empty span means that the requested range cannot be satisfied."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


def asked_span(range_header: str | None, size: int) -> Span | None:
    """Return the span of `size` bytes that a `Range` header requests. Returns None if the header is absent, malformed,
    or names several ranges: a server may ignore such a header (§14.2)."""
    match = _SINGLE.fullmatch(range_header or "")
    if not match or not (match[1] or match[2]):
        return None
    if not match[1]:
        return Span(max(size - int(match[2]), 0), size)
    first = int(match[1])
    if not match[2]:
        return Span(min(first, size), size)
    last = int(match[2])
    if last < first:
        return None
    return Span(min(first, size), min(last + 1, size))


def still_valid(if_range: str | None, etag: str, last_modified: str) -> bool:
    """Return whether the range may be honoured: `If-Range` is absent or matches. A date matches only if it is equal
    (§13.1.5)."""
    return if_range is None or if_range in (etag, last_modified)

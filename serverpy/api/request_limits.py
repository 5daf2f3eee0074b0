"""The limits of one request, and the header fields that the server keeps. Pure."""

from __future__ import annotations

import re

TARGET_BYTES = 32 * 1024
"""Maximum length of a request target, in bytes. It has room for the longest accepted URL, percent-encoded, and the
other parameters."""
HEADER_BYTES = 32 * 1024
"""Maximum length of the header fields of a request together, in bytes."""
HEADER_FIELDS = 100
"""Maximum number of header fields of a request, trailer fields included."""
EXCESS_BYTES = 64 * 1024
"""Bytes after the limit of a head within which the head may still end, so that its response goes through the
application, which adds the header fields that all responses have."""
FRAMING_BYTES = 64 * 1024
"""Maximum number of bytes of a message that are neither target, field nor body: an unfinished field, white space, the
sizes and extensions of chunks."""
BODY_BYTES = 1024 * 1024
"""Maximum size of a request body, in bytes. The server discards the body of a GET or HEAD as it arrives."""
PIPELINED = 16
"""Maximum number of requests that wait on one connection for the response to an earlier request."""

COVERED_BYTES = 8 * 1024
"""Bytes of unanswered requests that each connection may hold without a charge to the budget: those of a usual one."""
PIPELINED_BYTES = 6 * 1024
"""Memory that a waiting request takes besides its fields (measured)."""
FIELD_BYTES = 160
"""Memory that a kept header field takes besides its text: a tuple and two objects."""

_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_AS_ASCII = bytes(range(128)) + b"x" * 128
_NAMES = (
    b"accept", b"access-control-request-headers", b"access-control-request-method",
    b"access-control-request-private-network", b"authorization", b"connection", b"content-length", b"content-type",
    b"cookie", b"expect", b"forwarded", b"host", b"if-match", b"if-modified-since", b"if-none-match", b"if-range",
    b"if-unmodified-since", b"origin", b"range", b"sec-fetch-dest", b"sec-fetch-mode", b"sec-fetch-site",
    b"transfer-encoding", b"upgrade", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto",
    b"x-real-ip", b"x-request-id", b"x-requested-with",
)  # fmt: skip
_KEPT = {name: name for name in _NAMES}
_PREFIX = b"x-forwarded-"
_OTHER_OF_PROXIES = b"x-forwarded-other"
"""The name under which other fields of proxies are kept, without their values: only their presence counts."""


def encoded_line(line: bytes, *, is_too_long: bool) -> bytes:
    """Percent-encode the non-ASCII bytes of a request line. If its target is refused anyway, replace them, which takes
    less time."""
    if is_too_long:
        return line.translate(_AS_ASCII)
    return _NOT_ASCII.sub(lambda match: b"%%%02X" % match[0][0], line)


def kept_field(name: bytes, value: bytes) -> tuple[bytes, bytes] | None:
    """Return the header field as the server keeps it. Returns None if no part of the server reads the field. `name` is
    in lower case."""
    known = _KEPT.get(name)
    if known is not None:
        return known, value
    return (_OTHER_OF_PROXIES, b"") if name.startswith(_PREFIX) else None


def exceeds(digits: bytes, limit: int) -> bool:
    """Return whether a number that the parser has accepted exceeds `limit`. Python refuses to convert thousands of
    digits."""
    digits = digits.strip().lstrip(b"0")
    return len(digits) > len(str(limit)) or int(digits or b"0") > limit

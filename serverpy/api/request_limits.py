"""The limits on the size of one request, and the list of the header fields that the server keeps. The functions are
pure."""

from __future__ import annotations

import re

TARGET_BYTES = 32 * 1024
"""Maximum length of a request target, in bytes. It has room for the longest accepted URL, percent-encoded, and the
other parameters."""
HEADER_BYTES = 32 * 1024
"""Maximum total length of the header fields of a request, in bytes."""
HEADER_FIELDS = 100
"""Maximum number of header fields of a request, trailer fields included."""
EXCESS_BYTES = 64 * 1024
"""Maximum number of bytes by which a request head may exceed its limit before the protocol itself refuses the request,
without waiting for the end of the head. If the excess is smaller, the application refuses the request, with the header
fields that all responses have."""
FRAMING_BYTES = 64 * 1024
"""Maximum number of bytes of a request that are neither target, header field nor body: an unfinished field, white
space, and the sizes and extensions of chunks. The empty lines before a request have the same limit."""
BODY_BYTES = 1024 * 1024
"""Maximum size of a request body, in bytes. The server discards the body of a GET or HEAD as it arrives."""
PIPELINED = 16
"""Maximum number of requests that wait on one connection for the response to an earlier request."""

COVERED_BYTES = 8 * 1024
"""Number of bytes of unanswered requests that each connection may hold without a charge to the budget. A usual request
needs less."""
PIPELINED_BYTES = 6 * 1024
"""Memory, in bytes, that a waiting pipelined request takes in addition to its header fields (measured)."""
FIELD_BYTES = 160
"""Memory, in bytes, that a stored header field takes in addition to its text: the overhead of a tuple and two
objects."""

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
"""Name under which the server keeps every X-Forwarded-* field that is not in `_NAMES`, without its value: only the
presence of such a field matters."""


def encoded_line(line: bytes, *, is_too_long: bool) -> bytes:
    """Percent-encode the non-ASCII bytes of a request line. If the target is too long, and so is refused anyway,
    replace these bytes by `x`, which takes less time."""
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
    """Return whether the decimal number `digits` exceeds `limit`. The function first compares the number of digits,
    because `int` refuses to convert thousands of digits."""
    digits = digits.strip().lstrip(b"0")
    return len(digits) > len(str(limit)) or int(digits or b"0") > limit

"""Parsers of the attribute lists and numbers of playlist tags (RFC 8216 §4.2), which accept harmless errors."""

from __future__ import annotations

import math
import re
from datetime import datetime

from serverpy.errors import UpstreamFailed

_ATTRIBUTE = re.compile(r'(?:^|,)\s*([A-Z0-9-]+)=("[^"]*"|[^",]*)')
"""Pattern of an attribute. A name begins only after a comma, so that a long malformed line takes linear time."""
_MAX_DIGITS = 20
"""Maximum number of digits: a decimal-integer is below 2^64."""


def attributes(text: str) -> dict[str, str]:
    """Return the attributes of a tag by name; quoted strings without their quotes."""
    return {name: value.strip('"') for name, value in _ATTRIBUTE.findall(text)}


def integer(text: str) -> int:
    """Parse a decimal-integer. Raises `UpstreamFailed` if it is invalid."""
    digits = text.strip()
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= _MAX_DIGITS):
        raise UpstreamFailed("The media's playlist has an invalid number.")
    return int(digits)


def seconds(text: str) -> float | None:
    """Parse a duration in seconds, which a comma (in EXTINF) or a space and attributes may follow. Returns None if it
    is invalid."""
    try:
        found = float(text.partition(",")[0].strip().partition(" ")[0])
    except ValueError:
        return None
    return found if math.isfinite(found) and found >= 0 else None


def byte_range(text: str, default_first: int) -> tuple[int, int]:
    """Parse `<n>[@<o>]` (§4.3.2.2) into the first byte and the end, which is exclusive. Raises `UpstreamFailed` if it
    is invalid or empty."""
    length, at, offset = text.partition("@")
    first = integer(offset) if at else default_first
    count = integer(length)
    if count == 0:
        raise UpstreamFailed("The media's playlist has an empty byte range.")
    return first, first + count


def initialization_vector(text: str) -> bytes:
    """Parse a hexadecimal-sequence of up to 128 bits; a shorter one is padded on the left. Raises `UpstreamFailed` if
    it is invalid."""
    return _hexadecimal(text, 16, (16,))


def key_bytes(text: str) -> bytes:
    """Parse a key that the extraction gives in hexadecimal. Raises `UpstreamFailed` if it is invalid."""
    return _hexadecimal(text, 0, (16, 24, 32))


def _hexadecimal(text: str, fill_bytes: int, lengths: tuple[int, ...]) -> bytes:
    digits = text.strip().lower().removeprefix("0x").zfill(2 * fill_bytes)
    if not re.fullmatch(r"(?:[0-9a-f]{2})+", digits) or len(digits) // 2 not in lengths:
        raise UpstreamFailed("The media has an invalid decryption key or initialization vector.")
    return bytes.fromhex(digits)


def date(text: str) -> datetime | None:
    """Parse an ISO 8601 date with a time. Returns None if it is invalid."""
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        return None

"""Parsers of the attribute lists and numbers of playlist tags (RFC 8216 §4.2). The parsers accept errors that players
accept."""

from __future__ import annotations

import math
import re
from datetime import datetime

from serverpy.errors import UpstreamFailed

_ATTRIBUTE = re.compile(r'(?:^|,)\s*([A-Z0-9-]+)\s*=\s*("[^"]*"|[^",]*)')
"""Pattern of one attribute. The name must be at the beginning of the text or after a comma, so that parsing a long
malformed line takes linear time."""
_MAX_DIGITS = 20
"""Maximum number of digits of a decimal-integer. A decimal-integer is less than 2^64 (RFC 8216 §4.2)."""


def attributes(text: str) -> dict[str, str]:
    """Return the attributes in the attribute list `text`, by name. The values of quoted strings do not include the
    quotes."""
    return {name: value[1:-1] if value.startswith('"') else value.strip() for name, value in _ATTRIBUTE.findall(text)}


def integer(text: str) -> int:
    """Parse the decimal-integer `text`. Raises `UpstreamFailed` if `text` is not a decimal-integer."""
    digits = text.strip()
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= _MAX_DIGITS):
        raise UpstreamFailed("The media's playlist has an invalid integer in a tag.")
    return int(digits)


def sequence_number(text: str) -> int | None:
    """Parse the decimal-integer at the beginning of `text`, as players do. Returns None if there is none, or if it has
    too many digits."""
    found = re.match(r"\s*\+?([0-9]+)", text)
    return int(found[1]) if found is not None and len(found[1]) <= _MAX_DIGITS else None


def seconds(text: str) -> float | None:
    """Parse the duration, in seconds, at the beginning of `text`. A comma (in EXTINF), or a space and attributes, may
    follow the duration. Returns None if the duration is invalid."""
    try:
        found = float(text.partition(",")[0].strip().partition(" ")[0])
    except ValueError:
        return None
    return found if math.isfinite(found) and found >= 0 else None


def byte_range(text: str, default_first: int) -> tuple[int, int]:
    """Parse the byte range `<n>[@<o>]` (§4.3.2.2) in `text`, and return the offset of the first byte of the range and
    the offset after the last byte. If `text` has no `<o>`, the range begins at the offset `default_first`. Ignores
    quotes around the range, and a comma and text after it. Raises `UpstreamFailed` if the range is invalid or empty."""
    length, at, offset = text.strip().strip('"').partition(",")[0].partition("@")
    first = integer(offset) if at else default_first
    count = integer(length)
    if count == 0:
        raise UpstreamFailed("The media's playlist has an empty byte range (EXT-X-BYTERANGE or EXT-X-MAP).")
    return first, first + count


def initialization_vector(text: str) -> bytes:
    """Parse an initialization vector, a hexadecimal-sequence of up to 128 bits, and pad it with zeros on the left.
    Raises `UpstreamFailed` if `text` is invalid."""
    return _hexadecimal(text, 16, (16,))


def key_bytes(text: str) -> bytes:
    """Parse `text`, a hexadecimal decryption key from an extraction. Raises `UpstreamFailed` if `text` is invalid."""
    return _hexadecimal(text, 0, (16, 24, 32))


def _hexadecimal(text: str, fill_bytes: int, lengths: tuple[int, ...]) -> bytes:
    digits = text.strip().lower().removeprefix("0x").zfill(2 * fill_bytes)
    if not re.fullmatch(r"(?:[0-9a-f]{2})+", digits) or len(digits) // 2 not in lengths:
        raise UpstreamFailed("The media has an invalid decryption key or initialization vector.")
    return bytes.fromhex(digits)


def date(text: str) -> datetime | None:
    """Parse an ISO 8601 date with a time. Returns None if `text` is not such a date."""
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        return None

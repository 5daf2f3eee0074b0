"""The attribute lists and numbers of playlist tags (RFC 8216 §4.2), read leniently where nothing hangs on them."""

from __future__ import annotations

import math
import re
from datetime import datetime

from serverpy.errors import UpstreamFailed

_ATTRIBUTE = re.compile(r'(?:^|,)\s*([A-Z0-9-]+)=("[^"]*"|[^",]*)')
"""A name begins at a comma only, so that a long line without sense costs no more than its length."""
_MAX_DIGITS = 20
"""A decimal-integer is below 2^64."""


def attributes(text: str) -> dict[str, str]:
    """The attributes of a tag by name; quoted strings without their quotes."""
    return {name: value.strip('"') for name, value in _ATTRIBUTE.findall(text)}


def integer(text: str) -> int:
    """A decimal-integer. Raises `UpstreamFailed`."""
    digits = text.strip()
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= _MAX_DIGITS):
        raise UpstreamFailed("The media's playlist has an invalid number.")
    return int(digits)


def seconds(text: str) -> float | None:
    """A duration, as in EXTINF before the comma; None for what is none."""
    try:
        found = float(text.partition(",")[0])
    except ValueError:
        return None
    return found if math.isfinite(found) and found >= 0 else None


def byte_range(text: str, default_first: int) -> tuple[int, int]:
    """`<n>[@<o>]` (§4.3.2.2) as first byte and end. Raises `UpstreamFailed`, also for a range of no bytes."""
    length, at, offset = text.partition("@")
    first = integer(offset) if at else default_first
    count = integer(length)
    if count == 0:
        raise UpstreamFailed("The media's playlist has a range of no bytes.")
    return first, first + count


def initialization_vector(text: str) -> bytes:
    """A hexadecimal-sequence of up to 128 bits; shorter ones are filled from the left. Raises `UpstreamFailed`."""
    return _hexadecimal(text, 16, (16,))


def key_bytes(text: str) -> bytes:
    """A key that the extraction gives in hexadecimal."""
    return _hexadecimal(text, 0, (16, 24, 32))


def _hexadecimal(text: str, fill_bytes: int, lengths: tuple[int, ...]) -> bytes:
    digits = text.strip().lower().removeprefix("0x").zfill(2 * fill_bytes)
    if not re.fullmatch(r"(?:[0-9a-f]{2})+", digits) or len(digits) // 2 not in lengths:
        raise UpstreamFailed("The media has an invalid decryption key or initialization vector.")
    return bytes.fromhex(digits)


def date(text: str) -> datetime | None:
    """An ISO 8601 date with a time; None for what is none."""
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        return None

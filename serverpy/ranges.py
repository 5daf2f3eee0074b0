"""The parsers of byte ranges (RFC 9110 §14) in `Range` and `Content-Range` headers, and functions that apply a range to
a file of known length. The functions are pure.

The headers come from untrusted clients and media servers, so the parsers limit the number of digits before they convert
them to a number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from serverpy.errors import RangeNotSatisfiable

_SPEC = re.compile(r"([0-9]*)-([0-9]*)")
_CONTENT_RANGE = re.compile(r"\s*bytes\s+([0-9]+)-([0-9]+)/([0-9]+|\*)\s*", re.IGNORECASE)
_LARGEST = 2**63 - 1
"""Maximum position in a file, in bytes. The parsers replace larger positions by this value: no file is that long, and a
media server might not accept them (RFC 9110 §14.1.2 warns of overflow)."""
_MAX_DIGITS = len(str(_LARGEST))
NO_FILE_BYTES = 2**53 - 1
"""Length, in bytes, from which on a stated length is taken as unknown: no file is that long. Internet radio reports
2^53-1, 2^63-1 or 2^64-1 instead of a length."""
_FAKED_DIGITS = 20


@dataclass(frozen=True, slots=True)
class ByteRange:
    """One requested byte range (RFC 9110 §14.1.2): the bytes `first` to `last`, inclusive. None as `last` means the end
    of the file. None as `first` means the last `last` bytes of the file (a suffix range). `str()` returns the header's
    value."""

    first: int | None
    last: int | None

    def __str__(self) -> str:
        return f"bytes={'' if self.first is None else self.first}-{'' if self.last is None else self.last}"


@dataclass(frozen=True, slots=True)
class ContentRange:
    """The byte range that a 206 response contains (RFC 9110 §14.4): the bytes `first` to `last`, inclusive, of a file
    of `total` bytes. `total` is None if the media server does not state the length of the file. `str()` returns the
    header's value."""

    first: int
    last: int
    total: int | None

    def __str__(self) -> str:
        return f"bytes {self.first}-{self.last}/{'*' if self.total is None else self.total}"

    @classmethod
    def parse(cls, header: str | None) -> ContentRange | None:
        """Parse a Content-Range header. Returns None if the header is absent or invalid. Accepts a last position beyond
        the end of the file, because some media servers state a position that is too high by 1."""
        match = _CONTENT_RANGE.fullmatch(header or "")
        if match is None:
            return None
        first, last, total = (parse_length(digits) for digits in match.groups())
        if first is None or last is None or last < first or (total is None and match[3] != "*"):
            return None
        return cls(first, last, total)


def is_endless(content_range: str | None) -> bool:
    """Return whether a Content-Range header describes an endless stream: whether the range begins at byte 0 and the
    total length is longer than any file."""
    match = _CONTENT_RANGE.fullmatch(content_range or "")
    if match is None or match[1].strip("0") or match[3] == "*":
        return False
    return len(match[3]) <= _FAKED_DIGITS and int(match[3]) >= NO_FILE_BYTES


def body_length(content_length: str | None) -> int | None:
    """Return the number of bytes in a Content-Length header. Returns None if the header is absent, invalid, or states
    more bytes than any file has."""
    length = parse_length(content_length)
    return None if length is None or length >= NO_FILE_BYTES else length


def total_of(content_range: str | None) -> int | None:
    """Return the total length, in bytes, from a Content-Range header. The header may be that of a 416 response (`bytes
    */1000`). Returns None if the length is missing or invalid."""
    return parse_length((content_range or "").rpartition("/")[2].strip())


def parse_length(digits: str | None) -> int | None:
    """Parse `digits` as a number of bytes, as in Content-Length. Returns None if the number is absent, invalid or
    larger than any file."""
    if digits is None or len(digits) > _MAX_DIGITS or not (digits.isascii() and digits.isdecimal()):
        return None
    return int(digits)


def resolve_range(asked: ByteRange | None, total: int) -> tuple[int, int]:
    """Return the range `asked` of a file of `total` bytes (RFC 9110 §14.1.2) as the offset of its first byte and the
    offset after its last byte. None as `asked` means the whole file, which may be empty. Raises `RangeNotSatisfiable`
    if the range contains no byte of the file."""
    if asked is None:
        return 0, total
    if asked.first is None:
        first, end = max(0, total - (asked.last or 0)), total
    else:
        first, end = asked.first, total if asked.last is None else min(asked.last + 1, total)
    if first >= end:
        raise RangeNotSatisfiable("The range lies beyond the end of the file.", total)
    return first, end


def with_first(suffix: ByteRange, total: int) -> ByteRange:
    """Return the suffix range `suffix` of a file of `total` bytes as a range with an explicit first byte, because some
    media servers do not support suffix ranges."""
    return ByteRange(max(0, total - (suffix.last or 0)), None)


def parse_range(header: str | None) -> ByteRange | None:
    """Parse a Range header with a single byte range. Returns None if the header is absent, or has another unit, several
    ranges, or a malformed range such as `bytes=9-2`. The server then sends the whole file, which RFC 9110
    §14.2 allows. An empty suffix (`bytes=-0`) is a valid range, which no file satisfies (§14.1.2)."""
    unit, separator, text = (header or "").partition("=")
    if unit.lower() != "bytes" or not separator:
        return None
    specs = [spec for each in text.split(",") if (spec := each.strip(" \t"))]
    return _parse_spec(specs[0]) if len(specs) == 1 else None


def _parse_spec(spec: str) -> ByteRange | None:
    match = _SPEC.fullmatch(spec)
    if match is None or spec == "-":
        return None
    first, last = (_position(digits) if digits else None for digits in match.groups())
    if first is not None and last is not None and last < first:
        return None
    return ByteRange(first, last)


def _position(digits: str) -> int:
    """Parse a position, which may have any number of digits. Returns at most `_LARGEST`."""
    significant = digits.lstrip("0")
    return _LARGEST if len(significant) > _MAX_DIGITS else min(int(significant or 0), _LARGEST)

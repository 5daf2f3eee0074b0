"""The Range header of a request (RFC 9110 §14.2), read without knowing the length of what it points into."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

from serverpy.errors import RangeNotSatisfiable

_SPEC = re.compile(r"([0-9]{0,1000})-([0-9]{0,1000})")
_LARGEST = 2**63 - 1
"""Larger numbers mean no more than this one, and the next server might not read them (§14.1.2 warns of overflow)."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """One range as asked (RFC 9110 §14.1.2): `first`–`last` inclusive, `last` None for "to the end", `first` None
    for the last `last` bytes (suffix)."""

    first: int | None
    last: int | None


def parse_range(header: str | None) -> ByteRange | None:
    """The single range asked for; None where the header is absent or may be ignored, so that the answer is the whole:
    another unit, or several ranges beside each other.

    Raises `RangeNotSatisfiable` for ranges that are no ranges (`bytes=9-2`, `bytes=--5`), for an empty suffix and for
    ranges that overlap (§14.2 lets a server reject these)."""
    unit, separator, text = (header or "").partition("=")
    if unit.strip().lower() != "bytes" or not separator:
        return None
    ranges = [_parse_spec(spec.strip()) for spec in text.split(",") if spec.strip()]
    if not ranges:
        raise _invalid()
    if len(ranges) == 1:
        return ranges[0]
    _refuse_overlap(ranges)
    return None


def _parse_spec(spec: str) -> ByteRange:
    match = _SPEC.fullmatch(spec)
    if match is None or spec == "-":
        raise _invalid()
    first, last = (min(int(digits), _LARGEST) if digits else None for digits in match.groups())
    if (first is None and last == 0) or (first is not None and last is not None and last < first):
        raise _invalid()
    return ByteRange(first, last)


def _refuse_overlap(ranges: list[ByteRange]) -> None:
    bounded = sorted((r.first, r.last) for r in ranges if r.first is not None and r.last is not None)
    open_ended = [r.first for r in ranges if r.first is not None and r.last is None]
    overlaps = any(later[0] <= earlier[1] for earlier, later in itertools.pairwise(bounded))
    beyond = bool(open_ended) and bool(bounded) and bounded[-1][1] >= min(open_ended)
    if overlaps or beyond or len(open_ended) > 1 or sum(r.first is None for r in ranges) > 1:
        raise RangeNotSatisfiable("The ranges overlap.")


def _invalid() -> RangeNotSatisfiable:
    return RangeNotSatisfiable("The Range header names no range of bytes.")

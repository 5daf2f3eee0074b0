"""Readers of the values in the elements of a DASH manifest (MPD, ISO/IEC 23009-1). Pure.

Manifests are hostile: any attribute may be missing or malformed, and numbers may be as long as the document. Times are
exact (`Fraction`), because rounding would add or lose a segment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from xml.etree.ElementTree import Element

HREF = "{http://www.w3.org/1999/xlink}href"
TO_ZERO = re.compile(r"urn:mpeg:dash:resolve-to-zero:\d{4}")
"""A reference that stands for no element (§5.5.3)."""

_DECIMAL = r"(\d{1,18}(?:\.\d{0,40})?|\.\d{1,40})"
_NUMBER = re.compile(_DECIMAL, re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_DURATION = re.compile(
    rf"P(?:{_DECIMAL}Y)?(?:{_DECIMAL}M)?(?:{_DECIMAL}D)?(?:T(?:{_DECIMAL}H)?(?:{_DECIMAL}M)?(?:{_DECIMAL}S)?)?",
    re.ASCII,
)
_UNITS = (365 * 86400, 30 * 86400, 86400, 3600, 60, 1)


class Unreadable(Exception):
    """A representation whose segments cannot be listed with certainty. The message is a sentence for the client."""


def children(element: Element, name: str) -> list[Element]:
    """Return the children called `name`, in the namespace of `element`."""
    return element.findall(_tag(element, name))


def child(element: Element, name: str) -> Element | None:
    return element.find(_tag(element, name))


def _tag(element: Element, name: str) -> str:
    namespace, brace, _ = element.tag.rpartition("}")
    return f"{namespace}{brace}{name}"


def without(element: Element, name: str) -> Element:
    """Return a copy of `element` without its children called `name`. Each representation searches the elements that
    enclose it: if those elements kept all their representations, the time would be quadratic in the number of
    representations."""
    copy = Element(element.tag, element.attrib)
    copy.extend(child for child in element if child.tag != _tag(element, name))
    return copy


def duration(element: Element, name: str) -> Fraction | None:
    """Return the xs:duration in the attribute `name`, in seconds. Returns None if it is missing or malformed. A year
    has 365 days, a month 30."""
    found = _DURATION.fullmatch(element.get(name, "").strip())
    if found is None or not any(found.groups()):
        return None
    return sum((Fraction(part or 0) * unit for part, unit in zip(found.groups(), _UNITS, strict=True)), Fraction())


def integer(value: str | None, default: int) -> int:
    """Return an integer of at most 18 digits, or `default` if it is missing. Raises `Unreadable` if it is malformed."""
    if value is None or not value.strip():
        return default
    if not _INTEGER.fullmatch(value.strip()):
        raise Unreadable("The DASH manifest contains an invalid number.")
    return int(value)


def decimal(value: str | None) -> Fraction | None:
    """Return a number of at most 18 digits before its point. Returns None if it is missing. Raises `Unreadable` if it
    is malformed."""
    if value is None or not value.strip():
        return None
    if not _NUMBER.fullmatch(value.strip()):
        raise Unreadable("The DASH manifest contains an invalid number.")
    return Fraction(value.strip())


def is_remote(element: Element) -> bool:
    """Return whether the element refers to another document for its content (xlink), which is never fetched."""
    return element.get(HREF) is not None


def is_nothing(element: Element) -> bool:
    return TO_ZERO.fullmatch(element.get(HREF, "").strip()) is not None


class Inherited:
    """A segment description (SegmentTemplate, SegmentList, SegmentBase) and the descriptions of the same kind above it,
    whose attributes and children it inherits (§5.3.9.1). `chain` begins with the lowest level."""

    def __init__(self, kind: str, chain: Sequence[Element]) -> None:
        self.kind = kind
        self.chain = tuple(chain)

    def get(self, name: str) -> str | None:
        return next((value for each in self.chain if (value := each.get(name)) is not None), None)

    def child(self, name: str) -> Element | None:
        return next((found for each in self.chain if (found := child(each, name)) is not None), None)

    def children(self, name: str) -> list[Element]:
        return next((found for each in self.chain if (found := children(each, name))), [])


def segment_description(levels: Sequence[Element]) -> Inherited:
    """Return the description that applies to a representation; `levels` are the representation and the elements that
    enclose it. A representation without a description is one file, like one with a SegmentBase (§5.3.9.1)."""
    for level in levels:
        for kind in ("SegmentTemplate", "SegmentList", "SegmentBase"):
            if child(level, kind) is not None:
                return Inherited(kind, [found for each in levels if (found := child(each, kind)) is not None])
    return Inherited("SegmentBase", [])

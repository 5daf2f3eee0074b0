"""Parsers for the values in the elements of a DASH manifest (MPD, ISO/IEC 23009-1). The module does no I/O.

A manifest may be hostile: any attribute may be missing or malformed, and a number may be as long as the document. Times
are exact (`Fraction`), because rounding could add or lose a segment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from xml.etree.ElementTree import Element

HREF = "{http://www.w3.org/1999/xlink}href"
TO_ZERO = re.compile(r"urn:mpeg:dash:resolve-to-zero:\d{4}")
"""Pattern of an xlink reference by which an element stands for nothing, so that it must be ignored (ISO/IEC 23009-1
§5.5.3)."""

_DECIMAL = r"(\d{1,18}(?:\.\d{0,40})?|\.\d{1,40})"
_NUMBER = re.compile(_DECIMAL, re.ASCII)
_INTEGER = re.compile(r"([+-]?\d{1,20})(?:\.0{0,40})?", re.ASCII)
"""Pattern of an integer of at most 64 bits (xs:unsignedLong), which some packagers write with a fraction of zeros
(`10.0`)."""
_DURATION = re.compile(
    rf"P(?:{_DECIMAL}Y)?(?:{_DECIMAL}M)?(?:{_DECIMAL}D)?(?:T(?:{_DECIMAL}H)?(?:{_DECIMAL}M)?(?:{_DECIMAL}S)?)?",
    re.ASCII,
)
_UNITS = (365 * 86400, 30 * 86400, 86400, 3600, 60, 1)


class Unreadable(Exception):
    """Error: the segments of a representation cannot be listed with certainty. The message is a sentence for the
    client."""


def children(element: Element, name: str) -> list[Element]:
    """Return the child elements called `name` in the namespace of `element`."""
    return element.findall(_tag(element, name))


def child(element: Element, name: str) -> Element | None:
    return element.find(_tag(element, name))


def _tag(element: Element, name: str) -> str:
    namespace, brace, _ = element.tag.rpartition("}")
    return f"{namespace}{brace}{name}"


def without(element: Element, name: str) -> Element:
    """Return a copy of `element` without its children called `name`. For each representation, this package searches the
    elements that enclose it. If these elements still contained all representations, the time would be quadratic in the
    number of representations."""
    copy = Element(element.tag, element.attrib)
    copy.extend(child for child in element if child.tag != _tag(element, name))
    return copy


def duration(element: Element, name: str) -> Fraction | None:
    """Return the xs:duration in the attribute `name`, in seconds. Returns None if the attribute is missing or
    malformed. A year counts as 365 days, a month as 30 days."""
    found = _DURATION.fullmatch(element.get(name, "").strip())
    if found is None or not any(found.groups()):
        return None
    return sum((Fraction(part or 0) * unit for part, unit in zip(found.groups(), _UNITS, strict=True)), Fraction())


def integer(value: str | None, default: int) -> int:
    """Return `value` as an integer of at most 20 digits. Returns `default` if `value` is missing or has only white
    space. Raises `Unreadable` if `value` is not an integer or has more than 20 digits."""
    if value is None or not value.strip():
        return default
    found = _INTEGER.fullmatch(value.strip())
    if found is None:
        raise Unreadable("The DASH manifest contains an invalid number.")
    return int(found[1])


def decimal(value: str | None) -> Fraction | None:
    """Return `value` as a decimal number, with at most 18 digits before the point. Returns None if `value` is missing
    or has only white space. Raises `Unreadable` if `value` is malformed."""
    if value is None or not value.strip():
        return None
    if not _NUMBER.fullmatch(value.strip()):
        raise Unreadable("The DASH manifest contains an invalid number.")
    return Fraction(value.strip())


def is_remote(element: Element) -> bool:
    """Return whether the element refers to another document for its content (xlink). This server never fetches such a
    document."""
    return bool(element.get(HREF, "").strip())


def is_nothing(element: Element) -> bool:
    return TO_ZERO.fullmatch(element.get(HREF, "").strip()) is not None


class Inherited:
    """A segment description (SegmentTemplate, SegmentList or SegmentBase), together with the descriptions of the same
    kind in the enclosing elements. The innermost description inherits the attributes and children of the others
    (ISO/IEC 23009-1 §5.3.9.1). `chain` contains all these descriptions, the innermost first."""

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
    """Return the segment description that applies to a representation. `levels` are the Representation element and the
    elements that enclose it. A representation without a description is one file, as if it had a SegmentBase (ISO/IEC
    23009-1 §5.3.9.1)."""
    for level in levels:
        for kind in ("SegmentTemplate", "SegmentList", "SegmentBase"):
            if child(level, kind) is not None:
                return Inherited(kind, [found for each in levels if (found := child(each, kind)) is not None])
    return Inherited("SegmentBase", [])

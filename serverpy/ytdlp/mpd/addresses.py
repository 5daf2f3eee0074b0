"""The URLs in a DASH manifest: base URLs, byte ranges, and URL templates of segments. The module does no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

from serverpy.extraction.values import Fragment
from serverpy.net.urls import resolve
from serverpy.ytdlp.mpd.reading import Unreadable, children

MAX_URL_CHARACTERS = 16 * 1024
_MAX_WIDTH = 64
_RANGE = re.compile(r"\s*(\d{1,18})\s*-\s*(\d{1,18})\s*", re.ASCII)
_FROM_START = re.compile(r"\s*0+\s*-\s*", re.ASCII)
_IDENTIFIER = re.compile(r"\$(?:(RepresentationID|Number|Bandwidth|Time|SubNumber)(%0?(\d*)([diouxX]))?)?\$", re.ASCII)


def base_url(document: str, levels: Iterable[Element]) -> str:
    """Return the base URL of the lowest of `levels`, which are the elements from the MPD to the representation (ISO/IEC
    23009-1 §5.6.4). The BaseURL of each level is resolved against the base URL of the level above. If a level has
    several BaseURL elements, the first element counts."""
    base = document
    for level in levels:
        texts = (each.text.strip() for each in children(level, "BaseURL") if each.text)
        base = _joined(base, next(filter(None, texts), ""))
    return base


def folder(url: str) -> str:
    return _joined(url, ".")


def absolute(base: str, reference: str) -> str:
    """Return the http(s) URL of `reference`, resolved against `base`. Raises `Unreadable` if the URL is invalid."""
    return _checked(_joined(base, reference.strip()))


def _joined(base: str, reference: str) -> str:
    try:
        return resolve(base, reference)
    except ValueError as error:
        raise Unreadable("The DASH manifest contains an invalid URL.") from error


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port  # `port` raises ValueError if the port in the URL is invalid
    except ValueError as error:
        raise Unreadable("The DASH manifest contains an invalid URL.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unreadable("The DASH manifest contains a URL that is not http or https.")
    if len(url) > MAX_URL_CHARACTERS:
        raise Unreadable("The DASH manifest contains a URL that is too long.")
    return url


def ranged(url: str, text: str | None, *, initial: bool = False, seconds: float | None = None) -> Fragment:
    """Return the segment at `url`, limited to the byte range `text` (`first-last`, RFC 9110 §14.1.2). If `text` is None
    or has only white space, the segment is the whole file. Raises `Unreadable` if `text` is invalid."""
    if text is None or not text.strip() or _FROM_START.fullmatch(text):
        return Fragment(url=url, duration=seconds, initial=initial)
    found = _RANGE.fullmatch(text)
    if found is None or int(found[1]) > int(found[2]):
        raise Unreadable("The DASH manifest contains an invalid byte range.")
    return Fragment(url=url, duration=seconds, first=int(found[1]), end=int(found[2]) + 1, initial=initial)


@dataclass(frozen=True, slots=True)
class Pattern:
    """The URLs of a SegmentTemplate: a format string, and the names of the identifiers that it contains, in order
    (`Number` or `Time`)."""

    text: str
    names: tuple[str, ...]

    def fill(self, number: int, time: int) -> str:
        return self.text % tuple(number if name == "Number" else time for name in self.names)


def pattern(template: str, base: str, representation: Element) -> Pattern:
    """Compile a URL template of a SegmentTemplate (ISO/IEC 23009-1 §5.3.9.4.4) and resolve it against `base`. Raises
    `Unreadable` if the template is invalid. The URL is resolved only once and not for each segment, because the
    template inserts only digits, which cannot change how the URL is resolved."""
    text, names, at = "", [], 0
    for found in _IDENTIFIER.finditer(template):
        text += template[at : found.start()].replace("%", "%%")
        at = found.end()
        if found[1] in ("Number", "Time"):
            names.append(found[1])
            text += _conversion(found)
        elif found[1] is None:
            text += "$"
        else:
            text += _constant(found, representation).replace("%", "%%")
    text += template[at:].replace("%", "%%")
    made = Pattern(_joined(base.replace("%", "%%"), text.strip()), tuple(names))
    try:
        _checked(made.fill(0, 0))
    except TypeError as error:  # a dot segment (`..`) has removed a path segment with a placeholder
        raise Unreadable("The DASH manifest contains an invalid URL.") from error
    return made


def _conversion(found: re.Match[str]) -> str:
    if found[2] is None:
        return "%d"
    if len(found[3]) > len(str(_MAX_WIDTH)) or int(found[3] or 0) > _MAX_WIDTH:
        raise Unreadable("The DASH manifest contains a URL that is too long.")
    return found[2]


def _constant(found: re.Match[str], representation: Element) -> str:
    name = {"RepresentationID": "id", "Bandwidth": "bandwidth"}.get(found[1], "")
    value = representation.get(name)
    if value is None:
        raise Unreadable(f"The DASH manifest does not define ${found[1]}$, which its URLs contain.")
    if found[2] is None or found[1] == "RepresentationID":
        return value
    if not value.isascii() or not value.isdecimal() or len(value) > _MAX_WIDTH:
        raise Unreadable("The DASH manifest contains an invalid number.")
    return _conversion(found) % int(value)

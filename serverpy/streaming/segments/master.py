"""HLS master playlists (RFC 8216 §4.3.4): chooses the variant to read if the extraction gives a master as a format.
Pure.

Usually yt-dlp has read the master, and each of its variants is a format of its own; this is for extractors that do not
do that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from serverpy.errors import TooLarge, UpstreamFailed
from serverpy.streaming.segments.attributes import attributes
from serverpy.streaming.segments.segment import joined

MAX_VARIANTS = 1000
MAX_LENGTH = 1 << 20
"""Of all its lines, in characters: they are read without a pause."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One EXT-X-STREAM-INF. `is_silent` says that its audio is in a separate playlist."""

    url: str
    bandwidth: int
    is_silent: bool


def variants(lines: Iterable[str], url: str) -> list[Variant]:
    """Return all variants of the master at `url`, in its order. Raises `UpstreamFailed`, `TooLarge`."""
    pending: dict[str, str] | None = None
    apart: set[str] = set()
    found: list[tuple[str, dict[str, str]]] = []
    length = 0
    for line in map(str.strip, lines):
        length += len(line) + 1
        name, _, value = line.partition(":")
        if name == "#EXT-X-STREAM-INF":
            pending = attributes(value)
        elif name == "#EXT-X-MEDIA":
            media = attributes(value)
            if media.get("TYPE") == "AUDIO" and media.get("URI"):
                apart.add(media.get("GROUP-ID", ""))
        elif line and not line.startswith("#") and pending is not None:
            found.append((joined(url, line), pending))
            pending = None
        if max(len(found), len(apart)) > MAX_VARIANTS or length > MAX_LENGTH:
            raise TooLarge("The media's playlist has too many variants.")
    return [Variant(each, _bandwidth(given), given.get("AUDIO") in apart) for each, given in found]


def best(found: Iterable[Variant]) -> Variant:
    """Return the variant of the highest bandwidth, preferring those that include audio. Raises `UpstreamFailed` if
    there are no variants."""
    chosen = max(found, key=lambda variant: (not variant.is_silent, variant.bandwidth), default=None)
    if chosen is None:
        raise UpstreamFailed("The media's playlist has no playable variant.")
    return chosen


def _bandwidth(given: dict[str, str]) -> int:
    text = given.get("BANDWIDTH", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else 0

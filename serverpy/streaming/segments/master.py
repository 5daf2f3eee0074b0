"""The parser of HLS master playlists (RFC 8216 §4.3.4), which chooses a variant. Usually yt-dlp has already parsed the
master playlist, and each variant is a format of its own. This module is for extractors that return the master playlist
itself as a format. The functions are pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from serverpy.errors import TooLarge, UpstreamFailed
from serverpy.streaming.segments.attributes import attributes
from serverpy.streaming.segments.segment import joined
from serverpy.streaming.segments.turns import LINE_LENGTH
from serverpy.streaming.segments.variables import Variables

MAX_VARIANTS = 5000
MAX_LENGTH = 2 << 20
"""Maximum length of a master playlist, in characters. Each line counts LINE_LENGTH characters in addition to its
text."""


def best_url(lines: Callable[[], Iterable[str]], url: str) -> str:
    """Return the URL of the variant with the highest bandwidth in the master playlist at `url`. Variants that contain
    audio take precedence over variants whose audio has a playlist of its own. Calls `lines` twice, because a variant
    may name a rendition group before the group is defined. Raises `UpstreamFailed` if the playlist has no variant whose
    URL can be resolved, and `TooLarge` if it has too many variants or is too long."""
    apart, variables = _definitions(lines(), url)
    best: tuple[tuple[bool, int], str] | None = None
    for address, given in _variants(lines()):
        rank = (given.get("AUDIO") not in apart, _bandwidth(given))
        if (best is None or rank > best[0]) and variables.has_all_of(address):
            best = rank, address
    if best is None:
        raise UpstreamFailed("The media's playlist has no playable variant.")
    return joined(url, variables.resolve(best[1]))


def _definitions(lines: Iterable[str], url: str) -> tuple[set[str], Variables]:
    """Return the IDs of the audio groups whose renditions have playlists of their own, and the variables of the
    playlist."""
    apart: set[str] = set()
    variables = Variables(url)
    count = length = 0
    for line in map(str.strip, lines):
        length += len(line) + LINE_LENGTH
        name, _, value = line.partition(":")
        if name == "#EXT-X-MEDIA":
            media = attributes(value)
            if media.get("TYPE") == "AUDIO" and media.get("URI"):
                apart.add(media.get("GROUP-ID", ""))
        elif name == "#EXT-X-DEFINE":
            variables.define(value)
        count += name in ("#EXT-X-STREAM-INF", "#EXT-X-MEDIA")
        if count > MAX_VARIANTS or length > MAX_LENGTH:
            raise TooLarge("The media's playlist has too many variants.")
    return apart, variables


def _variants(lines: Iterable[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the URI and the attributes of each variant."""
    pending: dict[str, str] | None = None
    for line in map(str.strip, lines):
        name, _, value = line.partition(":")
        if name == "#EXT-X-STREAM-INF":
            pending = attributes(value)
        elif line and not line.startswith("#") and pending is not None:
            yield line, pending
            pending = None


def _bandwidth(given: dict[str, str]) -> int:
    text = given.get("BANDWIDTH", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else 0

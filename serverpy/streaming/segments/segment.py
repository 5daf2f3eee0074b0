"""The immutable values that HLS and DASH share, above all segments. The bytes of all segments, in order, form the file.
`hls.py` and `dash.py` make the segments; `segmented.py` reads their bytes. The module does no I/O.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qs, urlencode, urlsplit

from serverpy.errors import TooLarge, UpstreamFailed
from serverpy.extraction.values import AesKey, Track
from serverpy.net.urls import resolve

MAX_SEGMENTS = 100_000
"""Maximum number of segments in one playlist. So many segments of one second last more than a day."""


@dataclass(frozen=True, slots=True)
class Encryption:
    """Encryption by AES-128 (RFC 8216 §4.3.2.4). If `key` is None, the key is requested from `uri`. `iv` has 16
    bytes."""

    uri: str
    key: bytes | None
    iv: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One segment of the media. It consists of the bytes `first` to `end - 1` of the file at the absolute URL `url`. If
    `end` is None, the segment consists of all bytes from `first` on. `number` is the media sequence number, which an
    initialization section shares with the segment that follows it. `duration` is in seconds. `discontinuity` is the
    number of discontinuities before the segment. `gap` is true if EXT-X-GAP marks the segment as missing."""

    url: str
    number: int
    first: int = 0
    end: int | None = None
    encryption: Encryption | None = None
    duration: float | None = None
    date: datetime | None = None
    discontinuity: int = 0
    gap: bool = False
    initial: bool = False
    """Whether the segment is an initialization section (EXT-X-MAP) or, in DASH, an initialization segment."""
    may_be_absent: bool = False
    """Whether the segment possibly does not exist, because the media may end before it
    (`extraction/values.py::Fragment`)."""

    @property
    def length(self) -> int | None:
        """The length of the segment in bytes. None if the length is unknown before the segment is requested."""
        return None if self.end is None or self.encryption is not None else self.end - self.first

    def replaces(self, other: Segment) -> bool:
        """Return whether this segment may replace `other` after the manifest was loaded again: the number, byte range,
        duration and type must be the same, but the URL and the key may differ."""
        return (self.number, self.first, self.end, self.duration, self.initial) == (
            other.number,
            other.first,
            other.end,
            other.duration,
            other.initial,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of an extraction for parsing the playlist of the track and for requesting its segments."""

    segment_query: str | None = None
    key_query: str | None = None
    aes: AesKey | None = None
    discontinuity: int | None = None

    @classmethod
    def of(cls, track: Track) -> Rules:
        return cls(
            segment_query=track.segment_query,
            key_query=track.key_query,
            aes=track.aes,
            discontinuity=track.discontinuity,
        )


MAX_URL_LENGTH = 8192
"""Maximum length of a URL in a playlist, in characters. The limit bounds the memory of a stream, which holds several
such URLs."""
_ABSOLUTE = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-5]?[0-9]{1,4})?/[^\s\\]*")
"""Pattern of an absolute URL that needs no parsing. Most URLs in long playlists match it."""
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.~-]*(?:\?[^\s#]*)?")
"""Pattern of a relative reference to a file in the folder of the playlist, which needs no parsing."""
_FOLDER = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-5]?[0-9]{1,4})?/(?:(?:[^\s/?#.]|(?<!/)\.)+/)*")
"""Pattern of an absolute URL up to the last slash of its path. Matches only if the path has no dot segments."""


def joined(base: str, reference: str) -> str:
    """Return the absolute http(s) URL of `reference` (RFC 3986 §5). Backslashes count as slashes, as in browsers.
    Raises `UpstreamFailed` if `reference` is invalid or its scheme is neither http nor https, and `TooLarge` if the URL
    is too long."""
    if len(reference) > MAX_URL_LENGTH:
        raise TooLarge("The media's playlist contains a URL that is too long.")
    if _ABSOLUTE.fullmatch(reference):
        return reference
    if _NAME.fullmatch(reference) and (folder := _folder(base)) is not None:
        return folder + reference
    url = _resolved(base, reference)
    if len(url) > 2 * MAX_URL_LENGTH:
        raise TooLarge("The media's playlist contains a URL that is too long.")
    return url


@functools.lru_cache(maxsize=16)
def _folder(base: str) -> str | None:
    """Return the URL of the folder of the file at `base`. Returns None if a reference to a file in that folder cannot
    simply be appended to the URL of the folder."""
    path = re.split(r"[?#]", base, maxsplit=1)[0]
    folder = path[: path.rfind("/") + 1]
    return folder if len(base) <= MAX_URL_LENGTH and _FOLDER.fullmatch(folder) else None


def _resolved(base: str, reference: str) -> str:
    try:
        url = resolve(base, reference)
        parts = urlsplit(url)
        _ = parts.port  # raises `ValueError` if the port is invalid
        if parts.scheme in ("http", "https") and parts.hostname:
            return url
    except ValueError as error:
        raise UpstreamFailed("The media's playlist contains an invalid URL.") from error
    raise UpstreamFailed("The media's playlist contains a URL that is not http or https.")


def with_query(url: str, query: str | None) -> str:
    """Return `url` with the query parameters in `query` added. A parameter in `query` replaces the parameter of `url`
    with the same name, as in yt-dlp's `update_url_query`."""
    added = parse_qs(query) if query else {}
    if not added:
        return url
    parts = urlsplit(url)
    return parts._replace(query=urlencode({**parse_qs(parts.query), **added}, doseq=True)).geturl()

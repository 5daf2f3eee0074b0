"""The values that HLS and DASH share, all frozen: a sequence of segments, which in order form the file. `hls.py` and
`dash.py` make them; `segmented.py` fetches them. The module does no I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

from serverpy.errors import UpstreamFailed
from serverpy.extraction.values import AesKey, Track

MAX_SEGMENTS = 100_000
"""Maximum number of segments of one playlist: more than a day, at one second each."""


@dataclass(frozen=True, slots=True)
class Encryption:
    """Encryption by AES-128 (RFC 8216 §4.3.2.4). If `key` is None, the key is fetched from `uri`. `iv` has 16 bytes."""

    uri: str
    key: bytes | None
    iv: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One segment of the file. The segment consists of the bytes at the absolute URL `url` from `first` to before
    `end`, or to the last byte if `end` is None. `number` is the media sequence number, which an initialization section
    shares with the segment that follows it. `duration` is in seconds. `discontinuity` counts the discontinuities before
    the segment."""

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
    """Whether the segment is an initialization section (EXT-X-MAP)."""

    @property
    def length(self) -> int | None:
        """The segment's length in bytes, if it is known before the segment is fetched."""
        return None if self.end is None or self.encryption is not None else self.end - self.first

    def replaces(self, other: Segment) -> bool:
        """Return whether this segment is the same as `other`, which may have another URL."""
        return (self.number, self.first, self.end, self.duration, self.initial) == (
            other.number,
            other.first,
            other.end,
            other.duration,
            other.initial,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The extraction's instructions for parsing its playlist and requesting its segments."""

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


_ABSOLUTE = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,4})?/\S*")
"""Pattern of URLs that need no parsing: most of those in long playlists."""


def joined(base: str, reference: str) -> str:
    """Return the absolute http(s) URL of `reference` (RFC 3986 §5). Raises `UpstreamFailed` if it is invalid."""
    if _ABSOLUTE.fullmatch(reference):
        return reference
    try:
        url = urljoin(base, reference)
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError if the URL is invalid
        if parts.scheme in ("http", "https") and parts.hostname:
            return url
    except ValueError as error:
        raise UpstreamFailed("The media's playlist contains an invalid URL.") from error
    raise UpstreamFailed("The media's playlist contains a URL that is not http or https.")


def with_query(url: str, query: str | None) -> str:
    """Return `url` with the parameters of `query`, which replace parameters of the same names in `url`, as yt-dlp's
    `update_url_query` does."""
    added = parse_qs(query) if query else {}
    if not added:
        return url
    parts = urlsplit(url)
    return parts._replace(query=urlencode({**parse_qs(parts.query), **added}, doseq=True)).geturl()

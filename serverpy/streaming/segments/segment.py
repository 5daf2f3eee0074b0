"""What HLS and DASH have in common, as frozen values: a sequence of segments, which one after the other are the file.

`hls.py` and `dash.py` make them; `segmented.py` fetches them. Nothing here does I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

from serverpy.errors import UpstreamFailed
from serverpy.extraction.values import AesKey, Track

MAX_SEGMENTS = 100_000
"""Of one playlist: a day and more, at one second each."""


@dataclass(frozen=True, slots=True)
class Encryption:
    """AES-128 (RFC 8216 §4.3.2.4). The key is `key`, or what is found at `uri`; `iv` has 16 bytes."""

    uri: str
    key: bytes | None
    iv: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One piece of the file. `url` is absolute; the piece is the bytes of `first` to before `end` there, or all of
    them for None. `number` is the media sequence number, which an initialization section shares with the segment that
    follows it. `discontinuity` counts the discontinuities before."""

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
    """Whether it is an initialization section (EXT-X-MAP)."""

    @property
    def length(self) -> int | None:
        """How many bytes of the file it is, if that is known before it is fetched."""
        return None if self.end is None or self.encryption is not None else self.end - self.first

    def replaces(self, other: Segment) -> bool:
        """Whether it is the same piece as `other`, which may have had another address."""
        return (self.number, self.first, self.end, self.duration, self.initial) == (
            other.number,
            other.first,
            other.end,
            other.duration,
            other.initial,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the extraction says about how its playlist is to be read, and its segments are to be asked for."""

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
"""Addresses that need no second look: most of those in long playlists."""


def joined(base: str, reference: str) -> str:
    """The absolute http(s) address of `reference` (RFC 3986 §5). Raises `UpstreamFailed` for one that is none."""
    if _ABSOLUTE.fullmatch(reference):
        return reference
    try:
        url = urljoin(base, reference)
        parts = urlsplit(url)
        _ = parts.port  # raises where it is none
        if parts.scheme in ("http", "https") and parts.hostname:
            return url
    except ValueError as error:
        raise UpstreamFailed("The media's playlist names an address that cannot be understood.") from error
    raise UpstreamFailed("The media's playlist names an address that is not http or https.")


def with_query(url: str, query: str | None) -> str:
    """`url` with the parameters of `query` in place of its own of the same names, as yt-dlp's `update_url_query`."""
    added = parse_qs(query) if query else {}
    if not added:
        return url
    parts = urlsplit(url)
    return parts._replace(query=urlencode({**parse_qs(parts.query), **added}, doseq=True)).geturl()

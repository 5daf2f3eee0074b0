"""DASH as values: the fragments that yt-dlp has resolved (templates, base addresses, periods) as segments. Pure.

Several periods are one list: each begins with an initialization section of its own, which goes into the file as it
comes, as in yt-dlp's.
"""

from __future__ import annotations

from collections.abc import Iterator

from serverpy.extraction.info import Track
from serverpy.streaming.segments.sequence import Segment, joined, with_query


def segments_of(track: Track) -> Iterator[Segment]:
    """The segments of a track with fragments, in order. Raises `UpstreamFailed` for an address that is none."""
    for number, fragment in enumerate(track.fragments):
        url = with_query(joined(track.url, fragment.url), track.segment_query)
        yield Segment(url=url, number=number, duration=fragment.duration)

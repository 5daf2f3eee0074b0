"""DASH as values: the fragments that yt-dlp has resolved (templates, base addresses, periods) as segments. Pure.

Several periods are one list: each begins with an initialization section of its own, which goes into the file as it
comes, as in yt-dlp's. The list is kept as packed lines (`packed_lines.py`), which take far less memory than an
extraction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from serverpy.extraction.values import Fragment
from serverpy.streaming.segments.attributes import seconds
from serverpy.streaming.segments.segment import Segment, joined, with_query


def line_of(fragment: Fragment) -> bytes:
    """A fragment as a line: how many seconds, and where. Line ends in an address mean nothing (WHATWG URL §4.4)."""
    url = fragment.url.replace("\r", "").replace("\n", "")
    return f"{'' if fragment.duration is None else fragment.duration} {url}\n".encode()


def segments_of(lines: Iterable[str], base: str, query: str | None) -> Iterator[Segment]:
    """The segments of such lines, in order; `query` is yt-dlp's `extra_param_to_segment_url`. Raises `UpstreamFailed`
    for an address that is none."""
    for number, line in enumerate(lines):
        duration, _, url = line.partition(" ")
        yield Segment(url=with_query(joined(base, url), query), number=number, duration=seconds(duration))

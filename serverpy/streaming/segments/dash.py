"""The conversion of the DASH fragments of an extraction (`ytdlp/mpd/`) into segments. The functions are pure.

The segments of all periods form one list. As in the output of yt-dlp, the initialization segment of each period
precedes the media segments of that period. The list is stored as compressed lines (`packed_lines.py`), which take far
less memory than the extraction.
"""

from __future__ import annotations

from serverpy.extraction.values import Fragment
from serverpy.streaming.segments.attributes import seconds
from serverpy.streaming.segments.segment import Segment, joined, with_query

_INITIAL = "i"
_MAY_BE_ABSENT = "a"


def line_of(fragment: Fragment) -> bytes:
    """Encode a fragment as a line: its duration in seconds, a mark if the fragment is an initialization segment or may
    be absent, the byte range, and the URL. Removes line breaks from the URL, because they have no meaning there (WHATWG
    URL §4.4)."""
    url = fragment.url.replace("\r", "").replace("\n", "")
    span = "" if fragment.end is None else f"{fragment.first}-{fragment.end}"
    seconds = "" if fragment.duration is None else fragment.duration
    mark = _INITIAL if fragment.initial else _MAY_BE_ABSENT if fragment.may_be_absent else ""
    return f"{seconds} {mark}{span} {url}\n".encode()


class Lines:
    """The parser of lines that `line_of` made. The caller must pass the lines in order. `query` contains the query
    parameters to add to each URL (yt-dlp's `extra_param_to_segment_url`)."""

    def __init__(self, base: str, query: str | None) -> None:
        self._base = base
        self._query = query
        self._number = 0

    def feed(self, line: str) -> tuple[Segment]:
        """Return the segment that `line` encodes, as the only item. Raises `UpstreamFailed` if the URL of the segment
        is invalid."""
        number, self._number = self._number, self._number + 1
        duration, span, url = line.split(" ", 2)
        first, _, end = span.lstrip(_INITIAL + _MAY_BE_ABSENT).partition("-")
        segment = Segment(
            url=with_query(joined(self._base, url), self._query),
            number=number,
            first=int(first or 0),
            end=int(end) if end else None,
            duration=seconds(duration),
            initial=span.startswith(_INITIAL),
            may_be_absent=span.startswith(_MAY_BE_ABSENT),
        )
        return (segment,)

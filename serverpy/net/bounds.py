"""The bounds on what a media server may send: the numbers that several modules share, the error that is raised if a
response exceeds a bound, and counters, for the metrics, of how often responses exceeded each bound in this process."""

from __future__ import annotations

from collections import Counter
from typing import Literal, get_args

from serverpy.errors import UpstreamFailed

Bound = Literal["cookies", "fields", "framing", "head_bytes", "interim_responses", "playlists", "redirects"]

MAX_FRAMING = 8
"""Maximum number of bytes of chunk framing for each byte of a chunked body. A chunk of one byte has 5 bytes of
framing."""
FRAMING_GRACE_BYTES = 64 * 1024
"""Bytes of framing that a body may have in addition to `MAX_FRAMING` per byte of payload, for long chunk extensions and
for trailers."""

exceeded: Counter[str] = Counter(dict.fromkeys(get_args(Bound), 0))
"""How often responses exceeded each bound. Every bound has a counter from the start, so that the metrics list every
bound."""


class BoundExceeded(UpstreamFailed):
    """Error: a response exceeds `bound`. The constructor counts the error. The next response of the same media server
    would exceed the bound, too, and yt-dlp's HTTP client has the same bounds, so neither a retry nor a new extraction
    helps."""

    def __init__(self, message: str, bound: Bound) -> None:
        super().__init__(message)
        note(bound)


def note(bound: Bound) -> None:
    """Count that a response exceeded `bound`."""
    exceeded[bound] += 1


def excess(before: int, framing: int, payload: int) -> int:
    """Return by how many bytes the chunk framing of a body exceeds what the payload allows: the earlier excess
    `before`, plus `framing` bytes of framing, minus what `payload` bytes of payload allow. The result is never
    negative, so payload does not allow more framing later."""
    return max(0, before + framing - MAX_FRAMING * payload)

"""The bounds on what a media server may send: their numbers that two parts share, the error if one is exceeded, and
counters, for the metrics, of how often that happened in this process."""

from __future__ import annotations

from collections import Counter
from typing import Literal, get_args

from serverpy.errors import UpstreamFailed

Bound = Literal["cookies", "fields", "framing", "head_bytes", "interim_responses", "playlists", "redirects"]

MAX_FRAMING = 8
"""Maximum number of bytes of chunk framing for each byte of a chunked body. Chunks of one byte have 5."""
FRAMING_GRACE_BYTES = 64 * 1024
"""Bytes of framing that a body may have beyond `MAX_FRAMING`: long extensions of some chunks, and trailers."""

exceeded: Counter[str] = Counter(dict.fromkeys(get_args(Bound), 0))
"""How often each bound was exceeded. Every bound has a counter from the start, so that its metric exists."""


class BoundExceeded(UpstreamFailed):
    """Error: a response that exceeds `bound`. Making the error counts it. The next response of the server would exceed
    the bound, too, and yt-dlp's HTTP client has the same bounds, so neither a retry nor a new extraction helps."""

    def __init__(self, message: str, bound: Bound) -> None:
        super().__init__(message)
        note(bound)


def note(bound: Bound) -> None:
    """Count that `bound` was exceeded."""
    exceeded[bound] += 1


def excess(before: int, framing: int, payload: int) -> int:
    """Return by how many bytes the framing of a chunked body exceeds what its payload allows, after `framing` and
    `payload` bytes have arrived. Earlier payload is no credit for later framing."""
    return max(0, before + framing - MAX_FRAMING * payload)

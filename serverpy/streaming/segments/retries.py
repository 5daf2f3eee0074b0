"""The rules that decide whether a segment is requested again after a failure, and when. A segment of a finished
playlist is requested four times in two seconds, because a client should not wait longer. A segment of a live playlist
is requested again until a target duration has passed: a player that falls behind by a target duration can still play,
and one failure of a packager must not end the streams of all clients of a live stream.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from serverpy.aes import InvalidKey, Undecryptable
from serverpy.errors import NotMedia, SourceError, TooLarge, UpstreamFailed
from serverpy.net.range_requests import BACK_OFF_SECONDS, Refused, Unhealable
from serverpy.net.representation import Unusable
from serverpy.net.urls import RedirectFailed
from serverpy.segment_kinds import CodecChange, WrongKind
from serverpy.streaming.segments.cursor import PlaylistChanged

LIVE_SECONDS = 2.0
"""Minimum number of seconds for which a segment of a live playlist is requested again, even if the target duration is
shorter."""
_FINAL = (CodecChange, PlaylistChanged, TooLarge)


class EmptySegment(UpstreamFailed):
    """Error: the response to a request for a segment has no bytes. If the response to the next request has no bytes
    either, the segment counts as empty."""


class ShortFile(UpstreamFailed):
    """Error: the file at `url` ends before the byte range of a segment begins. `total` is the length of the file in
    bytes, or None if the media server does not state it."""

    def __init__(self, url: str, total: int | None) -> None:
        super().__init__("The media is shorter than its playlist says.")
        self.url = url
        self.total = total


class AbsentSegment(Unhealable):
    """Error: according to the response, a segment that may be absent does not exist. If the next response says the
    same, the media ends before this segment. A fresh URL is not tried, because the previous segment has just been read
    at its current URL, and because the page would otherwise be extracted again at the end of each such stream."""


class Retries:
    """The count of the failed requests for one segment since the last byte of the segment arrived. `seconds` is the
    time, in seconds, for which a segment of a live playlist is requested again, or None for a segment of a finished
    playlist."""

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = None if seconds is None else max(seconds, LIVE_SECONDS)
        self._clock = clock
        self._begun: float | None = None
        self._kinds = Counter[type[SourceError]]()
        self.count = 0
        """Number of failed requests so far."""

    async def wait(self, error: SourceError) -> None:
        """Count the failure `error`, and wait until the segment may be requested again. Raises `error` if the segment
        must not be requested again. If only one response has been an `EmptySegment` or `AbsentSegment`, raises
        `UpstreamFailed` instead of this error, because its callers leave out the segment or end the stream."""
        now = self._clock()
        self._begun = now if self._begun is None else self._begun
        self.count += 1
        self._kinds[type(error)] += 1
        if self._is_over(error, now - self._begun):
            is_unconfirmed = isinstance(error, EmptySegment | AbsentSegment) and self._kinds[type(error)] == 1
            raise UpstreamFailed(str(error)) if is_unconfirmed else error
        await asyncio.sleep(BACK_OFF_SECONDS[min(self.count, len(BACK_OFF_SECONDS)) - 1])

    def _is_over(self, error: SourceError, elapsed: float) -> bool:
        if isinstance(error, _FINAL):
            return True
        if isinstance(error, AbsentSegment) or (isinstance(error, EmptySegment) and self._seconds is None):
            return self._kinds[type(error)] > 1 or self.count > len(BACK_OFF_SECONDS)
        if self._seconds is None:
            return self.count > len(BACK_OFF_SECONDS) or not _is_worth_repeating(error)
        return self.count > len(BACK_OFF_SECONDS) and elapsed > self._seconds


def _is_worth_repeating(error: SourceError) -> bool:
    """Return whether the segment should be requested again after `error`. Returns False after failures of the transport
    and temporary statuses, because `net/range_requests.py` has already repeated the request after these errors."""
    if isinstance(error, Refused):
        return not error.may_pass
    return isinstance(
        error, NotMedia | WrongKind | ShortFile | InvalidKey | Undecryptable | Unhealable | Unusable | RedirectFailed
    )

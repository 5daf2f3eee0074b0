"""The rules that decide after which failures a segment is requested again, and when. A segment of a finished playlist
is requested four times in two seconds, because a client should not wait longer. A segment of a live playlist is
requested again for a target duration: a player that falls behind by that much can still play, and one failure of a
packager must not cut all clients of a live stream.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from serverpy.errors import NotMedia, SourceError, TooLarge, UpstreamFailed
from serverpy.net.range_requests import BACK_OFF_SECONDS, Refused, Unhealable
from serverpy.streaming.segments.cursor import PlaylistChanged
from serverpy.streaming.segments.kinds import CodecChange, WrongKind

LIVE_SECONDS = 2.0
"""Minimum number of seconds for which a segment of a live playlist is requested again, even if the target duration is
shorter."""
_FINAL = (CodecChange, PlaylistChanged, TooLarge)


class EmptySegment(UpstreamFailed):
    """Error of a response without bytes to a request for a segment. If the response to the next request is empty, too,
    the segment counts as empty."""


class ShortFile(UpstreamFailed):
    """Error of a file at `url` that ends before the byte range of a segment. `total` is the length of the file in
    bytes, or None if the media server does not state it."""

    def __init__(self, url: str, total: int | None) -> None:
        super().__init__("The media is shorter than its playlist says.")
        self.url = url
        self.total = total


class AbsentSegment(Unhealable):
    """Error of a response that says that a segment does not exist which may be absent. If the next response says so,
    too, the media ends before the segment. A fresh URL is not tried: the segment before has just been read from the
    same place, and a page would be extracted once more at the end of each stream."""


class InvalidKey(UpstreamFailed):
    """Error of a response to a request for a decryption key, if its length is not that of an AES key."""

    def __init__(self) -> None:
        super().__init__("The media has an invalid decryption key.")


class Retries:
    """The count of the failed requests for one segment since the last byte of it arrived. `seconds` is the time for
    which a segment of a live playlist is requested again; None for a segment of a finished playlist."""

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = None if seconds is None else max(seconds, LIVE_SECONDS)
        self._clock = clock
        self._begun: float | None = None
        self.count = 0
        """Number of failed requests so far."""

    async def wait(self, error: SourceError) -> None:
        """Count the failure `error`, and wait until the segment may be requested again. Raises `error` if it must not
        be requested again."""
        now = self._clock()
        self._begun = now if self._begun is None else self._begun
        self.count += 1
        if self._is_over(error, now - self._begun):
            raise error
        await asyncio.sleep(BACK_OFF_SECONDS[min(self.count, len(BACK_OFF_SECONDS)) - 1])

    def _is_over(self, error: SourceError, elapsed: float) -> bool:
        if isinstance(error, _FINAL):
            return True
        if isinstance(error, AbsentSegment) or (isinstance(error, EmptySegment) and self._seconds is None):
            return self.count > 1
        if self._seconds is None:
            return self.count > len(BACK_OFF_SECONDS) or not _may_pass(error)
        return self.count > len(BACK_OFF_SECONDS) and elapsed > self._seconds


def _may_pass(error: SourceError) -> bool:
    """Return whether a further request may succeed after `error`. This is so after errors that `net/range_requests.py`
    considers final. After failures of the transport and 5xx responses, `net/range_requests.py` has already repeated the
    request."""
    if isinstance(error, Refused):
        return 400 <= error.status < 500 and error.status not in (408, 425, 429)
    return isinstance(error, NotMedia | WrongKind | ShortFile | InvalidKey | Unhealable)

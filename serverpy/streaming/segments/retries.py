"""The choice of the failures after which a segment is requested again, and of the time of each request. A segment of a
finished playlist is requested four times in two seconds, because a client should not wait longer. A live segment is
requested for a target duration: a player that is so far behind still plays, and one failure of a packager must not cut
all clients of a broadcast.
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
"""Minimum seconds for which a live segment is requested, even if the target duration is shorter."""
_FINAL = (CodecChange, PlaylistChanged, TooLarge)


class EmptySegment(UpstreamFailed):
    """A response for a segment that has no bytes. If the next response is empty, too, the segment itself is empty."""


class ShortFile(UpstreamFailed):
    """A file at `url` that ends before the byte range of a segment. `total` is the file's length in bytes, if the
    server states it."""

    def __init__(self, url: str, total: int | None) -> None:
        super().__init__("The media is shorter than its playlist says.")
        self.url = url
        self.total = total


class InvalidKey(UpstreamFailed):
    """A response to a request for a key, with a length that no key has."""

    def __init__(self) -> None:
        super().__init__("The media has an invalid decryption key.")


class Retries:
    """The requests for one segment since its last new byte. `seconds` is the time for which a live segment is requested
    again; None for any other segment."""

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = None if seconds is None else max(seconds, LIVE_SECONDS)
        self._clock = clock
        self._begun: float | None = None
        self.count = 0
        """Number of failed attempts."""

    async def wait(self, error: SourceError) -> None:
        """Wait until the next attempt is due after `error`. Raises `error` if no attempt is left."""
        now = self._clock()
        self._begun = now if self._begun is None else self._begun
        self.count += 1
        if self._is_over(error, now - self._begun):
            raise error
        await asyncio.sleep(BACK_OFF_SECONDS[min(self.count, len(BACK_OFF_SECONDS)) - 1])

    def _is_over(self, error: SourceError, elapsed: float) -> bool:
        if isinstance(error, _FINAL):
            return True
        if isinstance(error, EmptySegment) and self._seconds is None:
            return self.count > 1
        if self._seconds is None:
            return self.count > len(BACK_OFF_SECONDS) or not _may_pass(error)
        return self.count > len(BACK_OFF_SECONDS) and elapsed > self._seconds


def _may_pass(error: SourceError) -> bool:
    """Return whether another request may succeed and was not yet sent by `net/range_requests.py`, which repeats
    requests after failures of the transport and 5xx, but not after errors that it considers final."""
    if isinstance(error, Refused):
        return 400 <= error.status < 500 and error.status not in (408, 425, 429)
    return isinstance(error, NotMedia | WrongKind | ShortFile | InvalidKey | Unhealable)

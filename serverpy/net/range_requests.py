"""The requests of one ranged read: what is requested, which responses carry media, and when a retry is useful."""

from __future__ import annotations

import asyncio
from typing import Protocol

from serverpy.errors import UpstreamFailed, UpstreamTimeout
from serverpy.net.client import Response
from serverpy.ranges import ByteRange

BACK_OFF_SECONDS = (0.2, 0.5, 1.0)
_EXPIRED = frozenset({401, 403, 404, 410})
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


class RangeSource(Protocol):
    """Bytes at a media server that can be requested by range, at their current address."""

    async def open(self, headers: dict[str, str]) -> Response: ...

    async def renew(self) -> bool:
        """Find a fresh address for the same bytes. Returns False if there is none but the current one."""
        ...


class Unhealable(UpstreamFailed):
    """A failure after which a retry would not help, or would splice two different files."""


class Refused(UpstreamFailed):
    """A response whose status carries no media."""

    def __init__(self, status: int, retry_after: str | None) -> None:
        super().__init__(f"The media server refused the request (HTTP {status}).")
        self.status = status
        self.retry_after = float(retry_after) if retry_after is not None and retry_after.isdecimal() else 0.0


class RangeRequests:
    """The requests of one read. `tries` counts those that failed since the last new byte."""

    def __init__(self, source: RangeSource, window_bytes: int | None, wait_seconds: float) -> None:
        self._source = source
        self._wait_seconds = wait_seconds
        self.window_bytes = window_bytes
        self.tries = 0
        self.renewed = False
        """Whether the address has changed since the first response."""

    async def send(self, asked: ByteRange | None, if_range: str | None = None) -> Response:
        """Request the range `asked`, or the whole if it is None. Returns a response that carries media, or a 416.
        Raises `Refused` for any other status, `Unhealable` for a content coding that cannot be decoded."""
        headers = {} if asked is None else {"Range": str(self._within_window(asked))}
        if if_range is not None:
            headers["If-Range"] = if_range
        response = await self._source.open(headers)
        if response.status not in (200, 206, 416):
            response.close()
            raise Refused(response.status, response.headers.get("retry-after"))
        if response.coding_problem is not None:
            response.close()
            raise Unhealable(response.coding_problem)
        if response.is_decoded and response.status == 206:  # a part of the compressed bytes
            response.close()
            if asked is None:
                raise Unhealable("The media server sent a part of compressed media, which cannot be decoded.")
            return await self.send(None)
        return response

    def _within_window(self, asked: ByteRange) -> ByteRange:
        if self.window_bytes is None or asked.first is None:
            return asked
        last = asked.first + self.window_bytes - 1
        return ByteRange(asked.first, last if asked.last is None else min(asked.last, last))

    async def before_retry(self, error: UpstreamFailed | UpstreamTimeout) -> None:
        """Wait, or find a fresh address, before the next attempt. Raises `error` if there is to be none."""
        self.tries += 1
        if isinstance(error, Unhealable) or self.tries > len(BACK_OFF_SECONDS):
            raise error
        delay = BACK_OFF_SECONDS[self.tries - 1]
        if isinstance(error, Refused):
            if error.status in _EXPIRED and await self._source.renew():
                self.renewed = True
                return
            if error.status not in _PASSING or error.retry_after > self._wait_seconds:
                raise error
            delay = max(delay, error.retry_after)
        await asyncio.sleep(delay)

"""The requests of one ranged read: their ranges, the responses that carry media, and the remedies for a failure. There
are four remedies: repeat the request after a pause; repeat it once without Range, if Range may have made the server
fail; repeat it at a fresh address, if the current address may be stale; or fail the read. `RangeRequests` chooses a
remedy by the kind of the failure and by the remedies tried since the last new byte.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from serverpy.errors import ServerPYError, UpstreamFailed, UpstreamTimeout
from serverpy.net.client import Response
from serverpy.net.representation import Mismatch, Part, Representation, Unusable
from serverpy.net.urls import RedirectFailed, split
from serverpy.ranges import ByteRange

BACK_OFF_SECONDS = (0.2, 0.5, 1.0)
_CARRY_MEDIA = frozenset({200, 203, 206})
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may be temporary, so that a later request may succeed. Any other status without media may mean that the
address is stale."""
_RANGE_REFUSED = frozenset({400, 403, 405, 412, 416})
"""Statuses below 500 with which servers refuse a Range that they do not support."""
_FOR_EVERY_CLIENT = frozenset({404, 410, 429, 451})
"""Statuses that are about the media or this server's address: another HTTP client would get the same status."""


class RangeSource(Protocol):
    """Bytes at a media server that can be requested by range, at their current address."""

    async def open(self, headers: dict[str, str]) -> Response: ...

    async def renew(self) -> bool:
        """Find a fresh address for the same bytes. Returns False if only the current one is known."""
        ...


class Unhealable(UpstreamFailed):
    """A failure after which a retry would not help."""


class Refused(UpstreamFailed):
    """A response whose status carries no media."""

    def __init__(self, status: int, retry_after: str | None) -> None:
        super().__init__(f"The media server refused the request (HTTP {status}).")
        self.status = status
        self.retry_after = float(retry_after) if retry_after is not None and retry_after.isdecimal() else 0.0

    @property
    def is_passing(self) -> bool:
        return self.status in _PASSING


class RangeRequests:
    """The requests of one read. `tries` counts failed requests since the last new byte; `renewals` is the maximum
    number of fresh addresses in that time."""

    def __init__(
        self, source: RangeSource, window_bytes: int | None, wait_seconds: float, renewals: int = len(BACK_OFF_SECONDS)
    ) -> None:
        self._source = source
        self._wait_seconds = wait_seconds
        self._renewals = self._renewals_left = renewals
        self._has_begun = False
        self._is_trial = False
        self._tried_without = False
        self.window_bytes = window_bytes
        self.tries = 0
        self.known = Representation()
        """The facts about the file from the accepted responses."""
        self.sent_range = False
        """Whether the last request had a Range."""
        self.without_range = False
        """Whether requests leave Range out, because the server fails if a request has a Range."""
        self.range_works = False
        """Whether the server at the current address has answered a range as requested."""

    async def send(self, asked: ByteRange | None, if_range: str | None = None) -> Response:
        """Request the range `asked`, or the whole file if `asked` is None. Returns a response that carries media, or a
        416 in answer to a Range. Raises `Refused` for any other status, `Unhealable` for a content coding that cannot
        be decoded."""
        headers = {} if asked is None or self.without_range else {"Range": str(self._within_window(asked))}
        self.sent_range = bool(headers)
        if headers and if_range is not None:
            headers["If-Range"] = if_range
        response = await self._source.open(headers)
        if response.status not in _CARRY_MEDIA and not (response.status == 416 and self.sent_range):
            response.close()
            raise Refused(response.status, response.headers.get("retry-after"))
        if response.coding_problem is not None:
            response.close()
            raise Unhealable(response.coding_problem)
        if response.is_decoded and response.status == 206:  # the response carries only a part of the compressed bytes
            response.close()
            if asked is None:
                raise Unhealable("The media server sent a part of compressed media, which cannot be decoded.")
            self.without_range = True
            return await self.send(None)
        return response

    def _within_window(self, asked: ByteRange) -> ByteRange:
        if self.window_bytes is None or asked.first is None:
            return asked
        last = asked.first + self.window_bytes - 1
        return ByteRange(asked.first, last if asked.last is None else min(asked.last, last))

    def accept(self, response: Response, part: Part) -> None:
        """Record that `response` carries the requested bytes. Raises `Mismatch` if the bytes are those of another
        file."""
        self.known.learn(part.total, response.headers, split(response.url)[0])
        self._has_begun = True
        self._is_trial = False
        self.range_works = self.range_works or part.is_range

    def progress(self) -> None:
        """Record that a new byte has arrived after a failure, so that all remedies may be tried again."""
        self.tries = 0
        self._renewals_left = self._renewals
        self._tried_without = self.without_range

    async def before_retry(self, error: UpstreamFailed | UpstreamTimeout) -> None:
        """Prepare the next attempt. Raises `error` if no remedy is left, and the error of an extraction if the server
        refuses the address."""
        error.of_transport = not (isinstance(error, Refused) and error.status in _FOR_EVERY_CLIENT)
        self.tries += 1
        if isinstance(error, Unhealable) or self.tries > len(BACK_OFF_SECONDS):
            raise error
        if self._is_trial:
            self.without_range = self._is_trial = False
        if self.may_blame_range(error):
            self.without_range = self._is_trial = self._tried_without = True
            return
        if self._may_be_stale(error) and await self._renew(error):
            return
        if self._is_final(error):
            raise error
        wait_seconds = error.retry_after if isinstance(error, Refused) else 0
        await asyncio.sleep(max(BACK_OFF_SECONDS[self.tries - 1], wait_seconds))

    def may_blame_range(self, error: UpstreamFailed | UpstreamTimeout) -> bool:
        """Return whether the same request without Range may succeed. A server error that may be temporary counts
        against Range only if it occurs twice."""
        if self.range_works or self._tried_without or not self.sent_range:
            return False
        if not isinstance(error, Refused):
            return isinstance(error, Unusable)
        if error.is_passing:
            return error.status >= 500 and self.tries > 1 and not error.retry_after
        return error.status in _RANGE_REFUSED or error.status >= 500

    def _may_be_stale(self, error: UpstreamFailed | UpstreamTimeout) -> bool:
        """Return whether a fresh address may help. After a network failure, a fresh address is the last remedy."""
        if isinstance(error, Mismatch) and error.by_etag:
            self._renewals_left = 0
        if not self._renewals_left:
            return False
        if isinstance(error, Refused):
            return not error.is_passing
        return isinstance(error, Unusable | Mismatch | RedirectFailed) or self.tries == len(BACK_OFF_SECONDS)

    async def _renew(self, error: UpstreamFailed | UpstreamTimeout) -> bool:
        self._renewals_left -= 1
        try:
            is_fresh = await self._source.renew()
        except ServerPYError:
            if isinstance(error, Refused):
                raise  # a new extraction reports why the site refuses the address
            return False
        if is_fresh:
            self.known.forget_etags()
            self.range_works = self.without_range = self._tried_without = False
        return is_fresh

    def _is_final(self, error: UpstreamFailed | UpstreamTimeout) -> bool:
        """Return whether the same request would fail again. In mid-stream, the next response may come from another
        server that still has the file."""
        if isinstance(error, Refused):
            return not error.is_passing or error.retry_after > self._wait_seconds
        return isinstance(error, Unusable | RedirectFailed) and not self._has_begun

"""The requests of one ranged read: their ranges, the responses that contain media, and the remedies for a failure.

There are three remedies: repeat the request after a pause; repeat the request once without Range, if Range may have
made the media server fail; repeat the request at a fresh URL, if the current URL may have expired. If no remedy is
left, the read fails. `RangeRequests` chooses a remedy by the kind of the failure and by the remedies that it has tried
since the last new byte. Once a read has begun, any failure may be temporary, because one of several servers behind a
URL may fail, or lack the file for a moment.

If a range is refused, and the same request without Range then succeeds, the cause of the refusal may have been Range or
a temporary failure. If the media server claims to honour ranges, or the caller expects that, the range is then
requested once more, and only another refusal counts as caused by Range.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from serverpy.errors import ServerPYError, UpstreamFailed, UpstreamTimeout
from serverpy.net.bounds import BoundExceeded
from serverpy.net.client import Response
from serverpy.net.representation import Mismatch, Part, Representation, Unusable
from serverpy.net.urls import RedirectFailed, split
from serverpy.ranges import ByteRange

BACK_OFF_SECONDS = (0.2, 0.5, 1.0)
_CARRY_MEDIA = frozenset({200, 206})
_PASSING = frozenset({202, 408, 425, 429, 500, 502, 503, 504, *range(520, 600)})
"""Statuses of temporary failures: the same request may succeed later. No standard defines those from 520 on; CDNs and
proxies use them if they cannot reach the origin server. Any other status without media may mean that the URL has
expired."""
_NOT_BY_RANGE = frozenset({401, 402, 410, 451})
"""Statuses that do not mean that the media server refuses the Range header. Nearly any other status of 400 or more may
mean that."""
_FOR_EVERY_CLIENT = frozenset({404, 410, 429, 451})
"""Statuses that depend on the media or on the IP address of this machine: another HTTP client would get the same
status."""


class RangeSource(Protocol):
    """Bytes at a media server that can be requested by range, at a URL that may expire."""

    async def open(self, headers: dict[str, str]) -> Response: ...

    async def renew(self) -> bool:
        """Find a fresh URL for the same bytes. Returns False if only the current URL is known."""
        ...


class Unhealable(UpstreamFailed):
    """Error: the response cannot be used, and a retry would not help."""


class Refused(UpstreamFailed):
    """Error: the status of a response shows that the response contains no media."""

    def __init__(self, status: int, retry_after: str | None) -> None:
        super().__init__(f"The media server refused the request (HTTP {status}).")
        self.status = status
        self.retry_after = float(retry_after) if retry_after is not None and retry_after.isdecimal() else 0.0

    @property
    def is_passing(self) -> bool:
        return self.status in _PASSING

    @property
    def may_pass(self) -> bool:
        """Whether the read repeats the request at the same URL. A status below 400 without media, such as 204 or 304,
        does not state that the request is wrong, but may mean that the URL has expired, so a fresh URL is tried
        first."""
        return self.is_passing or self.status < 400


class RangeRequests:
    """The requests of one read. `tries` is the number of requests that have failed since the last new byte arrived.
    `renewals` is the maximum number of URL renewals without a new byte. `continues` states that an earlier read got
    ranges of the same file, so that no failure is final or blamed on Range. `expects_range` states that the media
    server probably honours ranges, or that the caller has no use for the whole file."""

    def __init__(
        self,
        source: RangeSource,
        window_bytes: int | None,
        wait_seconds: float,
        renewals: int = len(BACK_OFF_SECONDS),
        known: Representation | None = None,
        *,
        continues: bool = False,
        expects_range: bool = False,
    ) -> None:
        self._source = source
        self._wait_seconds = wait_seconds
        self._renewals = self._renewals_left = renewals
        self._has_begun = continues
        self._expects_range = expects_range
        self._is_trial = False
        self._tried_without = False
        self._doubts = False
        """Whether the present request has no Range because of a refusal whose cause may also have been temporary."""
        self._has_doubted = False
        """Whether the range has already been requested once more after such a refusal."""
        self.window_bytes = window_bytes
        self.tries = 0
        self.known = known or Representation()
        """The facts about the file that the accepted responses of this read and of earlier reads stated."""
        self.sent: ByteRange | None = None
        """The Range header of the last request, or None if it had none."""
        self.asks_one_more = False
        """Whether requests ask for one byte more than needed, because the media server leaves out the last requested
        byte."""
        self.without_range = False
        """Whether requests omit the Range header, because the media server cannot answer a request with this header."""
        self.range_works = continues
        """Whether the media server at the current URL has responded with a requested range."""

    async def send(self, asked: ByteRange | None, if_range: str | None = None) -> Response:
        """Request the range `asked`, or the whole file if `asked` is None. Returns a response with media, or a 416 if
        the request had a Range header. Raises `Refused` if the response has any other status, `Unhealable` if its
        content coding cannot be decoded."""
        self.sent = None if asked is None or self.without_range else self._within_window(asked)
        headers = {} if self.sent is None else {"Range": str(self.sent)}
        if headers and if_range is not None:
            headers["If-Range"] = if_range
        response = await self._source.open(headers)
        if response.status not in _CARRY_MEDIA and not (response.status == 416 and self.sent_range):
            response.close()
            raise Refused(response.status, response.headers.get("retry-after"))
        if response.coding_problem is not None:
            response.close()
            raise Unhealable(response.coding_problem)
        if self._doubts and self._may_honour_range(response):
            response.close()
            self._acquit_range()
            return await self.send(asked, if_range)
        # The response contains only a part of the compressed bytes, and a part cannot be decoded.
        if response.is_decoded and response.status == 206:
            response.close()
            if asked is None:
                raise Unhealable("The media server sent a part of compressed media, which cannot be decoded.")
            self.without_range = True
            return await self.send(None)
        return response

    def _may_honour_range(self, response: Response) -> bool:
        """Return whether the media server may honour ranges although it has refused one. `response` is its response to
        a request without Range."""
        claims_ranges = (response.headers.get("accept-ranges") or "").strip().lower() == "bytes"
        return response.status == 200 and not response.is_decoded and (self._expects_range or claims_ranges)

    def _acquit_range(self) -> None:
        """Send further requests with Range, as if none had been refused yet."""
        self._doubts, self._has_doubted = False, True
        self.without_range = self._is_trial = self._tried_without = False

    def _within_window(self, asked: ByteRange) -> ByteRange:
        if asked.first is None:
            return asked
        last = asked.last
        if self.window_bytes is not None:
            end_of_window = asked.first + self.window_bytes - 1
            last = end_of_window if last is None else min(last, end_of_window)
        return ByteRange(asked.first, last if last is None else last + self.asks_one_more)

    @property
    def sent_range(self) -> bool:
        """Whether the last request had a Range header."""
        return self.sent is not None

    def accept(self, response: Response, part: Part) -> None:
        """Record that `response` contains the requested bytes. Raises `Mismatch` if the bytes belong to a different
        file."""
        self.known.learn(part.total, response.headers, split(response.url)[0])
        self._has_begun = True
        self._is_trial = self._doubts = False
        self.range_works = self.range_works or part.is_range

    def progress(self) -> None:
        """Record that a new byte has arrived, so that all remedies may be tried again after the next failure."""
        self.tries = 0
        self._renewals_left = self._renewals
        self._tried_without = self.without_range

    async def before_retry(self, error: UpstreamFailed | UpstreamTimeout) -> None:
        """Prepare the next attempt after `error`: wait, omit the Range header, or find a fresh URL. Raises `error` if
        no remedy is left. If the media server refused the URL and a new extraction fails, raises the error of that
        extraction."""
        is_exceeded = isinstance(error, BoundExceeded)
        error.of_transport = not (is_exceeded or (isinstance(error, Refused) and error.status in _FOR_EVERY_CLIENT))
        self.tries += 1
        if is_exceeded or isinstance(error, Unhealable) or self.tries > len(BACK_OFF_SECONDS):
            raise error
        if self._is_trial:
            self.without_range = self._is_trial = False
        if self.may_blame_range(error):
            self.without_range = self._is_trial = self._tried_without = True
            is_refusal = isinstance(error, Refused) or self._expects_range
            self._doubts = is_refusal and not (self._has_begun or self._has_doubted)
            return
        self._doubts = False
        if self._may_be_stale(error) and await self._renew(error):
            return
        if self._is_final(error):
            raise error
        wait_seconds = error.retry_after if isinstance(error, Refused) else 0
        await asyncio.sleep(max(BACK_OFF_SECONDS[self.tries - 1], wait_seconds))

    def may_blame_range(self, error: UpstreamFailed | UpstreamTimeout) -> bool:
        """Return whether the same request without Range may succeed. If the failure is a status 5xx that may be
        temporary, a connection without a response, or a response that cannot be read, returns True only from the second
        failure on."""
        if self.range_works or self._tried_without or not self.sent_range:
            return False
        if isinstance(error, UpstreamTimeout | Mismatch | RedirectFailed):
            return False
        if not isinstance(error, Refused):
            return isinstance(error, Unusable) or self.tries > 1
        if error.is_passing:
            return error.status >= 500 and self.tries > 1 and not error.retry_after
        return error.status >= 400 and error.status not in _NOT_BY_RANGE

    def _may_be_stale(self, error: UpstreamFailed | UpstreamTimeout) -> bool:
        """Return whether a fresh URL may help after `error`. If `error` is a failure of the network, a fresh URL is
        tried only for the last attempt."""
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
            if isinstance(error, Refused) and not self._has_begun:
                raise  # the error of the new extraction explains why the site refuses the URL
            return False
        if is_fresh:
            self.known.forget_etags()
            self.range_works = self.without_range = self._tried_without = False
        return is_fresh

    def _is_final(self, error: UpstreamFailed | UpstreamTimeout) -> bool:
        """Return whether the same request would fail again. In the middle of a stream, no failure is final, because the
        next response may come from another server that still has the file."""
        if isinstance(error, Refused) and error.retry_after > self._wait_seconds:
            return True
        if isinstance(error, Refused):
            return not (self._has_begun or error.may_pass)
        return isinstance(error, Unusable | RedirectFailed) and not self._has_begun

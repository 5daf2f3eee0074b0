"""A ranged read that heals: the bytes of one resource, in order, through cuts, stalls and expired addresses.

A failure in mid-stream is answered by a new request from a little before the byte reached; what comes again is
compared with what was given, so that wrong bytes never pass. Three tries without a new byte in between are the end.
The rules: RFC 9110 §13.1.5 (If-Range), §14 (ranges), §15.3.7 (206), §15.5.17 (416).
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Protocol

from serverpy.errors import RangeNotSatisfiable, UpstreamFailed, UpstreamTimeout
from serverpy.net.client import Response
from serverpy.net.connection import SMALL_STEP
from serverpy.net.http1 import Headers

BACK_OFF_SECONDS = (0.2, 0.5, 1.0)
OVERLAP_BYTES = 4096
"""How much of what was given is fetched again and compared."""
_EXPIRED = frozenset({401, 403, 404, 410})
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


class Upstream(Protocol):
    """Where the bytes come from, under whichever address it has at the moment."""

    async def open(self, headers: dict[str, str]) -> Response: ...

    async def renew(self) -> bool:
        """Find a fresh address for the same bytes. False if there is none but the one we had."""
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """Which bytes of the whole: from `first` to before `end`; None where it is not known."""

    first: int
    end: int | None
    total: int | None


class Unhealable(UpstreamFailed):
    """Asking again would not help, or would splice two files."""


class _Refused(UpstreamFailed):
    """An answer with a status that carries no media."""

    def __init__(self, status: int, retry_after: str | None) -> None:
        super().__init__(f"The media server refuses ({status}).")
        self.status = status
        self.retry_after = float(retry_after) if retry_after is not None and retry_after.isdecimal() else 0.0


class ResumingRead:
    """An open read of `span`. Holds OVERLAP_BYTES beside what its response holds. Closed by its owner."""

    def __init__(self, upstream: Upstream, *, window_bytes: int | None, wait_seconds: float) -> None:
        self._upstream = upstream
        self._step = SMALL_STEP
        self._window_bytes = window_bytes
        self._wait_seconds = wait_seconds
        self._response: Response | None = None
        self._position = 0
        self._tail = b""
        self._discard = 0
        self._expected = b""
        self._tries = 0
        self._gained = False
        self._renewed = False
        self.span = Span(0, None, None)
        self.partial = False
        """Whether the server honours ranges."""
        self.honoured = False
        """Whether `span` is a range that was asked for."""
        self.headers = Headers(())
        self.connect_seconds = 0.0

    async def open(self, first: int | None, last: int | None, if_range: str | None, *, ranges: bool) -> None:
        """Begin with the bytes asked (as in `Range`; `None, None` is the whole). With `ranges` False, or if the
        server does not know them or `if_range` no longer holds, `span` is the whole.

        Raises `RangeNotSatisfiable`, `SourceError` or what the upstream raises."""
        while True:
            try:
                return await self._open_first(first, last, if_range, ranges=ranges)
            except (UpstreamFailed, UpstreamTimeout) as error:
                await self._before_retry(error)

    async def read(self) -> bytes:
        """The next bytes; `b""` when the span is complete. Raises `UpstreamFailed`, `UpstreamTimeout` when healing
        failed."""
        while True:
            try:
                chunk = await self._read_once()
            except (UpstreamFailed, UpstreamTimeout) as error:
                await self._before_retry(error)
            else:
                if chunk is not None:
                    return chunk

    def set_step(self, nbytes: int) -> None:
        """How much is read at once, also after a new request."""
        self._step = nbytes
        if self._response is not None:
            self._response.set_step(nbytes)

    def close(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.close()

    async def aclose(self) -> None:
        """For owners whose other kinds of read have something to wait for."""
        self.close()

    # Reading

    async def _read_once(self) -> bytes | None:
        """One step: bytes to give, `b""` at the end, or None if the step brought nothing to give."""
        if self._response is None:
            await self._reopen()
        assert self._response is not None
        chunk = await self._response.read()
        if chunk:
            return self._accept(chunk)
        end = self.span.end
        if end is None or self._position >= end:
            if self._expected or self._discard:
                raise Unhealable("The media became shorter while it was read.")
            return b""
        if not self._gained:
            raise UpstreamFailed("The media server gives no more bytes.")
        self.close()
        return None  # an answer may be shorter than its request (RFC 9110 §15.3.7): the rest is asked for

    def _accept(self, chunk: bytes) -> bytes | None:
        """Take off what was given before, compare where we can, count the rest."""
        if self._discard:
            dropped = min(self._discard, len(chunk))
            self._discard -= dropped
            chunk = chunk[dropped:]
        if self._expected and chunk:
            known = min(len(self._expected), len(chunk))
            if chunk[:known] != self._expected[:known]:
                raise Unhealable("The media changed while it was read.")
            self._expected = self._expected[known:]
            chunk = chunk[known:]
        if self.span.end is not None:
            chunk = chunk[: self.span.end - self._position]
        if not chunk:
            return None
        self._position += len(chunk)
        self._gained = True
        self._tail = chunk[-OVERLAP_BYTES:] if len(chunk) >= OVERLAP_BYTES else (self._tail + chunk)[-OVERLAP_BYTES:]
        self._tries = 0
        return chunk

    # Opening

    async def _open_first(self, first: int | None, last: int | None, if_range: str | None, *, ranges: bool) -> None:
        if first is None and last is not None and self._window_bytes is not None:
            first, last = await self._resolve_suffix(last)
        headers = {"Range": self._range(first, last)} if ranges else {}
        asked = (first, last) != (None, None)
        if asked and if_range is not None:
            headers["If-Range"] = if_range
        response = await self._request(headers, keep={206, 416})
        if response.status == 416 and asked:
            response.close()
            raise RangeNotSatisfiable("The range lies beyond the end.", _total_of(response.headers))
        if asked and if_range is not None and not (response.status == 206 and _same(if_range, response.headers)):
            response.close()  # the whole is wanted then, and it may still be read by ranges
            await self._open_first(None, None, None, ranges=ranges)
            return
        self._begin(response, first, last)
        self.honoured = asked and self.partial

    async def _resolve_suffix(self, length: int) -> tuple[int, int | None]:
        """A server that insists on bounded ranges is asked for the length first."""
        probe = await self._request({"Range": "bytes=0-0"}, keep={206})
        total = _total_of(probe.headers)
        probe.close()
        if total is None:
            raise Unhealable("The media server does not tell the length of the media.")
        return max(0, total - length), None

    def _begin(self, response: Response, first: int | None, last: int | None) -> None:
        """Learn from the first answer what the whole is, and which part of it we read."""
        self._response, self._gained = response, False
        self.headers = response.headers
        self.connect_seconds = response.connect_seconds
        span = _content_range(response.headers) if response.status == 206 else None
        if span is not None and self._window_bytes is None and _is_whole_instead(span, first, last):
            begin, end, total = 0, span[2], span[2]
        elif span is not None:
            begin, end, total = _wanted(span, first, last)
            self.partial = True
        else:
            if response.status == 416:
                raise Unhealable("The media is empty.")
            begin, end = 0, _length(response.headers)
            total = end
            self._window_bytes = None
        self._position = begin
        self.span = Span(begin, end, total)

    async def _before_retry(self, error: UpstreamFailed | UpstreamTimeout) -> None:
        """Wait, or find a fresh address, before the next try. Raises `error` when there is to be none."""
        self.close()
        self._tries += 1
        if isinstance(error, Unhealable) or self._tries > len(BACK_OFF_SECONDS):
            raise error
        delay = BACK_OFF_SECONDS[self._tries - 1]
        if isinstance(error, _Refused):
            if error.status in _EXPIRED and await self._upstream.renew():
                self._renewed = True
                return
            if error.status not in _PASSING or error.retry_after > self._wait_seconds:
                raise error
            delay = max(delay, error.retry_after)
        await asyncio.sleep(delay)

    async def _reopen(self) -> None:
        """Ask again from the byte reached, or a little before it, and make ready to compare."""
        overlap = len(self._tail) if self._tries else 0
        begin = self._position - overlap
        last = None if self.span.end is None else self.span.end - 1
        headers = {"Range": self._range(begin, last)}
        etag = self.headers.get("etag")
        if etag is not None and not etag.startswith("W/") and not self._renewed:
            headers["If-Range"] = etag
        response = await self._request(headers, keep={206, 416})
        self._response, self._gained = response, False
        if response.status == 206:
            found, _, total = _content_range(response.headers)
            self._discard = 0
        elif response.status == 416:
            raise Unhealable("The media became shorter while it was read.")
        else:
            found, total, self._discard = begin, _length(response.headers), begin
        if found != begin or (total is not None and self.span.total is not None and total != self.span.total):
            raise Unhealable("The media changed while it was read.")
        if self.span.end is None and total is not None:  # now we know what the first answer did not tell
            self.span = Span(self.span.first, total, total)
        self._expected = self._tail[len(self._tail) - overlap :]

    async def _request(self, headers: dict[str, str], keep: set[int]) -> Response:
        """One request; answers other than 200 and those in `keep` become errors."""
        response = await self._upstream.open(headers)
        response.set_step(self._step)
        if response.status in keep or response.status == 200:
            if response.headers.get("content-encoding") not in (None, "", "identity"):
                response.close()
                raise Unhealable("The media server sends a coding that nobody asked for.")
            return response
        response.close()
        raise _Refused(response.status, response.headers.get("retry-after"))

    def _range(self, first: int | None, last: int | None) -> str:
        if first is None and last is not None:
            return f"bytes=-{last}"
        first = first or 0
        if self._window_bytes is not None:
            window_last = first + self._window_bytes - 1
            last = window_last if last is None else min(last, window_last)
        return f"bytes={first}-{'' if last is None else last}"


def _content_range(headers: Headers) -> tuple[int, int, int | None]:
    """First, last and total of a 206 (RFC 9110 §14.4). Raises `Unhealable` for what is none, or several."""
    match = re.fullmatch(r"\s*bytes\s+(\d+)-(\d+)/(\d+|\*)\s*", headers.get("content-range") or "", re.IGNORECASE)
    if match is None or int(match[2]) < int(match[1]):
        raise Unhealable("The media server answers with a range that cannot be understood.")
    return int(match[1]), int(match[2]), None if match[3] == "*" else int(match[3])


def _is_whole_instead(span: tuple[int, int, int | None], first: int | None, last: int | None) -> bool:
    """Whether a 206 carries the whole although a part was asked for: the server ignores ranges, and says 206."""
    begin, stop, total = span
    if total is None or (begin, stop) != (0, total - 1):
        return False
    if first is None:
        return last is not None and last < total
    return first > 0 or (last is not None and last < stop)


def _total_of(headers: Headers) -> int | None:
    total = (headers.get("content-range") or "").rpartition("/")[2].strip()
    return int(total) if total.isdecimal() else None


def _length(headers: Headers) -> int | None:
    """Content-Length, where it is what frames the body (RFC 9112 §6.3)."""
    length = headers.get("content-length")
    return (
        int(length) if length is not None and headers.get("transfer-encoding") is None and length.isdecimal() else None
    )


def _wanted(span: tuple[int, int, int | None], first: int | None, last: int | None) -> tuple[int, int, int]:
    """First byte, end and total of what was asked for, of which the answer gives `span`, maybe not all."""
    begin, _, total = span
    if total is None:
        raise Unhealable("The media server does not tell the length of the media.")
    asked = max(0, total - last) if first is None and last is not None else first or 0
    end = total if first is None or last is None else min(last + 1, total)
    if begin != asked or begin >= end:
        raise Unhealable("The media server answers with another range than was asked.")
    return begin, end, total


def _same(validator: str, headers: Headers) -> bool:
    """Strong comparison of an If-Range with what the answer carries (RFC 9110 §13.1.5)."""
    if validator.startswith(('"', "W/")):
        return validator == headers.get("etag") and not validator.startswith("W/")
    return validator == headers.get("last-modified")

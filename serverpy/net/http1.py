"""The part of HTTP/1.1 (RFC 9112) that a client needs. The module encodes a request, and parses the response as the
response arrives.

`response_head.py` parses heads, and `httptools` parses the chunked coding. This module bounds the memory: it buffers
one step of the connection (the bytes of one read from the socket), and asks for no more until the reader has taken that
step.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import httptools

from serverpy.errors import SourceError, UpstreamFailed, UpstreamTimeout
from serverpy.net.bounds import FRAMING_GRACE_BYTES, BoundExceeded, excess
from serverpy.net.connection import Connection
from serverpy.net.response_head import END, MAX_INTERIM, BadResponse, ResponseHead, check_incomplete, parse_response
from serverpy.net.urls import Origin, split

HEAD_BYTES = 64 * 1024
"""Maximum number of bytes of a response head, including the heads of interim responses before it."""
MAX_VALUE = 256
"""Maximum length of a header value that is kept, in characters. A longer value is truncated."""
MAX_VALIDATOR = 1024
"""Maximum length of a validator that is kept, in characters. A longer validator is dropped, not truncated, because the
truncated validators of two files may be equal."""
MAX_VALUES = 2
"""Maximum number of different values that are kept of one header field."""
_VALIDATORS = frozenset({"etag", "last-modified"})
_PASSING = frozenset({"location", "set-cookie"})
"""Header fields that are only needed to follow redirects and to store cookies. They are kept in full until
`Headers.lasting` leaves them out."""
_LASTING = _VALIDATORS | {
    "accept-ranges",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "retry-after",
    "transfer-encoding",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A GET request or, if `body` is not None, a POST request. Headers may come from web pages, so `encode` leaves out
    invalid headers, such as those with line breaks."""

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None

    @property
    def origin(self) -> Origin:
        """The origin of `url`. Raises `UpstreamFailed` if the URL is invalid, or if its scheme is neither http nor
        https."""
        return split(self.url)[0]

    def encode(self, to_proxy: Iterable[tuple[str, str]] | None = None) -> bytes:
        """Return the request as bytes. If the request goes to a proxy that takes the absolute form, `to_proxy` has the
        headers for that proxy (RFC 9112 §3.2.2)."""
        origin, target = split(self.url)
        if to_proxy is not None:
            target = f"{origin.scheme}://{origin.host_header}{target}"
        lines = [f"{'GET' if self.body is None else 'POST'} {target} HTTP/1.1", f"Host: {origin.host_header}"]
        lines += [f"{name}: {value}" for name, value in self.headers if _is_sendable(name, value)]
        lines += [f"{name}: {value}" for name, value in to_proxy or ()]
        if self.body is not None:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + (self.body or b"")


def _is_sendable(name: str, value: str) -> bool:
    """Return whether the header is valid (RFC 9110 §5.5) and one that the caller may set. The caller may not set
    framing headers and Host, because this module writes these itself."""
    return (
        name.isascii()
        and name.replace("-", "").replace("_", "").isalnum()
        and name.lower() not in _OURS
        and not _BREAK.search(value)
    )


_BREAK = re.compile(r"[\r\n\0]")
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect"})


class Headers:
    """The fields of a response, by lower-case name. `get` returns the first value of a field, `all` returns all values
    of a field."""

    __slots__ = ("_fields", "_first")

    def __init__(self, fields: Iterable[tuple[str, str]]) -> None:
        self._fields = [(name.lower(), value) for name, value in fields]
        self._first = dict(reversed(self._fields))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._fields)

    def get(self, name: str) -> str | None:
        return self._first.get(name)

    def all(self, name: str) -> list[str]:
        return [value for field, value in self._fields if field == name] if name in self._first else []

    def lasting(self) -> Headers:
        """Return the fields that are needed after redirects and cookies have been handled."""
        return Headers((name, value) for name, value in self._fields if name not in _PASSING)


def needed(fields: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the fields of a response that ServerPY uses. Limits the length of their values, because the media server
    decides how long the values are, and they take memory until the stream ends."""
    kept: dict[str, set[str]] = {}
    for name, value in fields:
        field = name.lower()
        if field in _PASSING:
            yield field, value
        elif field in _LASTING and (len(value) <= MAX_VALIDATOR or field not in _VALIDATORS):
            short = value if field in _VALIDATORS else value[:MAX_VALUE]
            values = kept.setdefault(field, set())
            if short not in values and len(values) < MAX_VALUES:
                values.add(short)
                yield field, short


class Exchange:
    """The response to one request, parsed as the connection delivers it. An exchange has only one reader.

    An exchange buffers at most one step of the connection (the bytes of one read from the socket). It asks the
    connection for more bytes only when the reader waits and nothing is buffered.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._head = b""
        self._left: int | None = None
        """The number of bytes of the body that have not arrived yet. None if the length of the body is unknown."""
        self._chunked: httptools.HttpResponseParser | None = None
        self._chunks: deque[bytes] = deque()
        self._error: SourceError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._bare_bytes = 0
        """The number of bytes of the head that have arrived; in a chunked body, by how many bytes the framing exceeds
        what the payload allows (`bounds.excess`)."""
        self._interim = 0
        self.status = 0
        self.headers = Headers(())
        self.touched = False
        """Whether the media server has sent any byte of the response."""
        self.complete = False
        self.reusable = False

    @property
    def is_chunked(self) -> bool:
        return self._chunked is not None

    async def head(self, timeout: float, patience: float | None = None) -> None:
        """Wait at most `timeout` seconds until the status and the headers have arrived. If `patience` is not None, wait
        at most `patience` seconds for the first byte of the response, and then at most `timeout` seconds for the rest
        of the head. Raises `UpstreamFailed` if the head is malformed or the connection ends, `UpstreamTimeout` if the
        media server does not respond in time."""
        while not self.status:
            if self._error is not None:
                raise self._error
            try:
                await self._more(timeout if patience is None else min(patience, timeout))
            except UpstreamTimeout:
                if patience is None or not self.touched:
                    raise
                patience = None

    async def chunk(self, timeout: float) -> bytes:
        """Return the next bytes of the body, or `b""` at its end. Raises `UpstreamFailed` if the body is truncated,
        `UpstreamTimeout` if the media server sends nothing for `timeout` seconds."""
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.complete:
                return b""
            await self._more(timeout)
        return self._chunks.popleft()

    def close(self) -> None:
        """Drop the buffered bytes. Also drop an earlier error, because its traceback would keep this exchange in memory
        until the next run of the garbage collector. A read in progress, and every later read, raises `UpstreamFailed`.
        Idempotent."""
        self._chunks.clear()
        self._chunked = None  # the parser refers to this exchange, which would make a reference cycle
        self._head = b""
        self._error = UpstreamFailed("The stream was closed while it was being read.")
        self._wake()

    async def _more(self, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(timeout, self._give_up)
        self._connection.resume()
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _give_up(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(UpstreamTimeout("Timed out waiting for data from the media server."))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # Methods that the connection calls

    def data_received(self, data: memoryview) -> None:
        self.touched = True
        if self.status and self._chunked is None and not self.complete:
            self._take_body(data)
            self._wake()
            return
        try:
            self._take(data)
        except BadResponse as error:
            self._fail(BoundExceeded(str(error), error.bound) if error.bound else UpstreamFailed(str(error)))
        except httptools.HttpParserError:
            self.reusable = False
            if not self.complete:  # if the response is complete, only bytes after the body are malformed
                self._fail(UpstreamFailed("The media server sent a malformed HTTP response."))
        if len(self._chunks) > 1:  # in a queue, each small chunk takes far more memory than its bytes
            self._chunks = deque((b"".join(self._chunks),))
        self._count(len(data))
        if self._chunks or self.complete or self._error is not None:  # chunk framing alone must not restart the timeout
            self._wake()
        if not self._chunks and not self.complete and self._error is None:
            # Only a part of the head, or only chunk framing, has arrived, so the reader still waits for data.
            self._connection.resume()

    def _take(self, data: memoryview) -> None:
        if not self.status:
            rest = self._take_head(bytes(data))
            if rest is None:
                return
            data = memoryview(rest)
        if self.complete:
            # Bytes after the response are a second response that the client has not requested.
            self.reusable = self.reusable and not data
        elif self._chunked is not None:
            self._chunked.feed_data(data)
        elif data:
            self._take_body(data)

    def _take_head(self, data: bytes) -> bytes | None:
        """Parse the final head, and any interim heads before it (RFC 9110 §15.2). Returns the bytes after the final
        head, or None if that head is incomplete."""
        searched = max(0, len(self._head) - 3)
        self._head = self._head + data if self._head else data.lstrip(b"\r\n")
        while match := END.search(self._head, searched):
            parsed = parse_response(self._head[: match.start()])
            self._head, searched = self._head[match.end() :], 0
            if parsed.status == 101:  # a 101 is invalid, because the client requested no upgrade
                raise BadResponse("The media server sent a malformed HTTP response.")
            if parsed.status >= 200:
                rest, self._head = self._head, b""
                self._begin(parsed)
                return rest
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise BadResponse("The media server sent too many interim responses.", "interim_responses")
        check_incomplete(self._head)
        return None

    def _begin(self, head: ResponseHead) -> None:
        self.status = head.status
        self.headers = Headers(needed(head.fields))
        self.reusable, self._left = head.reusable, head.length
        self.complete = head.length == 0
        if head.chunked:
            self._chunked = _dechunker(self)
        self._wake()

    def _take_body(self, data: memoryview) -> None:
        left = self._left
        if left is not None:
            if left < len(data):
                data, self.reusable = data[:left], False
            self._left = left = left - len(data)
            self.complete = not left
        self._chunks.append(bytes(data))

    def _count(self, nbytes: int) -> None:
        """Limit the number of bytes that are not part of the body: the head, and whatever a hostile media server sends
        between or after chunks."""
        payload = len(self._chunks[0]) if self._chunks else 0
        self._bare_bytes = excess(self._bare_bytes, nbytes - payload, payload)
        if self.complete or self._error is not None:
            return
        if self.is_chunked and self._bare_bytes > FRAMING_GRACE_BYTES:
            self._fail(BoundExceeded("The media server sent too many bytes of chunk framing.", "framing"))
        elif not self.is_chunked and self._bare_bytes > HEAD_BYTES:
            self._fail(BoundExceeded("The media server sent too many bytes of headers.", "head_bytes"))

    def connection_lost(self, error: Exception | None) -> None:
        if self.complete or self._error is not None:
            self.reusable = False
        elif self.status and error is None and not self.is_chunked and self._left is None:
            self.complete = True  # the end of the connection is the end of the body (RFC 9112 §6.3)
        else:
            self._fail(
                UpstreamFailed(
                    "The media server closed the connection before the end of the body."
                    if self.status
                    else "The media server closed the connection without a response."
                )
            )
        self._wake()

    def _fail(self, error: SourceError) -> None:
        self._error = self._error or error
        self._head = b""  # if the caller keeps the error, its traceback keeps this exchange in memory
        self._connection.abort()

    # Callbacks that httptools' parser of the chunked coding calls

    def on_message_begin(self) -> None:
        if self.complete:  # bytes after the response are a second response that the client has not requested
            self.reusable = False

    def on_body(self, body: bytes) -> None:
        if not self.complete:
            self._chunks.append(body)

    def on_message_complete(self) -> None:
        self.complete = True


def _dechunker(exchange: Exchange) -> httptools.HttpResponseParser:
    """Return a parser that expects the first chunk of a body. Like browsers and curl, the parser accepts spaces and
    tabs after the size of a chunk, and LF instead of CRLF."""
    parser = httptools.HttpResponseParser(exchange)
    parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True)
    parser.feed_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    return parser

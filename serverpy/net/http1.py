"""The client side of HTTP/1.1 (RFC 9112): encodes a request, and parses the response as it arrives.

`httptools` parses heads, chunked coding and the end of a message. This module adds the bound: it buffers one step of
the connection, and asks for no more before the reader has taken that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import httptools

from serverpy.errors import SourceError, UpstreamFailed, UpstreamTimeout
from serverpy.net.connection import Connection

HEAD_BYTES = 64 * 1024
"""The most bytes that may arrive without a byte of the body: a head, trailers, framing."""
_SAFE = "/?%:@!$&'()*+,;=~-._[]|^`{}\\"


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host (IDNA, lower case, no brackets) and port of a server (RFC 6454 §4)."""

    scheme: str
    host: str
    port: int

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A GET, or a POST if there is a `body`. Headers come from pages: those that cannot be sent as they are (control
    characters) are left out."""

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None

    @property
    def origin(self) -> Origin:
        """Raises `UpstreamFailed` if the URL is not http or https."""
        return split(self.url)[0]

    def encode(self) -> bytes:
        origin, target = split(self.url)
        lines = [f"{'GET' if self.body is None else 'POST'} {target} HTTP/1.1", f"Host: {origin.host_header}"]
        lines += [f"{name}: {value}" for name, value in self.headers if _is_sendable(name, value)]
        if self.body is not None:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + (self.body or b"")


def split(url: str) -> tuple[Origin, str]:
    """Split an http(s) URL into origin and request target. Characters that a target cannot contain are percent-encoded.
    Raises `UpstreamFailed` if the URL is invalid."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna" if not (parts.hostname or "").isascii() else "ascii").decode()
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
    except (ValueError, KeyError) as error:
        raise UpstreamFailed("The media's URL is invalid, or not http or https.") from error
    if not host or parts.username is not None:
        raise UpstreamFailed("The media's URL has no host, or contains a user name.")
    target = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
    return Origin(parts.scheme, host, port), target


def _is_sendable(name: str, value: str) -> bool:
    """Return whether the header is valid (RFC 9110 §5.5), and none of those that we write ourselves (framing, host)."""
    return (
        name.isascii()
        and name.replace("-", "").replace("_", "").isalnum()
        and name.lower() not in _OURS
        and not any(character in value for character in "\r\n\0")
    )


_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect"})


class Headers:
    """The fields of a response, by lower-case name: `get` returns the first value, `all` every value."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[str, str]]) -> None:
        self._fields = tuple((name.lower(), value) for name, value in fields)

    def get(self, name: str) -> str | None:
        return next((value for field, value in self._fields if field == name), None)

    def all(self, name: str) -> list[str]:
        return [value for field, value in self._fields if field == name]


class Exchange:
    """The response to one request, parsed as the connection delivers it. Belongs to one reader.

    Buffers at most one step of the connection: it asks for more only when its reader waits and nothing is buffered.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._parser = httptools.HttpResponseParser(self)
        self._fields: list[tuple[str, str]] = []
        self._chunks: deque[bytes] = deque()
        self._error: SourceError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._bare_bytes = 0
        self.status = 0
        self.headers = Headers(())
        self.touched = False
        """Whether the server sent any byte."""
        self.complete = False
        self.reusable = False

    async def head(self, timeout: float) -> None:
        """Wait for status and headers. Raises `UpstreamFailed`, `UpstreamTimeout`."""
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._more(timeout)

    async def chunk(self, timeout: float) -> bytes:
        """Return the next bytes of the body, `b""` at its end. Raises `UpstreamFailed` if the body was cut,
        `UpstreamTimeout`."""
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.complete:
                return b""
            await self._more(timeout)
        return self._chunks.popleft()

    def close(self) -> None:
        """Drop what is buffered. A read, now or later, raises `UpstreamFailed`."""
        self._chunks.clear()
        self._error = self._error or UpstreamFailed("The stream was closed while it was being read.")
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

    # Called by the connection

    def data_received(self, data: memoryview) -> None:
        self.touched = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(UpstreamFailed("The media server sent a malformed HTTP response."))
        self._count(len(data))
        if len(self._chunks) > 1:  # many small chunks take far more memory than their bytes
            self._chunks = deque((b"".join(self._chunks),))
        if self._chunks or self.complete or self._error is not None or self.status:
            self._wake()
        if not self._chunks and not self.complete and self._error is None:
            self._connection.resume()  # only part of the head, or only framing: the reader still waits

    def _count(self, nbytes: int) -> None:
        """Bound the bytes that are not part of the body: the head, and what a hostile server may send between or after
        chunks."""
        self._bare_bytes = 0 if self._chunks else self._bare_bytes + nbytes
        if self._bare_bytes > HEAD_BYTES:
            self._fail(UpstreamFailed("The media server sent too many bytes of headers."))

    def connection_lost(self, error: Exception | None) -> None:
        if self.complete or self._error is not None:
            self.reusable = False
        elif self.status and error is None and not self._is_framed():
            self.complete = True
        else:
            self._error = UpstreamFailed(
                "The media server cut the connection."
                if self.status
                else "The media server closed the connection without a response."
            )
        self._wake()

    def _is_framed(self) -> bool:
        """Return whether the head says where the body ends; if not, the body ends with the connection (RFC 9112
        §6.3)."""
        return self.headers.get("content-length") is not None or self.headers.get("transfer-encoding") is not None

    def _fail(self, error: SourceError) -> None:
        self._error = self._error or error
        self._connection.abort()

    # Called by the parser

    def on_message_begin(self) -> None:
        self._fields = []
        self.reusable = False  # if the response was already complete, this one is unexpected

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # trailers are dropped
            self._fields.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200 and not self.status:
            self.status = status
            self.headers = Headers(self._fields)

    def on_body(self, body: bytes) -> None:
        if not self.complete:
            self._chunks.append(body)

    def on_message_complete(self) -> None:
        if self.status and not self.complete:
            self.complete = True
            self.reusable = bool(self._parser.should_keep_alive())

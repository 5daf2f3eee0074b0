"""One request of a bench client and its response, which is parsed, counted and compared byte by byte.

The module does no I/O: bytes go in, an `Outcome` comes out. The sockets are in `clients`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import httptools

from serverpy.bench.measure.reference import Reference

End = Literal["complete", "left", "cut", "wrong", "refused", "failed"]
"""How a request can end. `complete`: the whole expected body arrived. `left`: the client disconnected as planned, and
all bytes until then were right. `cut`: the server ended the body early, and the client could tell. `wrong`: wrong
bytes, or a short body that looked complete. `refused`: an HTTP error. `failed`: no response."""

GOOD: frozenset[End] = frozenset(("complete", "left"))

PATIENCE_SECONDS = 60.0
"""Maximum number of seconds that a client waits for the first byte and, if it reads at full speed, between two
chunks."""
REASON_BYTES = 300


@dataclass(frozen=True, slots=True)
class Ask:
    """One request and its expected body: the whole `reference`, or its bytes in `span` (offset of the first byte,
    offset after the last byte). If `reference` is None, every body counts as correct."""

    host: str
    port: int
    path: str
    reference: Reference | None
    patience: float = PATIENCE_SECONDS
    verb: Literal["GET", "HEAD"] = "GET"
    span: tuple[int, int] | None = None

    def head(self) -> bytes:
        """Return the HTTP/1.1 request head. Without a `Connection` header the connection stays open (RFC 9112 §9.3)."""
        part = f"Range: bytes={self.span[0]}-{self.span[1] - 1}\r\n" if self.span else ""
        line = f"{self.verb} {self.path} HTTP/1.1\r\n"
        return f"{line}Host: {self.host}:{self.port}\r\nAccept: */*\r\n{part}\r\n".encode("latin-1")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request ended. `received` is the number of body bytes. `first_byte` and `seconds` are the times of the
    first body byte and of the end of the request, in seconds since just before the connect. `stall` is the longest time
    in seconds during which a slow client found nothing to read (None for other clients). `retry_after` is the value of
    the Retry-After header."""

    end: End
    status: int | None
    received: int
    first_byte: float | None
    seconds: float
    stall: float | None = None
    reason: str = ""
    retry_after: str | None = None


class Answer:
    """Parser of the response to one request. The caller feeds it until `over` is true."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._parser = httptools.HttpResponseParser(self)
        self._begun = time.monotonic()
        self._error = bytearray()
        self._retry_after: str | None = None
        self.status: int | None = None
        self.received = 0
        self.first_byte: float | None = None
        self.framed_end = False
        self.keeps_alive = False
        self.wrong = ""

    @property
    def over(self) -> bool:
        return self.framed_end or bool(self.wrong)

    @property
    def age(self) -> float:
        return time.monotonic() - self._begun

    def feed(self, data: bytes | memoryview) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.wrong = self.wrong or f"not HTTP: {error}"

    def outcome(self, *, left: bool = False, failure: str = "", stall: float | None = None) -> Outcome:
        """Return how the request ended. If the response is incomplete, `left` tells whether the client disconnected as
        planned, and `failure` tells why the connection ended."""
        end, reason = self._end(left, failure)
        return Outcome(end, self.status, self.received, self.first_byte, self.age, stall, reason, self._retry_after)

    def _end(self, left: bool, failure: str) -> tuple[End, str]:
        if self.wrong:
            return "wrong", self.wrong
        if self.status is None:
            silent = "silent until the client disconnected" if left else "the connection ended before a response"
            return "failed", failure or silent
        if self.status not in (200, 206):
            return "refused", f"{self.status} {self._error.decode('utf-8', 'replace')}".strip()
        size = self._size()
        if self.received == size or (size is None and self.framed_end):
            return "complete", ""  # a server may also mark the end of a body by closing the connection
        if self.framed_end:
            return "wrong", f"{self.received} bytes of {size} that looked complete"
        if left:
            return "left", ""
        return "cut", failure or f"cut after {self.received} bytes{'' if size is None else f' of {size}'}"

    def _first(self) -> int:
        """Return the offset of the body's first byte in the media. For a 200 the offset is 0, because a server may
        answer a range request with the whole file (RFC 9110 §14.2)."""
        return self._ask.span[0] if self._ask.span and self.status == 206 else 0

    def _size(self) -> int | None:
        if self._ask.verb == "HEAD":
            return 0
        if self._ask.reference is None:
            return None
        whole = self._ask.reference.size
        return min(self._ask.span[1], whole) - self._first() if self._ask.span and self.status == 206 else whole

    # Callbacks that httptools' response parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            self._retry_after = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self._ask.verb == "HEAD":  # a response to HEAD has no body, but the parser waits for one (RFC 9110 §9.3.2)
            self._framed()

    def on_body(self, data: bytes) -> None:
        if self.status not in (200, 206):
            self._error += data[: max(0, REASON_BYTES - len(self._error))]
            return
        if self.first_byte is None:
            self.first_byte = self.age
        if not self.wrong and not self._matches(data):
            self.wrong = f"wrong bytes between {self.received} and {self.received + len(data)}"
        self.received += len(data)

    def _matches(self, data: bytes) -> bool:
        if self._ask.verb == "HEAD":
            return False
        reference = self._ask.reference
        return reference is None or reference.matches(self._first() + self.received, data)

    def on_message_complete(self) -> None:
        self._framed()

    def _framed(self) -> None:
        self.framed_end = self.status is not None and self.status >= 200
        # `should_keep_alive` is called here, because httptools resets its result later.
        self.keeps_alive = bool(self.framed_end and self._parser.should_keep_alive())

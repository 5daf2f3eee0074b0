"""uvicorn's HTTP protocol with limits: at most one chunk waits for a slow client, and request heads are limited in size
and time.

It also does what ASGI cannot express: a response can cut its connection, and is told when the client leaves.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serverpy.api.problems import MEDIA_TYPE, document

TARGET_BYTES = 32 * 1024
"""Longest request target: room for the longest accepted URL, percent-encoded, and the other parameters."""
HEADER_BYTES = 32 * 1024
HEAD_SECONDS = 30.0
"""Time that a client has to send the head of a request."""
PIPELINED = 16
"""Requests that may wait on one connection for the answer to an earlier one; each holds some kilobytes."""

_NOT_ASCII = re.compile(rb"[\x80-\xff]")

CUT = "serverpy.cut"
"""In `scope["extensions"]`: function that ends the connection in mid-body. Nothing may be sent or awaited after it."""
LEFT = "serverpy.left"
"""In `scope["extensions"]`: function that takes a callback, which is called once when the client leaves, or None to
remove it. A response that sets one does not read the body of the request."""
UNFRAMED = "serverpy.unframed"
"""In `scope["extensions"]` of an HTTP/1.0 request: function to call before a body of unknown length. It returns a
function to call at the end of that body."""
TOO_LONG = "serverpy.too_long"
"""In `scope["extensions"]` if the request was too long; the value says whether the `target` or the `headers` were. The
excess is dropped."""


def new_request_id() -> str:
    """Make an id for a request that has none."""
    return secrets.token_hex(8)


class StreamProtocol(HttpToolsProtocol):
    """One client connection."""

    _head_timer: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _in_first_line = True
    _wants_body = True
    _lost = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        # One for each response: while one is being closed, the response to the next request may have begun.
        self._on_left: dict[RequestResponseCycle, Callable[[], None]] = {}
        # uvicorn waits for the client before each write: with a limit of 0, only one chunk waits in the transport.
        transport.set_write_buffer_limits(high=0)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_done()
        super().connection_lost(exc)
        self._lost = True
        for cycle in list(self._on_left):
            self._call_on_left(cycle)

    def data_received(self, data: bytes) -> None:
        """Percent-encode the non-ASCII bytes of a target: the parser accepts only ASCII, but curl and others send a
        target as they were given it. `RequestMiddleware` refuses what is not UTF-8."""
        if self._in_first_line:
            line, end, rest = data.partition(b"\n")
            self._in_first_line = not end
            if not line.isascii():
                data = _NOT_ASCII.sub(lambda match: b"%%%02X" % match[0][0], line) + end + rest
        super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser rejects with a problem document, where uvicorn would send plain text. Aborts the
        connection instead while another answer is being sent or is waiting."""
        if self.pipeline or (self.cycle and self.cycle.response_started and not self.cycle.response_complete):
            self.transport.abort()
            return
        content = document(400, "Bad request", "bad_request", "Malformed HTTP request.")
        body = json.dumps(content).encode()
        head = (
            f"HTTP/1.1 400 Bad Request\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n"
            f"X-Content-Type-Options: nosniff\r\nX-Request-ID: {new_request_id()}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = 0
        self._wants_body = True
        self._extensions: dict[str, Any] = {}
        self.scope["extensions"] = self._extensions
        if self._head_timer is None:
            self._await_head()

    def on_url(self, url: bytes) -> None:
        if len(self.url) + len(url) <= TARGET_BYTES and TOO_LONG not in self._extensions:
            super().on_url(url)
        else:
            self._extensions[TOO_LONG] = "target"
            self.url = self.url.partition(b"?")[0][:1024] or b"/"

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes <= HEADER_BYTES:
            super().on_header(name, value)
        else:
            self._extensions.setdefault(TOO_LONG, "headers")

    def on_message_complete(self) -> None:
        self._in_first_line = True
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        self._head_done()
        if len(self.pipeline) >= PIPELINED:
            raise OverflowError(
                "too many requests wait on this connection"
            )  # makes the parser stop and report an error
        super().on_headers_complete()
        cycle = self.cycle
        cycle.transport = HeadFirst(self.transport, self.loop)  # type: ignore[assignment]  # all a cycle uses
        self._extensions |= {CUT: partial(self._cut, cycle), LEFT: partial(self._set_on_left, cycle)}
        if self._on_left:
            self.flow.resume_reading()  # uvicorn pauses it while a request waits, and would not see a client leave
        if cycle.scope["http_version"] == "1.0":
            self._extensions[UNFRAMED] = partial(_unframe, cycle)

    def on_body(self, body: bytes) -> None:
        if self._wants_body:
            super().on_body(body)

    def _set_on_left(self, cycle: RequestResponseCycle, left: Callable[[], None] | None) -> None:
        if left is None:
            self._on_left.pop(cycle, None)
            return
        self._on_left[cycle] = left
        self._wants_body = False
        self.flow.resume_reading()  # otherwise we would not see the client leave
        if self._lost:
            self.loop.call_soon(self._call_on_left, cycle)

    def _call_on_left(self, cycle: RequestResponseCycle) -> None:
        cycle.disconnected = True  # uvicorn sets it only for the last request
        left = self._on_left.pop(cycle, None)
        if left is not None:
            left()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _head_done(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _cut(self, cycle: RequestResponseCycle) -> None:
        """End the connection so that the client notices: before its Content-Length or its final chunk. An HTTP/1.0
        response may have neither, so there the connection is reset."""
        if cycle.scope["http_version"] == "1.0":
            raw: socket.socket | None = self.transport.get_extra_info("socket")
            if raw is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        cycle.disconnected = True  # so that uvicorn does not report an incomplete answer
        self.transport.abort()


def _unframe(cycle: RequestResponseCycle) -> Callable[[], None]:
    """Send the body without chunks, which HTTP/1.0 does not have (RFC 9112 §7.1): the end of the connection ends it.
    uvicorn would send chunks anyway, unless it expects a length; the returned function tells it at the end that all of
    that has come."""
    cycle.chunked_encoding, cycle.expected_content_length = False, sys.maxsize

    def end() -> None:
        cycle.expected_content_length = 0

    return end


class HeadFirst:
    """The transport as one response sees it: the head is sent with the first bytes of the body, in one system call.

    The head waits no longer than the current turn of the event loop; a 100 (Continue) before it counts as a head."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head: bytes | None = None
        self.write: Callable[[bytes], None] = self._hold
        self.is_closing = transport.is_closing

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _hold(self, data: bytes) -> None:
        if self._head is None:
            self._head = data
            self._loop.call_soon(self._flush)
        else:
            head, self._head = self._head, None
            self.write = self._transport.write
            self._transport.writelines((head, data))

    def _flush(self) -> None:
        if self._head is not None:
            head, self._head = self._head, None
            self.write = self._transport.write
            self._transport.write(head)

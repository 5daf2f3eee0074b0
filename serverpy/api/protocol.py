"""uvicorn's HTTP protocol with bounds: no more than one chunk waits for a slow client, heads have a size and a time.

It also lets a response cut its connection (`scope["extensions"]["serverpy.cut"]`), which ASGI has no word for.
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
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serverpy.api.problems import MEDIA_TYPE, document

TARGET_BYTES = 32 * 1024
"""The longest request target: the longest URL that is accepted, percent-encoded, and the other parameters."""
HEADER_BYTES = 32 * 1024
HEAD_SECONDS = 30.0
"""How long a client may take to say what it wants."""

_NOT_ASCII = re.compile(rb"[\x80-\xff]")

CUT = "serverpy.cut"
UNFRAMED = "serverpy.unframed"
"""In `scope["extensions"]` of an HTTP/1.0 request: to be called before a body of unknown length, and what it gave at
the end of that body."""
TOO_LONG = "serverpy.too_long"
"""In `scope["extensions"]` if the `target` or the `headers`, as its value says, were longer than that; what was too
much is dropped."""


def new_request_id() -> str:
    """For an answer whose request brought none."""
    return secrets.token_hex(8)


class StreamProtocol(HttpToolsProtocol):
    """One client connection."""

    _head_timer: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _in_first_line = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        # uvicorn waits for the client before each write: with a limit of 0, all but the chunk in flight is with us.
        transport.set_write_buffer_limits(high=0)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_done()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """The parser takes a target in ASCII only; curl and others send what they were given, as it is. Percent-encoded
        it means the same, and `Frame` says what is no text."""
        if self._in_first_line:
            line, end, rest = data.partition(b"\n")
            self._in_first_line = not end
            if not line.isascii():
                data = _NOT_ASCII.sub(lambda match: b"%%%02X" % match[0][0], line) + end + rest
        super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """What the parser does not take, as a problem document; uvicorn's own is plain text."""
        content = document(400, "Bad request", "bad_request", "This is not HTTP as it is spoken here.")
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
        self._extensions: dict[str, Any] = {CUT: self._cut}
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
        super().on_headers_complete()
        if self.scope["http_version"] == "1.0":
            self._extensions[UNFRAMED] = self._unframe

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _head_done(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _unframe(self) -> Callable[[], None]:
        """HTTP/1.0 knows no chunks (RFC 9112 §7.1): the end of the connection ends the body. uvicorn would send chunks
        all the same, unless it believes in a length; at the end it is told that all of it has come."""
        cycle = self.cycle
        cycle.chunked_encoding, cycle.expected_content_length = False, sys.maxsize

        def end() -> None:
            cycle.expected_content_length = 0

        return end

    def _cut(self) -> None:
        """End the connection so that the client can tell: short of its Content-Length or its final chunk. HTTP/1.0 has
        neither, so there the end is a reset."""
        if self.scope["http_version"] == "1.0":
            raw: socket.socket | None = self.transport.get_extra_info("socket")
            if raw is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

"""uvicorn's HTTP protocol with bounds: no more than one chunk waits for a slow client, heads have a size and a time.

It also lets a response cut its connection (`scope["extensions"]["serverpy.cut"]`), which ASGI has no word for.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

TARGET_BYTES = 32 * 1024
"""The longest request target: the longest URL that is accepted, percent-encoded, and the other parameters."""
HEADER_BYTES = 32 * 1024
HEAD_SECONDS = 30.0
"""How long a client may take to say what it wants."""

CUT = "serverpy.cut"
TOO_LONG = "serverpy.too_long"
"""In `scope["extensions"]` if the target or the headers were longer than that; what was too much is dropped."""


class StreamProtocol(HttpToolsProtocol):
    """One client connection."""

    _head_timer: asyncio.TimerHandle | None = None
    _header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        # uvicorn waits for the client before each write: with a limit of 0, all but the chunk in flight is with us.
        transport.set_write_buffer_limits(high=0)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_done()
        super().connection_lost(exc)

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
            self._extensions[TOO_LONG] = True
            self.url = self.url.partition(b"?")[0][:1024] or b"/"

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes <= HEADER_BYTES:
            super().on_header(name, value)
        else:
            self._extensions[TOO_LONG] = True

    def on_headers_complete(self) -> None:
        self._head_done()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _head_done(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _cut(self) -> None:
        """End the connection so that the client can tell: short of its Content-Length or its final chunk. HTTP/1.0 has
        neither, so there the end is a reset."""
        if self.scope["http_version"] == "1.0":
            raw: socket.socket | None = self.transport.get_extra_info("socket")
            if raw is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

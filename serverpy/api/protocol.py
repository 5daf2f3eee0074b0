"""uvicorn's HTTP protocol with limits: the protocol buffers at most one chunk for a slow client, and limits the size of
a request and the time in which the client must send it. The protocol also extends ASGI, so that a response can cut its
connection, and can register a callback that the protocol calls when the client leaves.
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

from serverpy.api.hosts import host_fault
from serverpy.api.problems import MEDIA_TYPE, document

TARGET_BYTES = 32 * 1024
"""Maximum length of a request target, in bytes. It has room for the longest accepted URL, percent-encoded, and the
other parameters."""
HEADER_BYTES = 32 * 1024
BODY_BYTES = 1024 * 1024
"""Maximum size of a request body, in bytes. The server discards the body of a GET or HEAD as it arrives."""
REQUEST_SECONDS = 30.0
"""Maximum number of seconds in which a client must send a request: its head and its body."""
PIPELINED = 16
"""Maximum number of requests that wait on one connection for the response to an earlier request. Each of these requests
takes some kilobytes of memory."""

_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
_LINGER_RESET, _LINGER_DEFAULT = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)
"""Values of SO_LINGER. Closing the socket resets the connection with the first value, and ends it normally with the
second."""

CUT = "serverpy.cut"
"""Key in `scope["extensions"]` of a function that cuts the connection in mid-body. After the call, the caller must not
send or await anything."""
LEFT = "serverpy.left"
"""Key in `scope["extensions"]` of a function that sets its argument as the callback, or removes the callback if the
argument is None. The protocol calls the callback once when the client leaves. A response that sets a callback cannot
read the body of the request."""
UNFRAMED = "serverpy.unframed"
"""Key in `scope["extensions"]` of an HTTP/1.0 request for a function that the response calls before a body of unknown
length. The function returns another function, which the response calls at the end of that body."""
TOO_LONG = "serverpy.too_long"
"""Key in `scope["extensions"]` that is present if the request is too long. Its value names the part that is too long:
`target`, `headers` or `body`. The protocol drops the excess bytes of that part."""


def new_request_id() -> str:
    """Make an id for a request that has none."""
    return secrets.token_hex(8)


class BadRequest(Exception):
    """An exception for an invalid request. A callback of the parser raises `BadRequest`, and the parser then reports
    the request as invalid."""


class StreamProtocol(HttpToolsProtocol):
    """The HTTP protocol on one client connection."""

    _request_timer: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _body_bytes = 0
    _in_first_line = True
    _in_head = True
    _wants_body = False
    _fault = "Malformed HTTP request."
    _lost = False

    # the type of `transport` is that in uvicorn
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # One callback for each response: while one response closes, the response to the next request may have begun.
        self._on_left: dict[RequestResponseCycle, Callable[[], None]] = {}
        # uvicorn waits before each write until the transport's buffer is at most `high`. With `high=0`, only one chunk
        # waits in the transport.
        transport.set_write_buffer_limits(high=0)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._request_done()
        super().connection_lost(exc)
        self._lost = True
        for cycle in list(self._on_left):
            self._call_on_left(cycle)

    def data_received(self, data: bytes) -> None:
        """Percent-encode the non-ASCII bytes of the request target. The parser accepts only ASCII, but curl and other
        clients send the target as the user typed it. `query.py` refuses a target that is not UTF-8."""
        if self._in_first_line:
            line, end, rest = data.partition(b"\n")
            self._in_first_line = not end
            if not line.isascii():
                data = _NOT_ASCII.sub(lambda match: b"%%%02X" % match[0][0], line) + end + rest
        super().data_received(data)
        if self._request_timer is None and (self.cycle is None or self.cycle.response_complete):
            # bytes that do not begin a request, such as blank lines, also stop uvicorn's idle timeout
            self._await_request()

    def send_400_response(self, msg: str) -> None:
        """Send a problem document in response to a request that the parser rejects; uvicorn would send plain text.
        Aborts the connection instead if the response to an earlier request is being sent or is waiting."""
        if self.pipeline or (self.cycle and self.cycle.response_started and not self.cycle.response_complete):
            self.transport.abort()
            return
        content = document(400, "Bad request", "bad_request", self._fault)
        body = json.dumps(content).encode()
        head = (
            f"HTTP/1.1 400 Bad Request\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n"
            f"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Request-ID: {new_request_id()}\r\n"
            "Referrer-Policy: no-referrer\r\nX-Robots-Tag: noindex, nofollow\r\nConnection: close\r\n"
        )
        # the Date header of all responses
        common = b"".join(b"%s: %s\r\n" % field for field in self.server_state.default_headers)
        self.transport.write(head.encode() + common + b"\r\n" + body)
        self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = self._body_bytes = 0
        self._in_head = True
        self._extensions: dict[str, Any] = {}
        self.scope["extensions"] = self._extensions
        if self._request_timer is None:
            self._await_request()

    def on_url(self, url: bytes) -> None:
        if len(self.url) + len(url) <= TARGET_BYTES and TOO_LONG not in self._extensions:
            super().on_url(url)
        else:
            self._extensions[TOO_LONG] = "target"
            self.url = self.url.partition(b"?")[0][:1024] or b"/"

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # do not store it: a trailer field is not a header field (RFC 9110 §6.5.1)
        self._header_bytes += len(name) + len(value)
        if self._header_bytes <= HEADER_BYTES:
            super().on_header(name, value)
        else:
            self._extensions.setdefault(TOO_LONG, "headers")

    def on_message_complete(self) -> None:
        self._in_first_line = True
        self._request_done()
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        self._in_head = False
        if len(self.pipeline) >= PIPELINED:
            raise BadRequest
        self._check_head()
        super().on_headers_complete()
        cycle = self.cycle
        # a `RequestResponseCycle` uses no other methods of a transport
        cycle.transport = HeadFirst(self.transport, self.loop)  # type: ignore[assignment]
        self._extensions |= {CUT: partial(self._cut, cycle), LEFT: partial(self._set_on_left, cycle)}
        if self._on_left:
            # uvicorn pauses reading of the connection while a pipelined request waits, and would not notice that the
            # client leaves
            self.flow.resume_reading()
        if cycle.scope["http_version"] == "1.0":
            self._extensions[UNFRAMED] = partial(_unframe, cycle, self.transport)

    def _check_head(self) -> None:
        """Check the head of the request for errors that the parser and uvicorn accept. Raises `BadRequest` if a check
        fails."""
        self._wants_body = self.parser.get_method() not in (b"GET", b"HEAD")
        if TOO_LONG in self._extensions:
            return  # no check of Host: the Host field may be among the header fields that `on_header` dropped
        hosts = [number for number, (name, _) in enumerate(self.headers) if name == b"host"]
        absolute = None if self.url.startswith(b"/") else _ABSOLUTE.match(self.url)
        if hosts and absolute is not None:
            # an absolute-form target takes precedence over Host (RFC 9112 §3.2.2)
            self.headers[hosts[0]] = (b"host", absolute[1])
        fault = host_fault([self.headers[number][1] for number in hosts], self.parser.get_http_version())
        if fault is not None:
            self._fault = fault
            raise BadRequest
        if any(name == b"content-length" and int(value) > BODY_BYTES for name, value in self.headers):
            self._extensions[TOO_LONG] = "body"

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > BODY_BYTES:
            self.transport.abort()
        elif self._wants_body:
            super().on_body(body)

    def _set_on_left(self, cycle: RequestResponseCycle, left: Callable[[], None] | None) -> None:
        if left is None:
            self._on_left.pop(cycle, None)
            return
        self._on_left[cycle] = left
        self._wants_body = False
        # otherwise reading stays paused, and the protocol does not notice that the client leaves
        self.flow.resume_reading()
        if self._lost:
            self.loop.call_soon(self._call_on_left, cycle)

    def _call_on_left(self, cycle: RequestResponseCycle) -> None:
        cycle.disconnected = True  # uvicorn sets this flag only for the last request of the connection
        left = self._on_left.pop(cycle, None)
        if left is not None:
            left()

    @property
    def is_awaiting_request(self) -> bool:
        """Whether the client is yet to send the rest of a request, within at most REQUEST_SECONDS."""
        return self._request_timer is not None

    def _await_request(self) -> None:
        self._request_timer = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _request_done(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _cut(self, cycle: RequestResponseCycle) -> None:
        """Cut the connection so that the client notices the missing bytes: the connection ends before the body's
        Content-Length or its final chunk, or is reset (`_unframe`)."""
        cycle.disconnected = True  # otherwise uvicorn would report an incomplete response
        self.transport.abort()


def _unframe(cycle: RequestResponseCycle, transport: asyncio.Transport) -> Callable[[], None]:
    """Send the body without chunked encoding, which HTTP/1.0 does not have (RFC 9112 §7.1): the end of the connection
    ends the body. uvicorn would send chunks unless it expects a length, so the function sets a huge length. The caller
    calls the returned function at the end of the body, and uvicorn then takes the response as complete. Until then,
    closing the socket resets the connection, so that an exception or the end of the process never looks like a complete
    body."""
    cycle.chunked_encoding, cycle.expected_content_length = False, sys.maxsize
    _set_linger(transport, _LINGER_RESET)

    def end() -> None:
        cycle.expected_content_length = 0
        _set_linger(transport, _LINGER_DEFAULT)

    return end


def _set_linger(transport: asyncio.Transport, value: bytes) -> None:
    raw: socket.socket | None = transport.get_extra_info("socket")
    if raw is not None and not transport.is_closing():
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, value)


class HeadFirst:
    """The transport that uvicorn writes one response to. It sends the head with the first bytes of the body, in one
    system call. The head waits no longer than the current turn of the event loop; an interim response 100 (Continue)
    counts as a head."""

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

"""The half of the HTTP protocol class that reads the requests of a client connection. It adds limits to uvicorn's HTTP
protocol: on the size of a request, on the time in which a client must send it, and on the numbers of waiting requests
and of connections (`access/connections.py`). `protocol.py` adds the half that sends responses.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Any, cast

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serverpy.access.connections import CONNECTIONS, Connections
from serverpy.api.head_first import HeadFirst, reset, unsent_bytes
from serverpy.api.hosts import host_fault
from serverpy.api.problems import document, raw_answer, raw_problem
from serverpy.api.request_limits import (
    BODY_BYTES,
    COVERED_BYTES,
    EXCESS_BYTES,
    FIELD_BYTES,
    FRAMING_BYTES,
    HEADER_BYTES,
    HEADER_FIELDS,
    PIPELINED,
    PIPELINED_BYTES,
    TARGET_BYTES,
    encoded_line,
    exceeds,
    kept_field,
)
from serverpy.api.unanswered import Unanswered
from serverpy.errors import Busy, HeadersTooLarge, RateLimited, ServerPYError, UrlTooLong

REQUEST_SECONDS = 30.0
"""Maximum number of seconds in which a client must send a request: its head and its body."""
LINGER_SECONDS = 5.0
"""Seconds for which the server still reads from a client after it has refused a request. If it closed the connection
with unread bytes, the operating system would send RST, and the client might lose the response (RFC 9112 §9.6)."""

_HEAD_END = b"\r\n\r\n"
_EMPTY_LINES = re.compile(rb"[\r\n]+")
_CUT_BYTES = 64
"""Number of bytes for which each CRLF CRLF in a chunked body counts in the limit FRAMING_BYTES, because each takes one
more call of the parser."""
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")

TOO_LONG = "serverpy.too_long"
"""Key in `scope["extensions"]` that is present if the request is too long. Its value names the part that is too long:
`target`, `headers` or `body`. The protocol drops the excess bytes of that part."""
CROWDED = "serverpy.crowded"
"""Key in `scope["extensions"]` that is present if the client behind a trusted proxy has too many requests open."""


class BadRequest(Exception):
    """An exception for an invalid request. A callback of the parser raises `BadRequest`, and the parser then reports
    the request as invalid."""


class RequestReader(HttpToolsProtocol):
    """The part of `StreamProtocol` that reads requests."""

    _request_timer: asyncio.TimerHandle | None = None
    _linger_timer: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _header_count = 0
    _kept_bytes = 0
    """Memory, in bytes, that the stored header fields of the current head take."""
    _body_bytes = 0
    _body_length = 0
    """Value of Content-Length of the current request."""
    _empty_bytes = 0
    """Number of bytes of the empty lines since the last request began."""
    _seen_bytes = 0
    """Number of bytes of targets, header fields and bodies that the parser has passed to the callbacks."""
    _unseen_bytes = 0
    """Number of bytes of the unfinished request that the parser has not passed to the callbacks: framing, and the
    unfinished header field."""
    _excess_bytes = 0
    _line_bytes = 0
    _line_end = b""
    """The last received byte of the unfinished request line."""
    _has_two_spaces = False
    """Whether the request line has two spaces in a row. RFC 9112 §3 allows a single space between its parts."""
    _last_bytes = b""
    """The last three received bytes, which may be the beginning of the end of a head (CRLF CRLF)."""
    _in_first_line = True
    _in_head = False
    _in_body = False
    """Whether the server has accepted the head of the current request, and has not read its body to the end."""
    _wants_body = False
    _is_last = False
    """Whether the server reads no further request of this connection."""
    _is_over = False
    """Whether the server discards what the client still sends."""
    _fault = "Malformed HTTP request."
    _refusal: ServerPYError | None = None
    _postponed: bytes | None = None
    """The response to a refused request, which waits until the responses to all earlier requests have ended."""
    _running: RequestResponseCycle | None = None
    """The request that is being answered, or was answered last."""
    unread_looks = 0
    unread_bytes = 0

    # uvicorn declares the same type for `transport`
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._extensions: dict[str, Any] = {}
        limits: Connections | None = self.app_state.get(CONNECTIONS)
        self._limits = Connections() if limits is None else limits
        self._unanswered = Unanswered(self._limits, self)
        self._peer = self.client[0] if self.client else ""
        self._is_proxy = self._limits.is_proxy(self._peer)
        # uvicorn waits before each write until the transport's buffer has at most `high` bytes. With `high=0`, only one
        # chunk waits in the transport.
        transport.set_write_buffer_limits(high=0)
        match self._limits.open(self, self._peer):
            case "client":
                self._refuse(
                    raw_problem(
                        RateLimited(
                            "This client address has too many connections open. Close one of them, or try again later."
                        ),
                        self._common(),
                    )
                )
            case "all":
                self._refuse(raw_problem(Busy("The server has too many connections. Try again later."), self._common()))
            case _:
                self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._request_done()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        super().connection_lost(exc)
        # uvicorn sets `disconnected` only for the last request of the connection
        for cycle in (self._running, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None:
                cycle.disconnected = True
        self.pipeline.clear()
        self._unanswered.clear()
        self._limits.close(self)

    def data_received(self, data: bytes) -> None:
        """Pass `data` to the parser. Each request head is passed in a call of its own, so that `_read_line` can check
        the raw bytes of each request line: the parser accepts some invalid request lines."""
        text, start = self._last_bytes + data, len(self._last_bytes)
        self._last_bytes = text[-len(_HEAD_END) + 1 :]
        while start < len(text) and not self._is_over and not self.transport.is_closing():
            end = self._end_of_piece(text, start)
            self._receive(text[start:end])
            start = end

    def _end_of_piece(self, text: bytes, start: int) -> int:
        """Return the end of the next piece of `text` to pass to the parser, which begins at `start`: empty lines, a
        head or the beginning of one, or a part of a body. The next head begins after the piece, not in it."""
        if self._in_first_line and not self._line_bytes and (empty := _EMPTY_LINES.match(text, start)):
            self._count_empty(empty.end() - start)
            return empty.end()
        if self._in_body and self._is_last:
            return len(text)
        if self._in_body and self._body_bytes < self._body_length:
            return min(len(text), start + self._body_length - self._body_bytes)
        found = text.find(_HEAD_END, max(0, start - len(_HEAD_END) + 1))
        if found < 0:
            return len(text)
        if self._in_body:  # only the parser knows whether the chunked body ends here
            self._unseen_bytes += _CUT_BYTES
        return found + len(_HEAD_END)

    def _count_empty(self, received: int) -> None:
        """Count `received` bytes of empty lines before a request line. Closes the connection if there are too many."""
        self._empty_bytes += received
        if self._empty_bytes > FRAMING_BYTES:
            self._limits.drop(self, "memory")

    def _receive(self, data: bytes) -> None:
        """Pass `data` to the parser, and check the limits on the unfinished request."""
        if self._in_first_line:
            data = self._read_line(data)
        seen = self._seen_bytes
        super().data_received(data)
        if self._request_timer is not None:
            self._unseen_bytes = max(0, self._unseen_bytes + len(data) - self._seen_bytes + seen)
            self._check_unfinished(len(data))
        elif self.cycle is None or self.cycle.response_complete:
            # bytes that do not begin a request, such as empty lines, also stop uvicorn's idle timeout
            self._await_request()

    def _read_line(self, data: bytes) -> bytes:
        """Check the request line at the beginning of `data`, and return `data` with the non-ASCII bytes of the request
        target percent-encoded: the parser accepts only ASCII, but curl and other clients send the target as the user
        typed it. `query.py` refuses a target that is not UTF-8."""
        # the parser ignores empty lines before a request line (RFC 9112 §2.2)
        begin = 0 if self._line_bytes else len(data) - len(data.lstrip(b"\r\n"))
        end = data.find(b"\n", begin) + 1
        line = data[begin:end] if end else data[begin:]
        self._in_first_line = not end
        self._line_bytes += len(line)
        self._has_two_spaces = self._has_two_spaces or b"  " in self._line_end + line
        self._line_end = line[-1:]
        if line.isascii():
            return data  # almost all request lines are ASCII, and need no copy
        encoded = encoded_line(line, is_too_long=self._line_bytes > TARGET_BYTES)
        return data[:begin] + encoded + data[begin + len(line) :]

    def _check_unfinished(self, received: int) -> None:
        """Check the limits on the unfinished request, of which `received` more bytes have arrived. Refuses the request
        if it exceeds a limit."""
        if self._in_head and TOO_LONG in self._extensions:
            self._excess_bytes += received
        if self._excess_bytes > EXCESS_BYTES or self._unseen_bytes > FRAMING_BYTES:
            self._end_request()
            return
        held = self._unseen_bytes
        if self._in_head:
            held += self._head_size()
        elif self.cycle is not None:
            held += len(self.cycle.body)
        try:
            self._unanswered.weigh(held)
        except Busy as error:
            self._refusal = error
            self._reject()

    def _end_request(self) -> None:
        """Refuse a request that exceeds a limit on its size by far, without waiting for its end."""
        if not self._in_head:
            self._limits.drop(self, "memory")
            return
        is_target = self._in_first_line or self._extensions.get(TOO_LONG) == "target"
        self._refusal = (UrlTooLong if is_target else HeadersTooLarge)(
            "The head of the request is too long: shorten it."
        )
        self._limits.refusals.count(self._refusal)
        self._reject()

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: curl and Java offer an upgrade to HTTP/2 with each request, and the server may ignore the offer
        (RFC 9110 §7.8). uvicorn would log two warnings for each request."""

    # Methods that refuse a request

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that the parser rejects, with a problem document. uvicorn would send plain text."""
        if not self._is_last:
            self._reject()

    def _reject(self) -> None:
        """Respond to the current request with a problem document, after the responses to the requests before it
        (RFC 9112 §9.3.2), and read no further. If the response to the current request has begun, aborts the connection
        instead; if that response is complete, only ends the connection."""
        if self.transport.is_closing():
            return
        answer = self._rejection()
        if self._in_body and not self.pipeline:
            if self.cycle.response_complete:
                self._refuse(b"")
            elif self.cycle.response_started:
                self.transport.abort()
            else:
                self._refuse(answer)
        elif self._is_idle():
            self._refuse(answer)
        else:
            self._postpone(answer)

    def _rejection(self) -> bytes:
        """Return the response to the current request, which the server refuses."""
        if self._in_body:
            has_body = self.cycle.scope["method"] != "HEAD"
        else:  # before the target, the parser still has the method of the previous request
            has_body = not self.url or self.parser.get_method() != b"HEAD"
        if self._refusal is not None:
            return raw_problem(self._refusal, self._common(), has_body=has_body)
        content = document(400, "Bad request", "bad_request", self._fault)
        return raw_answer(content, self._common(), has_body=has_body)

    def _postpone(self, answer: bytes) -> None:
        """Keep the response `answer` until the responses to earlier requests have ended, and read no further. If the
        body of a waiting request is invalid, the application does not get this request."""
        assert self._running is not None
        if self._in_body:
            waiting, _ = self.pipeline.popleft()
            self._unanswered.remove(waiting)
            self.cycle = self._running if not self.pipeline else self.pipeline[0][0]
        self._request_done()
        self._postponed, self._is_over = answer, True
        self.headers, self.url = [], b""
        if not self._unanswered.is_empty:
            self._unanswered.weigh(0)

    def _common(self) -> list[tuple[bytes, bytes]]:
        """Return the header fields that uvicorn adds to all responses, such as Date."""
        return self.server_state.default_headers

    def _refuse(self, answer: bytes) -> None:
        """Send the response `answer`, and end the connection."""
        self._request_done()
        self._unset_keepalive_if_required()
        if self._running is not None:
            if not self._running.response_complete:
                self._abandon(self._running)
            cast(HeadFirst, self._running.transport).flush()
        self.transport.write(answer)
        self._end()

    def _abandon(self, cycle: RequestResponseCycle) -> None:
        """Tell the application that the client of the request `cycle` has disconnected. The caller has accepted the
        head of this request, but has found its body to be invalid."""
        cycle.disconnected = True
        cycle.message_event.set()

    def _end(self) -> None:
        """Close the server's side of the connection after the bytes that were written. Until the client also closes its
        side, for at most LINGER_SECONDS, discard what the client sends."""
        self._is_over = True
        if self.transport.is_closing() or self._linger_timer is not None:
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self._limits.wait(self)
        self._linger_timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    # Methods that the HTTP parser calls

    def on_message_begin(self) -> None:
        if self._is_last:
            raise BadRequest
        super().on_message_begin()
        self._header_bytes = self._header_count = self._body_bytes = self._excess_bytes = self._unseen_bytes = 0
        self._kept_bytes = self._body_length = self._empty_bytes = 0
        self._in_head = True
        self._extensions = {}
        self.scope["extensions"] = self._extensions
        if self._request_timer is None:
            self._await_request()

    def on_url(self, url: bytes) -> None:
        self._seen_bytes += len(url)
        if len(self.url) + len(url) <= TARGET_BYTES and TOO_LONG not in self._extensions:
            super().on_url(url)
        else:
            self._extensions[TOO_LONG] = "target"
            self.url = self.url.partition(b"?")[0][:1024] or b"/"

    def on_header(self, name: bytes, value: bytes) -> None:
        size = len(name) + len(value)
        self._seen_bytes += size + 4
        self._header_bytes += size
        self._header_count += 1
        if self._header_bytes > HEADER_BYTES or self._header_count > HEADER_FIELDS:
            if not self._in_head:
                raise BadRequest
            self._extensions.setdefault(TOO_LONG, "headers")
        elif self._in_head:  # do not store a trailer field: it is not a header field (RFC 9110 §6.5.1)
            # the parser strips only leading white space, but trailing white space is no part of a value either
            # (RFC 9112 §5.1)
            field = kept_field(name.lower(), value.rstrip(b" \t"))
            if field is not None:
                self.headers.append(field)
                self._kept_bytes += len(value) + FIELD_BYTES
                if field[0] == b"expect" and field[1].lower() == b"100-continue":
                    self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        if len(self.pipeline) >= PIPELINED:
            self._limits.drop(self, "pipelined")
            raise BadRequest
        self._check_head()
        if self.parser.get_http_version() in ("0.9", "1.0"):
            self.expect_100_continue = False  # HTTP/1.0 has no interim responses (RFC 9110 §10.1.1)
        size = self._head_size()
        if is_waiting := not self._is_idle():
            size += PIPELINED_BYTES
        if size > COVERED_BYTES or not self._unanswered.is_empty:
            try:
                self._unanswered.weigh(size)
            except Busy as error:
                self._refusal = error
                raise BadRequest from error
        super().on_headers_complete()
        self._in_body = True
        cycle, self.url = self.cycle, b""
        client = self._client()
        self._is_last = TOO_LONG in self._extensions
        if self._is_last:
            cycle.keep_alive = False
        if size > COVERED_BYTES or is_waiting or client is not None:
            self._unanswered.add(cycle, size, client)
            cycle.on_response = partial(self._answered, cycle)
        # a `RequestResponseCycle` uses no other methods of a transport
        end = self._end if self._is_last else self.transport.close
        cycle.transport = HeadFirst(self.transport, self.loop, end)  # type: ignore[assignment]
        if not self._wants_body:
            self._limits.answer(self)

    def _head_size(self) -> int:
        """Return the memory, in bytes, that the request head takes. The target is kept twice: as bytes, and decoded."""
        return 2 * len(self.url) + self._kept_bytes

    def _check_head(self) -> None:
        """Check the head of the request for errors that the parser and uvicorn accept. Raises `BadRequest` if a check
        fails."""
        self._wants_body = self.parser.get_method() not in (b"GET", b"HEAD")
        if TOO_LONG in self._extensions:
            return  # the Host field cannot be checked: it may be among the header fields that `on_header` dropped
        hosts = [number for number, (name, _) in enumerate(self.headers) if name == b"host"]
        absolute = None if self.url.startswith(b"/") else _ABSOLUTE.match(self.url)
        if hosts and absolute is not None:
            # an absolute-form target takes precedence over Host (RFC 9112 §3.2.2)
            self.headers[hosts[0]] = (b"host", absolute[1])
        if absolute is not None and not self.url.startswith(b"/", absolute.end()):
            # an empty path means "/" (RFC 9110 §4.2.3)
            self.url = absolute[0] + b"/" + self.url[absolute.end() :]
        fault = host_fault([self.headers[number][1] for number in hosts], self.parser.get_http_version())
        fault = self._framing_fault() or fault
        if fault is not None:
            self._fault = fault
            raise BadRequest
        lengths = [value for name, value in self.headers if name == b"content-length"]
        if any(exceeds(value, BODY_BYTES) for value in lengths):
            self._extensions[TOO_LONG] = "body"
        elif lengths:  # the parser has checked that this is a single number
            self._body_length = int(lengths[0].lstrip(b"0") or b"0")

    def _framing_fault(self) -> str | None:
        """Return a sentence that describes an error in the request line or the transfer coding. Returns None if both
        are valid."""
        if self._has_two_spaces:
            return "The request line has two spaces in a row."
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings and self.parser.get_http_version() in ("0.9", "1.0"):
            return "Transfer-Encoding is not allowed in an HTTP/1.0 request."  # RFC 9112 §6.1
        return None if codings in ([], [b"chunked"]) else "The request has an unknown transfer coding."

    def on_body(self, body: bytes) -> None:
        self._seen_bytes += len(body)
        self._body_bytes += len(body)
        if self._body_bytes > BODY_BYTES:
            self._limits.drop(self, "memory")
        elif self._wants_body and not self._is_last:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_first_line, self._in_body, self._line_bytes = True, False, 0
        self._line_end, self._has_two_spaces = b"", False
        self._request_done()
        self._is_over = self._is_last
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _client(self) -> str | None:
        """If the request came through a trusted proxy, count it for the client that the proxy names. Returns that
        client if the request was counted, otherwise None."""
        client = self._limits.forwarded(self._peer, self.headers) if self._is_proxy else None
        if client is not None and not self._limits.enter(client):
            self._limits.closed["client"] += 1
            self._extensions[CROWDED] = True
            return None
        return client

    def _answered(self, cycle: RequestResponseCycle) -> None:
        self._unanswered.remove(cycle)
        self.on_response_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing() or not self._is_idle():
            return
        if self._postponed is not None:
            self._refuse(self._postponed)
        else:
            self._limits.wait(self)
            if not self._unanswered.is_empty:
                self._unanswered.weigh(0)
            if self.cycle.body:
                self.cycle.body = bytearray()

    # Methods for time limits

    @property
    def is_awaiting_request(self) -> bool:
        """Whether the connection waits for the rest of a request, which the client must send within REQUEST_SECONDS."""
        return self._request_timer is not None

    def _await_request(self) -> None:
        if self._is_over:
            return
        self._request_timer = self.loop.call_later(REQUEST_SECONDS, self._limits.drop, self, "late")
        if self._is_idle():
            self._limits.wait(self)

    def _request_done(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None
        if self._wants_body and not self._is_idle():
            self._limits.answer(self)

    def _is_idle(self) -> bool:
        return self.cycle is None or (self.cycle.response_complete and not self.pipeline)

    # The methods that `access/connections.py::Connection` declares

    def unsent_bytes(self) -> int:
        return unsent_bytes(self.transport)

    def drop(self) -> None:
        """Close the connection immediately."""
        self.transport.abort()

    def reset(self) -> None:
        """Close the connection immediately with RST."""
        reset(self.transport)

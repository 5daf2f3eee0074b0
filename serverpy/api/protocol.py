"""The HTTP protocol of a client connection. It extends ASGI: a response can cut its connection, and can register a
callback that the protocol calls when the client disconnects. `request_reader.py` limits what a client may send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from serverpy.api.head_first import unframe
from serverpy.api.request_reader import RequestReader

CUT = "serverpy.cut"
"""Key in `scope["extensions"]` of a function that cuts the connection in mid-body. After the call, the caller must not
send or await anything."""
LEFT = "serverpy.left"
"""Key in `scope["extensions"]` of a function that sets its argument as the callback, or removes the callback if the
argument is None. The protocol calls the callback once, when the client disconnects. A response that sets a callback
cannot read the body of the request."""
UNFRAMED = "serverpy.unframed"
"""Key in `scope["extensions"]` of an HTTP/1.0 request for a function that the response calls before a body of unknown
length. The function returns another function, which the response calls at the end of that body."""
UNSENT = "serverpy.unsent"
"""Key in `scope["extensions"]` of a function that returns the number of written bytes that the client has not received
yet. The function returns 0 if the operating system has accepted all of them."""

DRAIN = "serverpy.drain"
"""Key in `scope["extensions"]` of an asynchronous function that waits while the send buffer of the connection is full.
It does the same as sending a part of a body without bytes, but takes less CPU time, because it bypasses the
middleware."""


class StreamProtocol(RequestReader):
    """The HTTP protocol on one client connection."""

    _lost = False

    # uvicorn declares the same type for `transport`
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # One callback for each response: while one response closes, the response to the next request may have begun.
        self._on_left: dict[RequestResponseCycle, Callable[[], None]] = {}
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._lost = True
        self._call_all_on_left()

    def _abandon(self, cycle: RequestResponseCycle) -> None:
        super()._abandon(cycle)
        self._call_on_left(cycle)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        cycle = self.cycle
        self._extensions[CUT] = partial(self._cut, cycle)
        self._extensions[LEFT] = partial(self._set_on_left, cycle)
        self._extensions[UNSENT] = self.unsent_bytes
        self._extensions[DRAIN] = self.flow.drain
        if self._on_left:
            # uvicorn pauses reading of the connection while a pipelined request waits, and would not notice that the
            # client disconnects
            self.flow.resume_reading()
        if cycle.scope["http_version"] == "1.0":
            self._extensions[UNFRAMED] = partial(unframe, cycle, self.transport)

    def _set_on_left(self, cycle: RequestResponseCycle, left: Callable[[], None] | None) -> None:
        if left is None:
            self._on_left.pop(cycle, None)
            return
        self._on_left[cycle] = left
        self._wants_body = False
        # if reading stayed paused, the protocol would not notice that the client disconnects
        self.flow.resume_reading()
        if self._lost:
            self.loop.call_soon(self._call_on_left, cycle)

    def _call_all_on_left(self) -> None:
        for cycle in list(self._on_left):
            self._call_on_left(cycle)

    def _call_on_left(self, cycle: RequestResponseCycle) -> None:
        cycle.disconnected = True  # uvicorn sets this flag only for the last request of the connection
        left = self._on_left.pop(cycle, None)
        if left is not None:
            left()

    def _cut(self, cycle: RequestResponseCycle) -> None:
        """Cut the connection so that the client notices the missing bytes: the connection ends before the body's
        Content-Length or its final chunk, or is reset (`head_first.py::unframe`)."""
        cycle.disconnected = True  # without this flag, uvicorn would log that the response is incomplete
        self.transport.abort()

"""The answer that is a stream. Unlike starlette's, it owns its body: opens it, sends it, and closes it exactly once,
also when the client leaves, falls asleep or never was there; and a body that stops short cuts the connection.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from serverpy.api.problems import problem
from serverpy.api.protocol import CUT, LEFT, UNFRAMED
from serverpy.delivery import Stream
from serverpy.errors import ServerPYError
from serverpy.tasks import Stall

logger = logging.getLogger("serverpy.stream")

FLUSH: Message = {"type": "http.response.body", "body": b"", "more_body": True}
Head = tuple[int, dict[str, str]]
"""Status and headers."""


class StreamResponse(Response):
    """Opens a stream when it is sent. `head` gives status and headers for the open stream."""

    def __init__(
        self,
        opener: Callable[[], Awaitable[Stream]],
        head: Callable[[Stream], Head],
        *,
        stall_timeout: float,
        request_id: str,
    ) -> None:
        self.background = None
        self._opener = opener
        self._head = head
        self._stall_timeout = stall_timeout
        self._request_id = request_id
        self._sent_bytes = 0
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, but stop at once when the client leaves."""
        serving = asyncio.current_task()
        assert serving is not None
        left = False

        def leave() -> None:
            nonlocal left
            left = True
            serving.cancel()

        self._watch = scope["extensions"][LEFT]
        self._watch(leave)
        try:
            await self._serve(scope, receive, send)
        except asyncio.CancelledError:
            if not left or serving.uncancel() > 0:
                raise
        finally:
            self._watch(None)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open, send, close. Failures become a problem document, or cut the connection once the answer has begun."""
        begun, end, method = time.monotonic(), "left", "-"
        try:
            stream = await self._opener()
            method = stream.method
            try:
                await self._send(stream, scope, send)
                end = "complete"
            finally:
                self._watch(None)  # nothing interrupts the closing
                await stream.aclose()
        except ServerPYError as error:
            end = error.code
            if self._started:
                _cut(scope)
            else:
                await problem(error)(scope, receive, send)
        except TimeoutError:
            end = "stalled"
            _cut(scope)
        finally:
            seconds = time.monotonic() - begun
            logger.info("%s %s: %s, %d bytes in %.2f s", self._request_id, method, end, self._sent_bytes, seconds)

    async def _send(self, stream: Stream, scope: Scope, send: Send) -> None:
        """Raises what reading raises, what was lost meanwhile, and `TimeoutError` for a client that stopped reading."""
        status, headers = self._head(stream)
        end = _unframed(scope) if "Content-Length" not in headers else _nothing
        await send({"type": "http.response.start", "status": status, "headers": _encoded(headers)})
        self._started = True
        if scope["method"] != "HEAD":
            await self._send_body(stream, send)
        end()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_body(self, stream: Stream, send: Send) -> None:
        try:
            with Stall(self._stall_timeout) as stall:
                stream.when_lost(stall.expire)
                while chunk := await stream.read():
                    size = len(chunk)
                    stall.begin()
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    del chunk
                    # uvicorn waits for the client before it writes, not after: without this, the next chunk would be
                    # read while this one still waits in the transport.
                    await send(FLUSH)
                    stall.end()
                    self._sent_bytes += size
        except TimeoutError:
            if stream.loss is not None:
                raise stream.loss from None
            raise


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def _unframed(scope: Scope) -> Callable[[], None]:
    """Begin a body of unknown length as HTTP/1.0 has it, if the client speaks that; the call that ends it."""
    unframe: Callable[[], Callable[[], None]] | None = scope.get("extensions", {}).get(UNFRAMED)
    return _nothing if unframe is None else unframe()


def _nothing() -> None:
    pass


def _cut(scope: Scope) -> None:
    """End the connection in mid-body."""
    scope["extensions"][CUT]()

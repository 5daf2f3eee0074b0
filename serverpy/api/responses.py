"""The streaming response of `/stream`. Unlike Starlette's streaming response, this response owns its body: it opens,
sends and closes the body exactly once, even if the client disconnects, stops reading, or has disconnected before the
response starts. If a body ends too early, the response cuts the connection to the client.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from serverpy.access.key import Key
from serverpy.access.refusals import Refusals
from serverpy.api.problems import problem
from serverpy.api.protocol import CUT, DRAIN, LEFT, UNFRAMED, UNSENT
from serverpy.delivery import Stream
from serverpy.errors import Draining, ServerPYError
from serverpy.running import Record, Running
from serverpy.tasks import Stall, spawn

logger = logging.getLogger("serverpy.stream")

FLUSH: Message = {"type": "http.response.body", "body": b"", "more_body": True}
SPOIL_SECONDS = 1.0
StatusAndHeaders = tuple[int, dict[str, str]]


class StreamCut(Exception):
    """Exception that makes an ASGI server without `StreamProtocol` cut the connection in mid-body."""


class StreamResponse(Response):
    """A response that opens its stream only when the response is sent. It lists the stream in `running` until the
    stream's end. `head` returns the status and headers for the open stream, or raises a `ServerPYError`."""

    def __init__(
        self,
        open_stream: Callable[[Record], Awaitable[Stream]],
        head: Callable[[Stream], StatusAndHeaders],
        *,
        running: Running,
        request_id: str,
        stall_timeout: float,
        refusals: Refusals,
        key: Key | None = None,
    ) -> None:
        self.background = None
        self._open_stream = open_stream
        self._head = head
        self._running = running
        self._request_id = request_id
        self._stall_timeout = stall_timeout
        self._refusals = refusals
        self._key = key
        self._started = False
        self._ending = False
        """Whether the response is sending its last bytes or closing its stream; `stop` then must not interrupt it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response. Stops immediately if the client disconnects, or if the operator cancels the stream."""
        serving = asyncio.current_task()
        assert serving is not None
        stopped = False

        def stop(end: str) -> None:
            nonlocal stopped
            if not (stopped or self._ending):
                stopped, record.end = True, end
                serving.cancel()

        record = self._running.begin(self._request_id, _client(scope), stop, self._key)
        record.unsent_bytes = scope.get("extensions", {}).get(UNSENT, record.unsent_bytes)
        unwatch = _watch(scope, receive, lambda: stop("left"))
        try:
            await self._serve(record, scope, receive, send)
        except asyncio.CancelledError:
            if not stopped or serving.uncancel() > 0:
                record.end = "shutdown"
                if CUT not in scope.get("extensions", {}):
                    raise
            # When the time for draining ends, uvicorn cancels the streams that still run. If this method raised
            # CancelledError, uvicorn would log a traceback for each of them.
            if record.end == "left":
                pass
            elif self._started or CUT in scope.get("extensions", {}):
                await _cut(scope, send)
            else:
                await problem(Draining("This server is stopping. Try again later."))(scope, receive, send)
        except StreamCut:
            raise
        except Exception:
            record.end = "internal"
            if self._started:
                await _spoil(scope, send)
            else:
                record.status = 500  # `middleware.py::Checks` responds to the exception with 500
            raise
        finally:
            unwatch()
            self._running.remove(record)
            _log(record)

    async def _serve(self, record: Record, scope: Scope, receive: Receive, send: Send) -> None:
        """Open, send and close the stream. If an error occurs, send a problem document or, once the response has begun,
        cut the connection."""
        try:
            stream = await self._open_stream(record)
            try:
                status, headers = self._head(stream)
                has_body = scope["method"] != "HEAD" and status not in (302, 304)
                if not has_body:
                    # close the stream before the head is sent, because a slow client may delay the sending
                    await self._close(stream)
                await self._send(stream if has_body else None, status, headers, record, scope, send)
                record.end = "complete"
            finally:
                await self._close(stream)
        except ServerPYError as error:
            record.end = error.code
            self._refusals.count(error)
            if self._started:
                await _cut(scope, send)
            else:
                answer = problem(error)
                record.status = answer.status_code
                await answer(scope, receive, send)
        except TimeoutError:
            record.end = "stalled"
            await _cut(scope, send)

    async def _close(self, stream: Stream) -> None:
        self._ending = True
        await stream.aclose()

    async def _send(
        self, stream: Stream | None, status: int, headers: dict[str, str], record: Record, scope: Scope, send: Send
    ) -> None:
        """Send the head, and the body of `stream` if there is one. Raises the error of a failed read, the error with
        which the stream was lost between two reads, or `TimeoutError` if the client stops reading."""
        end = _unframed(scope) if stream is not None and "Content-Length" not in headers else _nothing
        record.status = status
        await send({"type": "http.response.start", "status": status, "headers": _encoded(headers)})
        self._started = True
        if stream is not None:
            drain = scope.get("extensions", {}).get(DRAIN) or functools.partial(send, FLUSH)
            await self._send_body(stream, record, send, drain)
        self._ending = True
        end()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_body(
        self, stream: Stream, record: Record, send: Send, drain: Callable[[], Awaitable[None]]
    ) -> None:
        try:
            with Stall(self._stall_timeout, record.unsent_bytes) as stall:
                stream.when_lost(stall.expire)
                while chunk := await stream.read():
                    size = len(chunk)
                    record.given_bytes += size
                    stall.begin()
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    del chunk
                    # uvicorn waits for a slow client before it writes, not after. Without this wait, the response would
                    # read the next chunk while the previous chunk still waits in the transport.
                    await drain()
                    stall.end()
                    record.sent_bytes += size
        except TimeoutError:
            if stream.loss is not None:
                raise stream.loss from None
            raise


def _client(scope: Scope) -> str:
    """Return the IP address of the client for the log, or "-" if it is unknown."""
    client = scope.get("client")
    return str(client[0]) if client else "-"


def _log(record: Record) -> None:
    """Log one line about a stream that has ended. The line shows the host and the extractor of the page instead of its
    URL, because a URL may be secret."""
    values = {
        "request": record.id,
        "client": record.client,
        "host": record.host or "-",
        "site": record.site or "-",
        "status": record.status or "-",
        "method": record.method or "-",
        "end": record.end,
        "bytes": record.sent_bytes,
        "seconds": round(record.seconds, 2),
    }
    logger.info("%s %s %s %s %s %s: %s, %d bytes in %.2f s", *values.values(), extra=values)


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def _unframed(scope: Scope) -> Callable[[], None]:
    """Make the server send a body of unknown length without chunked encoding if the client uses HTTP/1.0. Returns a
    function that the caller calls at the end of the body."""
    unframe: Callable[[], Callable[[], None]] | None = scope.get("extensions", {}).get(UNFRAMED)
    return _nothing if unframe is None else unframe()


def _nothing() -> None:
    pass


def _watch(scope: Scope, receive: Receive, left: Callable[[], None]) -> Callable[[], None]:
    """Call `left` when the client disconnects. Stops doing so when the caller calls the returned function. An ASGI
    server without `StreamProtocol` reports an `http.disconnect` message instead of calling `left`."""
    watch = scope.get("extensions", {}).get(LEFT)
    if watch is not None:
        watch(left)
        return lambda: watch(None)
    _note_other_server()
    task = spawn(_wait_for_disconnect(receive, left), name="watch the client")
    return lambda: _discard(task)


@functools.cache
def _note_other_server() -> None:
    """Log, once per process, that the ASGI server does not use `StreamProtocol` (see `docs/python-api.md`)."""
    logger.info(
        "this ASGI server does not use StreamProtocol, so ServerPY's handling of request heads, send buffers and "
        "HTTP/1.0 does not apply: see docs/python-api.md"
    )


def _discard(task: asyncio.Task[None]) -> None:
    task.cancel()


async def _wait_for_disconnect(receive: Receive, left: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    left()


async def _cut(scope: Scope, send: Send) -> None:
    """End the connection in mid-body, so that the client notices the missing bytes. Raises `StreamCut` if the ASGI
    server does not use `StreamProtocol`; that server then cuts the connection itself."""
    cut = scope.get("extensions", {}).get(CUT)
    if cut is not None:
        cut()
        return
    await _spoil(scope, send)
    raise StreamCut("the stream ended before its last byte, so the server must cut the connection")


async def _spoil(scope: Scope, send: Send) -> None:
    """Make the ASGI server treat the rest of the body as an error. Otherwise, in an application that mounts this one,
    middleware such as Starlette's BaseHTTPMiddleware would send the end of the body before it raises the exception of
    this application. Middleware passes a `pathsend` message on unchanged, and every ASGI server refuses that message in
    mid-body. The call has a timeout, because uvicorn first waits for a client that does not read."""
    if CUT not in scope.get("extensions", {}):
        with contextlib.suppress(Exception):
            async with asyncio.timeout(SPOIL_SECONDS):
                await send({"type": "http.response.pathsend", "path": ""})

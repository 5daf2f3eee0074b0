"""The two ends of a connection through the filtering proxy (egress). Once the ends are joined, each end sends the bytes
that the other end receives.

    client ──▶ ClientEnd ═ UpstreamEnd ◀── media server

No task runs while bytes flow. An end reads into one buffer that all ends of a loop share (an end uses the buffer only
between `get_buffer` and `buffer_updated`, and no other callback runs between these two), and passes a copy of the bytes
to the other end's transport. Until the kernel has taken all of these bytes, the first end does not read, so a tunnel
holds at most `CHUNK_BYTES` in each direction.

A tunnel ends in one of three ways:

- The client disconnects (the client's FIN arrives even if the client is not reading): the proxy closes the upstream
  connection at once.
- The media server ends the connection cleanly: the client gets the remaining bytes, and then a clean end of the
  connection.
- The upstream connection is cut: the proxy resets the client's connection (RST), so that a body without a stated length
  does not look complete.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from serverpy.net.heads import MAX_HEAD_BYTES, BadHead, answer, find_end, rewrite_response
from serverpy.net.response_head import MAX_INTERIM

if TYPE_CHECKING:
    from serverpy.net.proxies import AbsoluteForm

CHUNK_BYTES = 32 * 1024
LINGER_SECONDS = 2.0
_QUIET_TICKS = 2


class End(asyncio.BufferedProtocol):
    """Base class of the two ends of a tunnel. `buffer` is the receive buffer that all ends on the event loop share. The
    future `closed` is done when the socket is closed."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport
        self.congested = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=0)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def take(self, nbytes: int) -> bytes:
        """Return a copy of the received bytes, because a transport may keep its argument until the kernel has taken all
        bytes."""
        return bytes(self._buffer[:nbytes])

    def send(self, data: bytes) -> None:
        if data and not self.transport.is_closing():
            self.transport.write(data)

    @property
    def held_bytes(self) -> int:
        return 0 if self.closed.done() else self.transport.get_write_buffer_size()

    def cut(self) -> None:
        """Close the connection with RST, and drop the unsent bytes."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None and not self.transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class ClientEnd(End):
    """The end of a tunnel towards the proxy's client.

    `ClientEnd` collects the head of the connection's only request, and waits while the callback `opened` connects to
    the site. Then the `ClientEnd` joins an `UpstreamEnd`, or sends a response of the proxy itself. Before `join`, the
    `ClientEnd` holds at most MAX_HEAD_BYTES bytes (the head and the beginning of the body).
    """

    def __init__(
        self, buffer: memoryview, opened: Callable[[ClientEnd], None], lost: Callable[[ClientEnd], None]
    ) -> None:
        super().__init__(buffer)
        self._opened = opened
        self._lost = lost
        self._early = bytearray()
        self._head: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._linger: asyncio.TimerHandle | None = None
        self._answered = False
        self._moved = False
        self._quiet_ticks = 0
        self.upstream: UpstreamEnd | None = None

    async def head(self) -> bytes:
        """Wait for the request head and return it. Raises BadHead if the head is too long. If the client disconnects,
        the wait is cancelled."""
        return await self._head

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer if self.upstream or self._answered else self._buffer[: MAX_HEAD_BYTES - len(self._early)]

    def buffer_updated(self, nbytes: int) -> None:
        self._moved = True
        if self.upstream:
            self.upstream.send(self.take(nbytes))
        elif not self._answered:
            self._collect(self.take(nbytes))

    def _collect(self, data: bytes) -> None:
        searched = len(self._early)
        self._early += data
        full = len(self._early) == MAX_HEAD_BYTES
        if full:
            self.transport.pause_reading()
        if self._head.done():
            return
        if end := find_end(self._early, searched):
            head = bytes(self._early[:end])
            del self._early[:end]
            self._head.set_result(head)
        elif full:
            self._head.set_exception(BadHead("The request head is too large."))

    def join(self, upstream: UpstreamEnd, request: bytes | None) -> None:
        """Join this end and `upstream` into one tunnel. `request` is the head to send to the origin server. If
        `request` is None (CONNECT), the tunnel forwards all bytes in both directions without parsing them."""
        if upstream.transport.is_closing():
            self.respond(answer(502, "Bad Gateway", "upstream_failed", "The server closed the connection at once."))
            return
        self.upstream = upstream
        self._moved = True
        if request is None:
            self.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        upstream.send((request or b"") + self._early)
        self._early = bytearray()
        upstream.join(self, expecting_head=request is not None)
        if self.upstream and not upstream.congested:
            self.transport.resume_reading()

    def respond(self, data: bytes) -> None:
        """Send a response of the proxy itself, and close the connection. Before the close, read and drop the client's
        remaining bytes for LINGER_SECONDS: to close a socket with unread bytes would reset the connection, and the
        client would lose the response."""
        self._answered, self._early = True, bytearray()
        self._detach()
        if self.transport.is_closing():
            return
        self.transport.resume_reading()
        self.transport.write(data)
        try:
            self.transport.write_eof()
        except OSError:  # the client has already reset the connection
            self.transport.abort()
            return
        self._linger = asyncio.get_running_loop().call_later(LINGER_SECONDS, self.transport.abort)

    def finish(self) -> None:
        """Send the remaining bytes to the client, then close the connection. Called if the media server has ended its
        connection cleanly."""
        self._detach()
        self.transport.close()

    def tick(self) -> None:
        """End the tunnel if no byte has passed in the last two intervals. The proxy calls this method at the end of
        each interval. A client that reads slowly is not idle: a paused player may stay paused."""
        self._quiet_ticks = 0 if self._moved or self.congested else self._quiet_ticks + 1
        self._moved = False
        if self._quiet_ticks < _QUIET_TICKS or self.upstream is None:
            return
        if self.upstream.expects_head:
            self.respond(answer(504, "Gateway Timeout", "upstream_timeout", "The server did not respond in time."))
        else:
            self.cut()

    def moved(self) -> None:
        self._moved = True

    def pause_writing(self) -> None:
        self.congested = True
        if self.upstream:
            self.upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        self.congested = False
        if self.upstream:
            self.upstream.transport.resume_reading()

    def eof_received(self) -> None:
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._detach()
        if self._linger:
            self._linger.cancel()
        self._head.cancel()
        self.closed.set_result(None)
        self._lost(self)

    def _detach(self) -> None:
        if self.upstream:
            self.upstream.client = None
            self.upstream.transport.abort()
            self.upstream = None


class UpstreamEnd(End):
    """The end of a tunnel towards the media server. `client` is the joined end; it is None before `join`, and after the
    client has disconnected."""

    def __init__(self, buffer: memoryview) -> None:
        super().__init__(buffer)
        self.client: ClientEnd | None = None
        self.absolute_form: AbsoluteForm | None = None
        """How to write the request if the connection leads to an upstream proxy that takes requests in absolute form.
        None otherwise."""
        self._head: bytearray | None = None
        self._head_bytes = self._interim = 0
        self._early = b""

    def join(self, client: ClientEnd, *, expecting_head: bool) -> None:
        """Forward all bytes to `client`: the bytes that have already arrived, and all later bytes."""
        self.client = client
        self._head = bytearray() if expecting_head else None
        early, self._early = self._early, b""
        if early:
            self._forward(early)
            if not client.congested:
                self.transport.resume_reading()

    @property
    def expects_head(self) -> bool:
        return self._head is not None

    def buffer_updated(self, nbytes: int) -> None:
        if self.client is None:  # uvloop may read before the task that awaits the connection runs
            self._early += self.take(nbytes)
            self.transport.pause_reading()
            return
        self.client.moved()
        self._forward(self.take(nbytes))

    def _forward(self, data: bytes) -> None:
        if self._head is not None:
            self._collect(self._head, data)
        elif self.client:
            self.client.send(data)

    def _collect(self, collected: bytearray, data: bytes) -> None:
        """Collect the head of the response, and forward it when it is complete. Interim heads before it are forwarded
        one by one. The bytes after the final head are the body, which is forwarded without parsing."""
        searched = len(collected)
        collected += data if collected else data.lstrip(b"\r\n")
        try:
            while self._head is not None and (end := find_end(collected, searched)):
                self._pass_head(bytes(collected[:end]))
                del collected[:end]
                searched = 0
            if self._head_bytes + len(collected) > MAX_HEAD_BYTES and self._head is not None:
                raise BadHead("The response head is too large.")
        except BadHead as error:
            self._fail(str(error))
            return
        if self._head is None and self.client:
            self.client.send(bytes(collected))

    def _pass_head(self, head: bytes) -> None:
        self._head_bytes += len(head)
        status, rewritten = rewrite_response(head)
        if self.absolute_form is not None and status >= 200 and self.absolute_form.is_refusal(status):
            raise BadHead("The proxy of this server (PROXY) refused the connection to the site.")
        if self.client:
            self.client.send(rewritten)
        self._interim += 1
        if status >= 200:
            self._head = None
        elif self._interim > MAX_INTERIM:
            raise BadHead("The media server sent too many interim responses.")

    def _fail(self, message: str) -> None:
        if self.client:
            self.client.respond(answer(502, "Bad Gateway", "upstream_failed", message))

    def pause_writing(self) -> None:
        self.congested = True
        if self.client:
            self.client.transport.pause_reading()

    def resume_writing(self) -> None:
        self.congested = False
        if self.client:
            self.client.transport.resume_reading()

    def eof_received(self) -> None:
        if self._head is not None:
            self._fail("The site closed the connection without a response.")
        elif self.client:
            self.client.finish()

    def connection_lost(self, exc: Exception | None) -> None:
        client, self.client = self.client, None
        self.closed.set_result(None)
        if client is None:
            return
        client.upstream = None
        if self._head is not None:
            client.respond(
                answer(
                    502, "Bad Gateway", "upstream_failed", "The site closed the connection within the response head."
                )
            )
        else:
            client.cut()

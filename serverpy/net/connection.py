"""One socket to a media server, plain or TLS, which is read only on request: it never buffers more than one step.

asyncio and uvloop push up to 256 KiB per read, and their TLS holds 0.9 MB per connection. Here a connection reads the
socket straight into a buffer that all connections of a loop share (only within one callback), passes the bytes to an
HTTP parser at once, and pauses until the reader asks again. TLS is Python's `SSLObject` over two MemoryBIOs, for the
same bound: one step of ciphertext and one step of plaintext.
"""

from __future__ import annotations

import asyncio
import mmap
import ssl
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from serverpy.net.proxies import AbsoluteForm

SMALL_STEP = 32 * 1024
"""Bytes per read for a reader that has not proved to be fast."""
LARGE_STEP = 1024 * 1024
"""Bytes per read for a fast reader: fewer system calls and event loop iterations for each byte."""
CIPHER_STEP = 32 * 1024
"""Maximum number of bytes of ciphertext that are given to TLS at once, because a MemoryBIO never shrinks."""
TLS_RECORD = 16 * 1024
"""Maximum plaintext that one TLS record carries, in bytes (RFC 8446 §5.1)."""


class Receiver(Protocol):
    """Callbacks for the data that a connection receives. The callbacks run within the loop's own callback, so `data` is
    valid only during the call."""

    def data_received(self, data: memoryview) -> None: ...

    def connection_lost(self, error: Exception | None) -> None:
        """Handle the end of the stream. Called once. `error` is None if the stream ended cleanly (FIN; over TLS,
        close_notify before it)."""
        ...


class Buffers:
    """The receive buffers that all connections of one loop share. They are memory-mapped, so a page uses memory only
    after a write to it, and few pages do until a reader takes large steps."""

    def __init__(self) -> None:
        self.raw = memoryview(mmap.mmap(-1, LARGE_STEP))
        self.plain = memoryview(mmap.mmap(-1, LARGE_STEP + 3 * TLS_RECORD))  # has room for the rest of an earlier step


class Connection(asyncio.BufferedProtocol):
    """A connected socket. The caller passes it to `loop.create_connection`, owns it, and ends it with `abort`.

    Reading pauses after each step until `resume`. A connection without a receiver expects no data, and is aborted if
    the server sends any. `step` is the maximum number of bytes of one step, and may be changed at any time.
    """

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._receiver: Receiver | None = None
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._error: Exception | None = None
        self.step = SMALL_STEP
        self.closed = False
        self.absolute_form: AbsoluteForm | None = None
        """The form of requests if the connection ends at a proxy that takes them in absolute form, else None."""

    def attach(self, receiver: Receiver | None) -> None:
        self._receiver = receiver

    def write(self, data: bytes) -> None:
        """Send a request. Request heads and forms are small, so the transport may buffer them."""
        self._send(data)

    def resume(self) -> None:
        """Ask for the next step if reading is paused."""
        if self._paused and not self.closed and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close the connection at once, without reading or flushing. Idempotent."""
        if self._transport is not None:
            self._transport.abort()

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport does not subclass asyncio's

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffers.raw[: self.step]

    def buffer_updated(self, nbytes: int) -> None:
        if self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._received(self._buffers.raw[:nbytes])

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._transport = None
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.connection_lost(self._error or exc)

    def _received(self, data: memoryview) -> None:
        self._deliver(data)

    def _deliver(self, data: memoryview) -> None:
        if self._receiver is not None:
            self._receiver.data_received(data)
        else:
            self.abort()

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


class TlsConnection(Connection):
    """A connection over TLS. The caller first awaits `handshake`."""

    def __init__(self, buffers: Buffers, context: ssl.SSLContext, hostname: str) -> None:
        super().__init__(buffers)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        self._handshaking: asyncio.Future[None] | None = None
        self._ended_cleanly = False

    async def handshake(self) -> None:
        """Perform the TLS handshake. Raises `ssl.SSLError` if it fails, `ConnectionError` if the connection ends. The
        caller limits the time, and aborts the connection at the end of that time."""
        loop = asyncio.get_running_loop()
        while True:
            self._handshaking = loop.create_future()
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if self.closed:
                    raise ConnectionError("closed during the TLS handshake") from None
                self.resume()
                await self._handshaking
            else:
                self._handshaking = None
                self._flush()
                return

    def write(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def _received(self, data: memoryview) -> None:
        if self._handshaking is not None:
            self._incoming.write(data)
            if not self._handshaking.done():
                self._handshaking.set_result(None)
            return
        try:
            self._deliver_plain(data)
        except ssl.SSLError as error:
            self._error = error
            self.abort()

    def _deliver_plain(self, data: memoryview) -> None:
        """Decrypt one step into the shared buffer, and deliver the plaintext in one piece."""
        plain, filled = self._buffers.plain, 0
        for begin in range(0, len(data), CIPHER_STEP):
            self._incoming.write(data[begin : begin + CIPHER_STEP])
            filled = self._decrypt(plain, filled)
        self._flush()
        if filled:
            self._deliver(plain[:filled])
        elif not self._ended_cleanly:
            self.resume()  # only a partial record or a session ticket has arrived, so the reader still waits
        if self._ended_cleanly:
            self.abort()

    def _decrypt(self, plain: memoryview, filled: int) -> int:
        """Decrypt whole records into `plain`, after its first `filled` bytes. Returns how many bytes of `plain` are
        then filled."""
        read = self._tls.read
        try:
            while filled + TLS_RECORD <= len(plain):
                count = cast(int, read(TLS_RECORD, plain[filled:]))  # `read` with a buffer returns a count
                if count == 0:
                    self._ended_cleanly = True
                    break
                filled += count
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._ended_cleanly = True
        return filled

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended_cleanly and self._error is None and exc is None:
            self._error = ConnectionError("the TLS stream ended without close_notify")
        if self._handshaking is not None and not self._handshaking.done():
            self._handshaking.set_exception(self._error or ConnectionError("closed during the TLS handshake"))
        super().connection_lost(exc)

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._send(self._outgoing.read())
